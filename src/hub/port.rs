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

    /// Hands the batch over. Where the shard is behind, events give way and are told as a gap when
    /// there is room again; all other messages wait, in order: there are few, and they are needed.
    fn flush(&mut self, number: u64, metrics: &Metrics) {
        if !self.missed.is_empty() {
            self.drop_events(metrics);
            self.batch.push(self.overload_gap(number));
        }
        if self.batch.is_empty() || self.inbox.put(&mut self.batch) {
            self.missed.clear();
            return;
        }
        if !self.missed.is_empty() {
            self.batch.pop();
        }
        self.drop_events(metrics);
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
        metrics.events_dropped_by_overload(dropped);
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

    /// Whether a shard is owed a gap.
    pub(super) fn is_any_behind(&self) -> bool {
        self.0.iter().any(|port| !port.missed.is_empty())
    }

    /// Hands every batch over; `number` is the position that a gap leads to.
    pub(super) fn flush(&mut self, number: u64, metrics: &Metrics) {
        for port in &mut self.0 {
            port.flush(number, metrics);
        }
    }
}
