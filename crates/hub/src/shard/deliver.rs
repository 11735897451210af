//! Delivers the hub's messages to the subscribers of this core.

use std::rc::Rc;

use tokio::time::Instant;

use super::Shard;
use super::local_channel::{LocalChannel, OpenStream};
use crate::EntryId;
use crate::Topic;
use crate::fleet::name::EventName;
use crate::fleet::order_id::OrderId;
use crate::history::page::{ReplayContent, ReplayRecord};
use crate::inbox::message::{ChannelStart, Message, ReplayMessage};
use crate::mailbox::Mailbox;
use crate::mailbox::close_reason::CloseReason;
use crate::mailbox::event_queue::QueuedFrame;
use crate::subject::ChannelIndex;

/// How many bytes are delivered before the streams may write: as much as one write takes.
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
                Message::Event { channel, subject, number, name, entry, frame, received } => {
                    let event = QueuedFrame { frame, received, number, subject: Some(subject) };
                    self.fan_out(channel, &event, (entry, name), now);
                }
                Message::Joined { topic, ticket, channel, confirmed, .. } => {
                    self.joined(&topic, ticket, channel, confirmed.as_deref(), now);
                }
                Message::Refused { topic, ticket } => self.refused(&topic, ticket, now),
                Message::Confirmed { channel, order, number, entry, .. } => {
                    if let Some(channel) = self.channel(channel) {
                        let newest = (0, EventName::default());
                        let start = ChannelStart { number, order, newest, entry };
                        self.confirm(&channel, &start, now);
                    }
                }
                Message::Mark(order, mark) => self.mark(order, mark, now),
                Message::OrderEnded(order) => self.end_order(order),
                Message::SourceLost => self.note_source_lost(),
                Message::ChannelsLost(channels) => {
                    channels
                        .iter()
                        .filter_map(|&index| self.channel(index))
                        .for_each(|channel| channel.lose());
                }
                Message::Ended { channel, .. } => self.channel_ended(channel, now),
                Message::Replay(replay) => self.replay(*replay, now),
                Message::Gap { reason, channels, number, name, entry } => {
                    self.gap(reason, &channels, (number, name, entry), now);
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
        (entry, name): (Option<EntryId>, EventName),
        now: Instant,
    ) {
        let Some(channel) = self.channel(channel) else {
            return;
        };
        channel.newest.set((event.number, name));
        if let Some(entry) = entry {
            channel.newest_entry.set(entry);
            self.0.observer.entry_delivered(entry.milliseconds);
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
        confirmed: Option<&ChannelStart>,
        now: Instant,
    ) {
        let Some(channel) = self.requested(topic, ticket) else {
            return;
        };
        channel.index.set(Some(index));
        self.0.by_index.borrow_mut().insert(index, Rc::clone(&channel));
        if let Some(confirmed) = confirmed {
            self.confirm(&channel, confirmed, now);
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

    /// The source sends the channel's events.
    fn confirm(
        &self,
        channel: &LocalChannel,
        &ChannelStart { number, order, newest, entry }: &ChannelStart,
        now: Instant,
    ) {
        channel.is_confirmed.set(true);
        channel.confirmed.set(number);
        channel.order.set(order);
        channel.newest.set(newest);
        // Before the first mark of an order, no channel is noted: that mark names all of them.
        let is_unnamed = self.newest_mark(order).is_some_and(|mark| mark.number < number);
        if let Some(index) = channel.index.get().filter(|_| is_unnamed && !channel.is_log()) {
            self.0.unnamed.borrow_mut().push(index);
        }
        channel.newest_entry.set(entry);
        for subscriber in &*channel.subscribers.borrow() {
            if subscriber.is_unconfirmed.replace(false) {
                let mailbox = &subscriber.stream.mailbox;
                mailbox.confirm(subscriber.log_entry(channel.entry()));
                if mailbox.is_ready() {
                    self.ready(&subscriber.stream, now);
                }
            }
        }
    }

    /// Sends a stream `ready`.
    pub(super) fn ready(&self, stream: &OpenStream, now: Instant) {
        let number = self.position();
        let place = |position| self.place(stream, position);
        let is_named = stream.mailbox.ready(number, place, now);
        if let (false, Some(key), true) = (is_named, stream.key(), self.has_mark_for(stream)) {
            self.note_without_place(stream, key);
        }
    }

    fn note_source_lost(&self) {
        self.end_order(OrderId::PLAIN);
        let channels = self.0.channels.borrow();
        // Logs are read on from where they were left, and sharded channels have connections of their own.
        let lost =
            channels.values().filter(|channel| !channel.is_log() && !channel.topic.is_sharded());
        lost.for_each(|channel| channel.lose());
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
            self.ready(&open, now);
        }
        self.end_if_over(&open, now);
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
                mailbox.note_missing_past();
                let name = |&channel: &usize| topics[channel].subscription.name.as_str();
                self.count_gap(reason);
                mailbox.gap(reason, (number, entry), None, channels.iter().map(name), now);
            }
            ReplayContent::UnknownPlace { reason, channels } => {
                mailbox.note_missing_past();
                let name = |&channel: &usize| topics[channel].subscription.name.as_str();
                self.count_gap(reason);
                mailbox.gap_without_id(reason, channels.iter().map(name), now);
            }
        }
    }
}
