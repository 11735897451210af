//! What the gateway holds of messages until they are in their logs, or delivered; and what is dropped if that is too much.

use std::cell::RefCell;
use std::rc::Rc;

use ssegate_hub::{ChannelName, GapReason};
use ssegate_record::{LogItem, RecordId};
use tokio::time::Instant;

use super::RecordBook;
use crate::source::redis::recorded::memory::{MemoryHolder, RecordHolding};

impl RecordBook {
    /// What is held of messages, in bytes.
    pub(in super::super) fn held_bytes(&self) -> usize {
        self.waiting_bytes + self.held_back_bytes
    }

    /// What all books of the server hold of messages, in bytes.
    pub(in super::super::super) fn held_by_all(&self) -> usize {
        self.memory.held_by_all()
    }

    /// What the book holds goes, too, where others need room.
    pub(in super::super) fn share_memory(book: &Rc<RefCell<Self>>) {
        let holder = Rc::downgrade(book);
        book.borrow().memory.held_by(holder);
    }

    /// If all books of the server hold more than they may, those channels lose something that hold the most.
    pub(super) fn keep_within_memory(&mut self, now: Instant) {
        self.note_held();
        if self.memory.all().is_over() {
            let memory = self.memory.all().clone();
            memory.relieve(self, now);
        }
    }

    pub(super) fn note_held(&mut self) {
        self.memory.set(self.held_bytes());
    }

    /// Drops what waits of a channel to be appended. Returns how many messages that were.
    fn overflow(&mut self, name: &ChannelName) -> usize {
        let mut dropped = 0;
        self.change(name, |channel| {
            let is_message =
                |(_, item): &&(RecordId, LogItem<_>)| matches!(item, LogItem::Message(_));
            dropped = channel.recorder.items().filter(is_message).count();
            channel.recorder.overflow();
            (channel.held, channel.is_dropped) = (0, true);
            channel.pace = Default::default();
        });
        self.unopened.insert(name.clone());
        self.metrics.recorded_dropped(dropped);
        dropped
    }

    /// Delivers what waits of a channel for older messages, without these.
    fn give_up_catching_up(&mut self, name: &ChannelName, now: Instant) {
        let catch_up = self.channels.get(name).and_then(|channel| channel.catch_up.as_ref());
        if let Some(until) = catch_up.map(|catch_up| catch_up.until) {
            self.miss(name, GapReason::Unrecorded, until);
            self.end_catch_up(name, now);
        }
    }

    /// How many items of a channel wait to be appended.
    #[cfg(test)]
    pub(in super::super::super) fn waiting_of(&self, name: &ChannelName) -> usize {
        self.channels.get(name).map_or(0, |channel| channel.recorder.len())
    }

    /// Whether the messages of a channel have names and are kept.
    #[cfg(test)]
    pub(in super::super::super) fn is_named(&self, name: &ChannelName) -> bool {
        self.channels.get(name).is_some_and(|channel| channel.recorder.is_open())
    }
}

impl MemoryHolder for RecordBook {
    fn holdings(&self) -> Vec<RecordHolding> {
        let mut holdings = Vec::new();
        for (channel, held) in &self.channels {
            let waiting = held.catch_up.as_ref().map_or(0, |catch_up| catch_up.bytes());
            for (bytes, is_delivery) in [(held.held, false), (waiting, true)] {
                if bytes > 0 {
                    holdings.push(RecordHolding { bytes, is_delivery, channel: channel.clone() });
                }
            }
        }
        holdings
    }

    fn let_go(&mut self, holding: &RecordHolding, now: Instant) -> usize {
        match holding.is_delivery {
            true => {
                self.give_up_catching_up(&holding.channel, now);
                0
            }
            false => self.overflow(&holding.channel),
        }
    }
}
