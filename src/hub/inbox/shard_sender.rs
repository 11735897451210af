//! The hub's side of the inboxes: a batch for each shard, and what is owed to one that is behind.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::hub::inbox::{ChannelIndex, Inbox, Message};

/// Messages that may wait for one shard.
const MAX_INBOX_MESSAGES: usize = 65_536;
/// Bytes of frames that may wait for one shard.
const MAX_INBOX_BYTES: usize = 64 << 20;

/// Up to where everything was handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::hub) struct SentUpTo {
    /// Of messages: another copy of the next one may follow.
    pub(in crate::hub) messages: u64,
    /// Of entries of logs, which come once. Never less.
    pub(in crate::hub) entries: u64,
}

impl SentUpTo {
    /// Everything up to `number` was handed over.
    pub(in crate::hub) fn reach(&mut self, number: u64) {
        self.messages = self.messages.max(number);
        self.entries = self.entries.max(number);
    }
}

/// The way to one shard.
#[derive(Debug)]
pub(in crate::hub) struct ShardSender {
    inbox: Arc<Inbox>,
    batch: Vec<Message>,
    handed: SentUpTo,
    behind: Option<Backlog>,
}

/// What is owed to a shard whose inbox was full.
#[derive(Debug, Default)]
pub(in crate::hub) struct Backlog {
    /// What was handed over already.
    pub(in crate::hub) handed: SentUpTo,
    /// What is no event is held back, each with its number: there is little of it, and it is needed.
    pub(in crate::hub) held: VecDeque<(u64, Message)>,
    /// The channels of events that gave way: they are in the histories, or lost to this shard.
    pub(in crate::hub) missed: BTreeSet<ChannelIndex>,
    /// Channels whose losses were told, and from where on they are complete.
    pub(in crate::hub) told: BTreeMap<ChannelIndex, u64>,
    /// Events of channels other than logs that gave way, less those that were handed over later.
    pub(in crate::hub) owed: u64,
}

impl ShardSender {
    pub(in crate::hub) fn new() -> Self {
        Self::with_inbox(Inbox::new(MAX_INBOX_MESSAGES, MAX_INBOX_BYTES))
    }

    fn with_inbox(inbox: Inbox) -> Self {
        Self {
            inbox: Arc::new(inbox),
            batch: Vec::new(),
            handed: SentUpTo::default(),
            behind: None,
        }
    }

    pub(in crate::hub) fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    /// Hands the batch over, which leads to `handed`. A shard that has no room for it falls behind.
    fn flush(&mut self, handed: SentUpTo) {
        if let Some(behind) = &mut self.behind {
            behind.hold(&mut self.batch);
        } else if self.batch.is_empty() || self.inbox.put(&mut self.batch) {
            self.handed_over(handed);
        } else {
            let mut behind = Backlog { handed: self.handed, ..Backlog::default() };
            behind.hold(&mut self.batch);
            self.behind = Some(behind);
        }
    }

    /// What is owed, once the shard has taken a good part of what it was handed.
    pub(in crate::hub) fn take_owed(&mut self) -> Option<Backlog> {
        if self.inbox.is_half_empty() { self.behind.take() } else { None }
    }

    /// Hands over a part of what was owed; `left` is what is owed still.
    pub(in crate::hub) fn catch_up(
        &mut self,
        mut part: Vec<Message>,
        handed: SentUpTo,
        left: Option<Backlog>,
    ) {
        let fits = self.inbox.put(&mut part);
        debug_assert!(fits, "it is half empty, and this is a quarter");
        self.handed_over(handed);
        self.behind = left;
    }

    fn handed_over(&mut self, handed: SentUpTo) {
        let before = std::mem::replace(&mut self.handed, handed);
        if before.messages != handed.messages {
            self.inbox.settle(handed.messages);
        }
    }

    /// Whether something is owed.
    fn is_behind(&self) -> bool {
        self.behind.is_some()
    }
}

impl Backlog {
    /// Bytes that are handed over together.
    pub(in crate::hub) const MAX_BYTES: usize = MAX_INBOX_BYTES / 4;
    /// Messages that are handed over together.
    pub(in crate::hub) const MAX_MESSAGES: usize = MAX_INBOX_MESSAGES / 4;

    fn hold(&mut self, batch: &mut Vec<Message>) {
        let mut number = self.held.back().map_or(self.handed.messages, |(number, _)| *number);
        for message in batch.drain(..) {
            number = message.number().unwrap_or(number).max(number);
            match message {
                Message::Event { channel, .. } => {
                    self.owed += 1;
                    self.missed.insert(channel);
                }
                Message::Entry { channel, .. } => {
                    self.missed.insert(channel);
                }
                other => self.held.push_back((number, other)),
            }
        }
    }
}

/// The ways to all shards.
#[derive(Debug)]
pub(in crate::hub) struct ShardSenders(Vec<ShardSender>);

impl ShardSenders {
    pub(in crate::hub) fn new(ports: Vec<ShardSender>) -> Self {
        Self(ports)
    }

    /// For one shard.
    pub(in crate::hub) fn tell(&mut self, shard: usize, message: Message) {
        self.0[shard].batch.push(message);
    }

    /// For every shard.
    pub(in crate::hub) fn tell_all(&mut self, message: &Message) {
        for port in &mut self.0 {
            port.batch.push(message.clone());
        }
    }

    /// For the shards whose bit is set.
    pub(in crate::hub) fn deal(&mut self, shards: u128, message: impl Fn() -> Message) {
        let mut left = shards;
        while left != 0 {
            self.0[left.trailing_zeros() as usize].batch.push(message());
            left &= left - 1;
        }
    }

    /// Whether something is owed to any shard.
    pub(in crate::hub) fn is_any_behind(&self) -> bool {
        self.0.iter().any(ShardSender::is_behind)
    }

    /// The way to each shard.
    pub(in crate::hub) fn iter_mut(&mut self) -> impl Iterator<Item = &mut ShardSender> {
        self.0.iter_mut()
    }

    /// A channel is closed: its number may soon be another's.
    pub(in crate::hub) fn forget(&mut self, channel: ChannelIndex) {
        for port in &mut self.0 {
            if let Some(behind) = &mut port.behind {
                behind.missed.remove(&channel);
                behind.told.remove(&channel);
            }
        }
    }

    /// Hands every batch over; they lead to `handed`.
    pub(in crate::hub) fn flush(&mut self, handed: SentUpTo) {
        for port in &mut self.0 {
            port.flush(handed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Inbox, Message, SentUpTo, ShardSender, ShardSenders};
    use crate::event::EntryId;

    #[tokio::test]
    async fn what_waits_is_seen_as_behind() {
        let mut ports = ShardSenders::new(vec![ShardSender::with_inbox(Inbox::new(1, 100))]);
        ports.tell_all(&Message::Lost);
        ports.flush(SentUpTo::default());
        ports.tell_all(&Message::Confirmed { channel: 0, number: 0, entry: EntryId::ZERO });
        ports.flush(SentUpTo::default());
        let behind = ports.0[0].behind.as_ref().expect("there is no room");
        assert_eq!(behind.held.len(), 1);
        assert!(ports.is_any_behind(), "nobody will hand over what waits");
    }
}
