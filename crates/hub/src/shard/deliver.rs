//! Delivers the hub's messages to the subscribers of this core.

use std::rc::Rc;

use tokio::time::Instant;

use super::Shard;
use super::local_channel::LocalChannel;
use crate::EntryId;
use crate::Topic;
use crate::history::page::{ReplayContent, ReplayRecord};
use crate::inbox::message::{Message, ReplayMessage};
use crate::mailbox::Mailbox;
use crate::mailbox::close_reason::CloseReason;
use crate::mailbox::event_queue::QueuedFrame;
use crate::subject::ChannelIndex;

/// What is delivered before the streams may write, in bytes: as much as one write takes.
const MAX_SLICE_BYTES: usize = 16 << 10;
/// What a message counts beside the text of its frame.
const MESSAGE_BYTES: usize = 64;

impl Shard {
    /// Delivers the next messages, up to a slice.
    pub(super) fn deliver(&self) {
        let now = Instant::now();
        let mut delivered = 0;
        while delivered < MAX_SLICE_BYTES {
            let Some(message) = self.0.batch.borrow_mut().pop_front() else { break };
            delivered += message.bytes() + MESSAGE_BYTES;
            if let Some(number) = message.settled() {
                self.0.number.set(number.max(self.0.number.get()));
            }
            match message {
                Message::Event { channel, subject, number, entry, frame, received } => {
                    let event = QueuedFrame { frame, received, number, subject: Some(subject) };
                    self.fan_out(channel, &event, entry, now);
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
                Message::SourceLost => self.note_source_lost(),
                Message::Replay(replay) => self.replay(*replay, now),
                Message::Gap { reason, channels, number, entry } => {
                    self.gap(reason, &channels, (number, entry), now);
                }
            }
        }
    }

    /// Delivers everything that has been received so far.
    pub(super) fn deliver_all(&self) {
        self.0.link.inbox.take_now(&mut self.0.batch.borrow_mut());
        while !self.0.batch.borrow().is_empty() {
            self.deliver();
        }
    }

    pub(super) fn channel(&self, index: ChannelIndex) -> Option<Rc<LocalChannel>> {
        self.0.by_index.borrow().get(&index).map(Rc::clone)
    }

    /// The innermost loop: offers an event to every subscriber of its channel on this core.
    fn fan_out(
        &self,
        channel: ChannelIndex,
        event: &QueuedFrame,
        entry: Option<EntryId>,
        now: Instant,
    ) {
        let Some(channel) = self.channel(channel) else {
            return;
        };
        if let Some(entry) = entry {
            channel.newest_entry.set(entry);
        }
        let (mut grown, mut dropped) = (0, 0);
        for subscriber in &*channel.subscribers.borrow() {
            let mailbox = &subscriber.stream.mailbox;
            let outcome = mailbox.offer(event, subscriber.log_entry(entry), now);
            grown += outcome.grown;
            dropped += outcome.dropped;
            if outcome.is_closed {
                self.visit_after_grace(mailbox, now);
            }
        }
        self.0.queued_bytes.set(self.0.queued_bytes.get().wrapping_add_signed(grown));
        if dropped > 0 {
            self.0.observer.events_dropped_by_overflow(dropped);
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
        let Some(channel) = self.requested(topic, ticket) else {
            return;
        };
        channel.index.set(Some(index));
        self.0.by_index.borrow_mut().insert(index, Rc::clone(&channel));
        if let Some(entry) = confirmed {
            self.confirm(&channel, entry, now);
        }
    }

    fn refused(&self, topic: &Topic, ticket: u64, now: Instant) {
        let Some(channel) = self.requested(topic, ticket) else {
            return;
        };
        self.0.channels.borrow_mut().remove(topic);
        for subscriber in &*channel.subscribers.borrow() {
            subscriber.stream.mailbox.end(CloseReason::Refused, now);
            self.visit_after_grace(&subscriber.stream.mailbox, now);
        }
    }

    /// The channel that was requested with this ticket, if it still has subscribers.
    fn requested(&self, topic: &Topic, ticket: u64) -> Option<Rc<LocalChannel>> {
        let channels = self.0.channels.borrow();
        channels.get(topic).filter(|channel| channel.ticket == ticket).map(Rc::clone)
    }

    /// The source sends the channel's events; of a log, those after `entry`.
    fn confirm(&self, channel: &LocalChannel, entry: EntryId, now: Instant) {
        channel.is_confirmed.set(true);
        channel.newest_entry.set(entry);
        for subscriber in &*channel.subscribers.borrow() {
            if subscriber.is_unconfirmed.replace(false) {
                let mailbox = &subscriber.stream.mailbox;
                mailbox.confirm(subscriber.log_entry(channel.entry()));
                if mailbox.is_ready() {
                    mailbox.ready(self.position(), now);
                }
            }
        }
    }

    fn note_source_lost(&self) {
        for channel in self.0.channels.borrow().values().filter(|channel| !channel.is_log()) {
            channel.is_confirmed.set(false);
            for subscriber in &*channel.subscribers.borrow() {
                let was_subscribed = !subscriber.is_unconfirmed.get();
                subscriber.was_cut_off.set(subscriber.was_cut_off.get() || was_subscribed);
            }
        }
    }

    /// Gives a stream the page of the past that it has requested.
    fn replay(&self, replay: ReplayMessage, now: Instant) {
        let ReplayMessage { stream, ticket, topics, page, number } = replay;
        let open = self.0.streams.get(stream).filter(|open| open.mailbox.awaits(ticket));
        let Some(open) = open else { return };
        let mailbox = &open.mailbox;
        let before = mailbox.queued_bytes();
        mailbox.begin_page(&page.start);
        for record in page.records {
            self.replay_record(mailbox, &topics, record, now);
        }
        self.account(before, mailbox.queued_bytes());
        mailbox.end_page(page.is_last, number, page.floors, now);
        if mailbox.is_ready() {
            mailbox.ready(self.position(), now);
        }
    }

    fn replay_record(
        &self,
        mailbox: &Mailbox,
        topics: &[Topic],
        record: ReplayRecord,
        now: Instant,
    ) {
        let ReplayRecord { number, entry, content } = record;
        match content {
            ReplayContent::Event { frame, subject, received } => {
                let event = QueuedFrame { frame, received, number, subject: Some(subject) };
                mailbox.replay(&event, entry, now);
            }
            ReplayContent::Gap { reason, channels } => {
                let name = |&channel: &usize| topics[channel].subscription.name.as_str();
                self.count_gap(reason);
                mailbox.gap(reason, (number, entry), channels.iter().map(name), now);
            }
        }
    }
}
