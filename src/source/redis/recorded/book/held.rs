//! What the gateway holds of messages until they are in their logs, or delivered; and what is dropped if that is too much.

use ssegate_hub::ChannelName;
use ssegate_record::{LogItem, RecordId};
use tokio::time::Instant;

use super::RecordBook;

impl RecordBook {
    /// What is held of messages, in bytes.
    pub(in super::super) fn held_bytes(&self) -> usize {
        self.waiting_bytes + self.held_back_bytes
    }

    /// What all books of the server hold of messages, in bytes.
    pub(in super::super::super) fn held_by_all(&self) -> usize {
        self.memory.held_by_all()
    }

    /// Whether all books of the server hold more than they may.
    pub(super) fn is_full(&mut self) -> bool {
        self.note_held();
        self.memory.is_over()
    }

    pub(super) fn note_held(&mut self) {
        self.memory.set(self.held_bytes());
    }

    /// Drops what waits of a channel.
    pub(super) fn overflow(&mut self, name: &ChannelName, now: Instant) {
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
        if let Some(similar) = self.log.pass("overflow", now) {
            tracing::warn!(
                channel = name.as_str(),
                dropped,
                similar,
                "Redis records too slowly; messages of a channel will not be recorded"
            );
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
