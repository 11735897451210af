//! What the hub sends, dealt to the subscribers of this core.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::Shard;
use super::local_channel::{LocalChannel, LocalSubscriber};
use crate::event::{EntryId, Topic};
use crate::hub::gap::GapReason;
use crate::hub::history::page::{Page, Replayed, ReplayedWhat};
use crate::hub::inbox::{ChannelIndex, LogPage, LogReplayed, LogReplayedWhat, Message};
use crate::hub::subject::Subject;
use crate::hub::subscriber::event_queue::QueuedFrame;
use crate::hub::subscriber::{CloseReason, Mailbox};
use crate::hub::timers::StreamKey;

/// What is dealt before the streams have their turn, in bytes: as much as one write takes.
const MAX_SLICE_BYTES: usize = 16 << 10;
/// What a message counts beside the text of its frame.
const MESSAGE_BYTES: usize = 64;

impl Shard {
    /// Deals the next messages, up to a slice.
    pub(super) fn deal(&self) {
        let now = Instant::now();
        let mut dealt = 0;
        while dealt < MAX_SLICE_BYTES {
            let Some(message) = self.0.batch.borrow_mut().pop_front() else { break };
            dealt += message.bytes() + MESSAGE_BYTES;
            if let Some(number) = message.settled() {
                self.0.number.set(number.max(self.0.number.get()));
            }
            match message {
                Message::Event { channel, subject, number, frame, received } => {
                    let subject = Some(subject);
                    self.fan_out(channel, &QueuedFrame { frame, received, number, subject }, now);
                }
                Message::Entry { channel, number, id, frame, received } => {
                    let subject = Some(Subject::of(channel));
                    let event = QueuedFrame { frame, received, number, subject };
                    self.fan_out_entry(channel, id, &event, now);
                }
                Message::Joined { topic, ticket, channel, is_confirmed, entry, .. } => {
                    let confirmed = is_confirmed.then_some(entry);
                    self.joined(&topic, ticket, channel, confirmed, now);
                }
                Message::Refused { topic, ticket } => self.refused(&topic, ticket, now),
                Message::Confirmed { channel, entry, .. } => {
                    if let Some(channel) = self.channel(channel) {
                        self.confirm(&channel, entry, now);
                    }
                }
                Message::Lost => self.lost(),
                Message::Replay { member, ticket, page, floors, number } => {
                    let Some(mailbox) = self.awaiting(member, ticket) else { continue };
                    let is_last = page.is_last;
                    self.replay(&mailbox, page, now);
                    self.replayed(&mailbox, is_last, number, floors, now);
                }
                Message::LogReplay { member, ticket, topics, page, number } => {
                    let Some(mailbox) = self.awaiting(member, ticket) else { continue };
                    let is_last = page.is_last;
                    self.replay_logs(&topics, &mailbox, page, now);
                    self.replayed(&mailbox, is_last, number, None, now);
                }
                Message::Gap { reason, channels, number } => {
                    self.tell_gap(reason, &channels, number, now);
                }
                Message::LogGap { reason, channel, entry, .. } => {
                    if let Some(channel) = self.channel(channel) {
                        self.tell_log_gap(reason, &channel, entry, now);
                    }
                }
            }
        }
    }

    fn channel(&self, index: ChannelIndex) -> Option<Rc<LocalChannel>> {
        self.0.by_index.borrow().get(&index).map(Rc::clone)
    }

    /// The innermost loop: one frame to every subscriber of its channel on this core.
    fn fan_out(&self, channel: ChannelIndex, event: &QueuedFrame, now: Instant) {
        let Some(channel) = self.channel(channel) else {
            return;
        };
        let (mut grown, mut dropped) = (0, 0);
        for LocalSubscriber { mailbox, .. } in &*channel.listeners.borrow() {
            let outcome = mailbox.offer(event.clone(), now);
            grown += outcome.grown;
            dropped += outcome.dropped;
            if outcome.is_closed {
                self.see_to_the_end_of(mailbox, now);
            }
        }
        self.count_offered(grown, dropped);
    }

    /// The same for an entry of a log.
    fn fan_out_entry(&self, channel: ChannelIndex, id: EntryId, event: &QueuedFrame, now: Instant) {
        let Some(channel) = self.channel(channel) else {
            return;
        };
        channel.newest.set(id);
        let (mut grown, mut dropped) = (0, 0);
        for listener in &*channel.listeners.borrow() {
            let mailbox = &listener.mailbox;
            let outcome = mailbox.offer_entry(listener.slot(), id, event, now);
            grown += outcome.grown;
            dropped += outcome.dropped;
            if outcome.is_closed {
                self.see_to_the_end_of(mailbox, now);
            }
        }
        self.count_offered(grown, dropped);
    }

    fn count_offered(&self, grown: isize, dropped: u64) {
        self.0.queued_bytes.set(self.0.queued_bytes.get().wrapping_add_signed(grown));
        if dropped > 0 {
            self.0.metrics.shared().events_dropped_by_overflow(dropped);
        }
    }

    fn joined(
        &self,
        topic: &Topic,
        ticket: u64,
        index: ChannelIndex,
        confirmed: Option<EntryId>,
        now: Instant,
    ) {
        let Some(channel) = self.awaited(topic, ticket) else {
            return;
        };
        channel.index.set(Some(index));
        self.0.by_index.borrow_mut().insert(index, Rc::clone(&channel));
        if let Some(entry) = confirmed {
            self.confirm(&channel, entry, now);
        }
    }

    fn refused(&self, topic: &Topic, ticket: u64, now: Instant) {
        let Some(channel) = self.awaited(topic, ticket) else {
            return;
        };
        self.0.channels.borrow_mut().remove(topic);
        for listener in &*channel.listeners.borrow() {
            listener.mailbox.send_away(CloseReason::Refused, now);
            self.see_to_the_end_of(&listener.mailbox, now);
        }
    }

    /// The channel that the answer with this ticket is for, if it is still wanted.
    fn awaited(&self, topic: &Topic, ticket: u64) -> Option<Rc<LocalChannel>> {
        let channels = self.0.channels.borrow();
        channels.get(topic).filter(|channel| channel.ticket == ticket).map(Rc::clone)
    }

    /// The source listens to it; of a log, it reads it from `entry` on.
    fn confirm(&self, channel: &LocalChannel, entry: EntryId, now: Instant) {
        channel.is_confirmed.set(true);
        channel.newest.set(entry);
        for listener in &*channel.listeners.borrow() {
            if listener.is_unconfirmed.replace(false) {
                let mailbox = &listener.mailbox;
                if channel.is_log() && !mailbox.is_replaying() {
                    mailbox.begin_log(listener.slot(), entry);
                }
                mailbox.unconfirmed.set(mailbox.unconfirmed.get() - 1);
                if mailbox.unconfirmed.get() == 0 && !mailbox.is_replaying() {
                    self.say_ready(mailbox, now);
                }
            }
        }
    }

    fn lost(&self) {
        for channel in self.0.channels.borrow().values().filter(|channel| !channel.is_log()) {
            channel.is_confirmed.set(false);
            for LocalSubscriber { is_unconfirmed, was_cut_off, .. } in &*channel.listeners.borrow()
            {
                was_cut_off.set(was_cut_off.get() || !is_unconfirmed.get());
            }
        }
    }

    /// Who waits for the answer with this ticket.
    fn awaiting(&self, member: StreamKey, ticket: u64) -> Option<Rc<Mailbox>> {
        self.member(member).filter(|mailbox| mailbox.awaits(ticket))
    }

    /// Gives a subscriber the piece of the past that it asked for.
    fn replay(&self, mailbox: &Mailbox, page: Page, now: Instant) {
        let before = mailbox.queued_bytes();
        for Replayed { number, what } in page.entries {
            match what {
                ReplayedWhat::Event { frame, subject, received } => {
                    let subject = Some(subject);
                    mailbox.replay(QueuedFrame { frame, received, number, subject }, now);
                }
                ReplayedWhat::Gap { reason, channels } => {
                    let channels: Vec<_> =
                        channels.into_iter().filter_map(|index| self.channel(index)).collect();
                    let names = channels.iter().map(|channel| channel.name());
                    mailbox.tell_gap(reason, names, self, number, now);
                }
            }
        }
        self.account(before, mailbox.queued_bytes());
    }

    /// The same of logs.
    fn replay_logs(&self, topics: &[Topic], mailbox: &Mailbox, page: LogPage, now: Instant) {
        let before = mailbox.queued_bytes();
        let names = || topics.iter().map(|topic| topic.subscription.name.as_str());
        mailbox.replay_from(&page.places);
        for LogReplayed { log, id, what } in page.entries {
            match what {
                LogReplayedWhat::Event { frame, received } => {
                    // It has no number: numbers are given to what is live.
                    let subject = Some(Subject::of_log(log));
                    let event = QueuedFrame { frame, received, number: 0, subject };
                    mailbox.replay_entry(log, id, &event, now);
                }
                LogReplayedWhat::Gap(reason @ GapReason::UnknownId) => {
                    mailbox.tell_log_gap(reason, (log, id), names(), self, now);
                }
                LogReplayedWhat::Gap(reason) => {
                    let name = names().skip(log).take(1);
                    mailbox.tell_log_gap(reason, (log, id), name, self, now);
                }
            }
        }
        self.account(before, mailbox.queued_bytes());
    }

    fn replayed(
        &self,
        mailbox: &Mailbox,
        is_last: bool,
        number: u64,
        floors: Option<Arc<[u64]>>,
        now: Instant,
    ) {
        if mailbox.replayed(is_last, number, floors, now) && mailbox.unconfirmed.get() == 0 {
            self.say_ready(mailbox, now);
        }
    }

    /// Tells those who listen to the log; what they do not have they ask for.
    fn tell_log_gap(
        &self,
        reason: GapReason,
        channel: &LocalChannel,
        entry: EntryId,
        now: Instant,
    ) {
        if reason != GapReason::Overload {
            channel.newest.set(entry);
        }
        for listener in &*channel.listeners.borrow() {
            let (mailbox, slot) = (&listener.mailbox, listener.slot());
            let place = mailbox.place_in(slot);
            match reason {
                _ if mailbox.is_closed() => {}
                // Only this shard has missed something: the source still has it.
                GapReason::Overload => {
                    if !mailbox.is_replaying() {
                        mailbox.rewind(now);
                    }
                }
                // Whoever has no place yet was promised nothing.
                _ if place.is_none() => {}
                GapReason::Reset => {
                    let name = std::iter::once(channel.name());
                    mailbox.tell_log_gap(reason, (slot, entry), name, self, now);
                    // What was asked for is of the log that is gone.
                    if mailbox.is_replaying() {
                        mailbox.rewind(now);
                    }
                }
                GapReason::RolledBack => {
                    // Whoever has not come so far does not miss what has vanished.
                    if place > Some(entry) {
                        let name = std::iter::once(channel.name());
                        mailbox.tell_log_gap(reason, (slot, entry), name, self, now);
                    }
                    if mailbox.is_replaying() {
                        mailbox.rewind(now);
                    }
                }
                // Whoever waits for its past will find the gap there.
                _ if mailbox.is_replaying() => {}
                _ => {
                    let name = std::iter::once(channel.name());
                    mailbox.tell_log_gap(reason, (slot, entry), name, self, now);
                }
            }
        }
    }

    /// Tells each subscriber once, with those of the channels that it listens to.
    fn tell_gap(&self, reason: GapReason, channels: &[ChannelIndex], number: u64, now: Instant) {
        let mut told: HashMap<*const Mailbox, (Rc<Mailbox>, Vec<Rc<LocalChannel>>)> =
            HashMap::new();
        for channel in channels.iter().filter_map(|&index| self.channel(index)) {
            for listener in &*channel.listeners.borrow() {
                // Whoever waits for its `ready` was promised nothing yet, and whoever waits for its
                // past will find the gap there.
                let is_concerned = match reason {
                    GapReason::RedisAway => listener.was_cut_off.replace(false),
                    _ => !listener.is_unconfirmed.get(),
                };
                let mailbox = &listener.mailbox;
                if is_concerned && !mailbox.is_replaying() && !mailbox.is_closed() {
                    told.entry(Rc::as_ptr(&listener.mailbox))
                        .or_insert_with(|| (Rc::clone(&listener.mailbox), Vec::new()))
                        .1
                        .push(Rc::clone(&channel));
                }
            }
        }
        for (mailbox, channels) in told.into_values() {
            let names = channels.iter().map(|channel| channel.name());
            mailbox.tell_gap(reason, names, self, number, now);
        }
    }
}
