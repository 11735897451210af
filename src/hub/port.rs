//! The hub's side of the inboxes: a batch for each shard, and what a full inbox has cost it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::gap::GapReason;
use super::inbox::{ChannelIndex, Inbox, Message};
use crate::metrics::Metrics;

/// Messages that may wait for one shard.
const MAX_INBOX_MESSAGES: usize = 65_536;
/// Bytes of frames that may wait for one shard.
const MAX_INBOX_BYTES: usize = 64 << 20;

/// The way to one shard.
#[derive(Debug)]
pub(super) struct Port {
    inbox: Arc<Inbox>,
    batch: Vec<Message>,
    // The channels of events that found the inbox full: a gap is owed for them.
    missed: BTreeSet<ChannelIndex>,
}

impl Port {
    pub(super) fn new() -> Self {
        Self::with_inbox(Inbox::new(MAX_INBOX_MESSAGES, MAX_INBOX_BYTES))
    }

    fn with_inbox(inbox: Inbox) -> Self {
        Self { inbox: Arc::new(inbox), batch: Vec::new(), missed: BTreeSet::new() }
    }

    pub(super) fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    /// Hands the batch over. Where the shard is behind, events give way and are told as one gap when
    /// it has caught up a good part; all other messages wait, in order: there are few, and they are
    /// needed.
    fn flush(&mut self, number: u64, metrics: &Metrics) {
        if !self.missed.is_empty() {
            self.drop_events(metrics);
            if self.inbox.is_half_empty() {
                self.batch.push(self.overload_gap(number));
                self.missed.clear();
            }
        }
        if !self.batch.is_empty() && !self.inbox.put(&mut self.batch) {
            self.drop_events(metrics);
        }
    }

    /// Whether something waits here, or a gap is owed.
    fn is_behind(&self) -> bool {
        !self.batch.is_empty() || !self.missed.is_empty()
    }

    fn overload_gap(&self, number: u64) -> Message {
        let channels = self.missed.iter().copied().collect();
        Message::Gap { reason: GapReason::Overload, channels, number }
    }

    fn drop_events(&mut self, metrics: &Metrics) {
        let mut dropped = 0;
        self.batch.retain(|message| {
            let Message::Event { channel, .. } = message else {
                return true;
            };
            self.missed.insert(*channel);
            dropped += 1;
            false
        });
        if dropped > 0 {
            metrics.events_dropped_by_overload(dropped);
        }
    }
}

/// The ways to all shards.
#[derive(Debug)]
pub(super) struct Ports(Vec<Port>);

impl Ports {
    pub(super) fn new(ports: Vec<Port>) -> Self {
        Self(ports)
    }

    /// For one shard.
    pub(super) fn tell(&mut self, shard: usize, message: Message) {
        self.0[shard].batch.push(message);
    }

    /// For every shard.
    pub(super) fn tell_all(&mut self, message: &Message) {
        for port in &mut self.0 {
            port.batch.push(message.clone());
        }
    }

    /// For the shards whose bit is set.
    pub(super) fn deal(&mut self, shards: u128, message: impl Fn() -> Message) {
        let mut left = shards;
        while left != 0 {
            self.0[left.trailing_zeros() as usize].batch.push(message());
            left &= left - 1;
        }
    }

    /// Whether something waits for a shard that has no room.
    pub(super) fn is_any_behind(&self) -> bool {
        self.0.iter().any(Port::is_behind)
    }

    /// A channel is closed: its number may soon be another's.
    pub(super) fn forget(&mut self, channel: ChannelIndex) {
        for port in &mut self.0 {
            port.missed.remove(&channel);
        }
    }

    /// Hands every batch over; `number` is the position that a gap leads to.
    pub(super) fn flush(&mut self, number: u64, metrics: &Metrics) {
        for port in &mut self.0 {
            port.flush(number, metrics);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Inbox, Message, Port, Ports};
    use crate::metrics::Metrics;

    #[tokio::test]
    async fn what_waits_is_seen_as_behind() {
        let metrics = Metrics::new().expect("metrics");
        let mut ports = Ports::new(vec![Port::with_inbox(Inbox::new(1, 100))]);
        ports.tell_all(&Message::Lost);
        ports.flush(0, &metrics);
        ports.tell_all(&Message::Confirmed { channel: 0, number: 0 });
        ports.flush(0, &metrics);
        assert!(!ports.0[0].batch.is_empty());
        assert!(ports.is_any_behind(), "nobody will hand over what waits");
    }
}
