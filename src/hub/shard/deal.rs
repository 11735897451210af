//! What the hub sends, dealt to the subscribers of this core.

use std::collections::HashMap;
use std::rc::Rc;

use tokio::time::Instant;

use super::Shard;
use super::crowd::{Channel, Listener};
use crate::event::Topic;
use crate::hub::gap::GapReason;
use crate::hub::history::{Page, Replayed, ReplayedWhat};
use crate::hub::inbox::{ChannelIndex, Message};
use crate::hub::queue::Queued;
use crate::hub::rounds::MemberKey;
use crate::hub::subscriber::{CloseReason, Mailbox};

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
            match message {
                Message::Event { channel, number, frame, received } => {
                    self.0.number.set(number);
                    self.fan_out(channel, &Queued { frame, number: Some(number), received }, now);
                }
                Message::Joined { topic, ticket, channel, is_confirmed, number } => {
                    self.0.number.set(number);
                    self.joined(&topic, ticket, channel, is_confirmed, now);
                }
                Message::Refused { topic, ticket } => self.refused(&topic, ticket, now),
                Message::Confirmed { channel, number } => {
                    self.0.number.set(number);
                    if let Some(channel) = self.channel(channel) {
                        self.confirm(&channel, now);
                    }
                }
                Message::Lost => self.lost(),
                Message::Replay { member, page, number } => {
                    self.0.number.set(number);
                    self.replay(member, page, number, now);
                }
                Message::Gap { reason, channels, number } => {
                    self.0.number.set(number);
                    self.tell_gap(reason, &channels, number, now);
                }
            }
        }
    }

    fn channel(&self, index: ChannelIndex) -> Option<Rc<Channel>> {
        self.0.by_index.borrow().get(&index).map(Rc::clone)
    }

    /// The innermost loop: one frame to every subscriber of its channel on this core.
    fn fan_out(&self, channel: ChannelIndex, event: &Queued, now: Instant) {
        let Some(channel) = self.channel(channel) else {
            return;
        };
        let (mut grown, mut dropped) = (0, 0);
        for Listener { mailbox, .. } in &*channel.listeners.borrow() {
            let outcome = mailbox.offer(event.clone(), now);
            grown += outcome.grown;
            dropped += outcome.dropped;
            if outcome.is_closed {
                self.see_to_the_end_of(mailbox, now);
            }
        }
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
        is_confirmed: bool,
        now: Instant,
    ) {
        let Some(channel) = self.awaited(topic, ticket) else {
            return;
        };
        channel.index.set(Some(index));
        self.0.by_index.borrow_mut().insert(index, Rc::clone(&channel));
        if is_confirmed {
            self.confirm(&channel, now);
        }
    }

    fn refused(&self, topic: &Topic, ticket: u64, now: Instant) {
        let Some(channel) = self.awaited(topic, ticket) else {
            return;
        };
        self.0.channels.borrow_mut().remove(topic);
        for listener in &*channel.listeners.borrow() {
            listener.mailbox.send_away(CloseReason::Refused, None, now);
            self.see_to_the_end_of(&listener.mailbox, now);
        }
    }

    /// The channel that the answer with this ticket is for, if it is still wanted.
    fn awaited(&self, topic: &Topic, ticket: u64) -> Option<Rc<Channel>> {
        let channels = self.0.channels.borrow();
        channels.get(topic).filter(|channel| channel.ticket == ticket).map(Rc::clone)
    }

    fn confirm(&self, channel: &Channel, now: Instant) {
        channel.is_confirmed.set(true);
        for Listener { mailbox, is_unconfirmed, .. } in &*channel.listeners.borrow() {
            if is_unconfirmed.replace(false) {
                mailbox.unconfirmed.set(mailbox.unconfirmed.get() - 1);
                if mailbox.unconfirmed.get() == 0 && !mailbox.is_replaying() {
                    self.say_ready(mailbox, now);
                }
            }
        }
    }

    fn lost(&self) {
        for channel in self.0.channels.borrow().values() {
            channel.is_confirmed.set(false);
            for Listener { is_unconfirmed, was_cut_off, .. } in &*channel.listeners.borrow() {
                was_cut_off.set(was_cut_off.get() || !is_unconfirmed.get());
            }
        }
    }

    /// Gives a subscriber the piece of the past that it asked for.
    fn replay(&self, member: MemberKey, page: Page, number: u64, now: Instant) {
        let Some(mailbox) = self.member(member) else {
            return;
        };
        let before = mailbox.queued_bytes();
        let is_last = page.is_last;
        for Replayed { number, what } in page.entries {
            match what {
                ReplayedWhat::Event { frame, received } => {
                    mailbox.replay(Queued { frame, number: Some(number), received }, now);
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
        if mailbox.replayed(is_last, number) && mailbox.unconfirmed.get() == 0 {
            self.say_ready(&mailbox, now);
        }
    }

    /// Tells each subscriber once, with those of the channels that it listens to.
    fn tell_gap(&self, reason: GapReason, channels: &[ChannelIndex], number: u64, now: Instant) {
        let mut told: HashMap<*const Mailbox, (Rc<Mailbox>, Vec<Rc<Channel>>)> = HashMap::new();
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
