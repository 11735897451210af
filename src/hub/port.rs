//! The hub's side of the inboxes: a batch for each shard, and what is owed to one that is behind.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::inbox::{ChannelIndex, Inbox, Message};

/// Messages that may wait for one shard.
const MAX_INBOX_MESSAGES: usize = 65_536;
/// Bytes of frames that may wait for one shard.
const MAX_INBOX_BYTES: usize = 64 << 20;

/// Up to where everything was handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Handed {
    /// Of messages: another copy of the next one may follow.
    pub(super) messages: u64,
    /// Of entries of logs, which come once. Never less.
    pub(super) entries: u64,
}

impl Handed {
    /// Everything up to `number` was handed over.
    pub(super) fn reach(&mut self, number: u64) {
        self.messages = self.messages.max(number);
        self.entries = self.entries.max(number);
    }
}

/// The way to one shard.
#[derive(Debug)]
pub(super) struct Port {
    inbox: Arc<Inbox>,
    batch: Vec<Message>,
    handed: Handed,
    behind: Option<Behind>,
}

/// What is owed to a shard whose inbox was full.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// What was handed over already.
    pub(super) handed: Handed,
    /// What is no event is held back, each with its number: there is little of it, and it is needed.
    pub(super) held: VecDeque<(u64, Message)>,
    /// The channels of events that gave way: they are in the histories, or lost to this shard.
    pub(super) missed: BTreeSet<ChannelIndex>,
    /// Channels whose losses were told, and from where on they are complete.
    pub(super) told: BTreeMap<ChannelIndex, u64>,
    /// Events of channels other than logs that gave way, less those that were handed over later.
    pub(super) owed: u64,
}

impl Port {
    pub(super) fn new() -> Self {
        Self::with_inbox(Inbox::new(MAX_INBOX_MESSAGES, MAX_INBOX_BYTES))
    }

    fn with_inbox(inbox: Inbox) -> Self {
        Self { inbox: Arc::new(inbox), batch: Vec::new(), handed: Handed::default(), behind: None }
    }

    pub(super) fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    /// Hands the batch over, which leads to `handed`. A shard that has no room for it falls behind.
    fn flush(&mut self, handed: Handed) {
        if let Some(behind) = &mut self.behind {
            behind.hold(&mut self.batch);
        } else if self.batch.is_empty() || self.inbox.put(&mut self.batch) {
            self.handed_over(handed);
        } else {
            let mut behind = Behind { handed: self.handed, ..Behind::default() };
            behind.hold(&mut self.batch);
            self.behind = Some(behind);
        }
    }

    /// What is owed, once the shard has taken a good part of what it was handed.
    pub(super) fn take_owed(&mut self) -> Option<Behind> {
        if self.inbox.is_half_empty() { self.behind.take() } else { None }
    }

    /// Hands over a part of what was owed; `left` is what is owed still.
    pub(super) fn catch_up(
        &mut self,
        mut part: Vec<Message>,
        handed: Handed,
        left: Option<Behind>,
    ) {
        let fits = self.inbox.put(&mut part);
        debug_assert!(fits, "it is half empty, and this is a quarter");
        self.handed_over(handed);
        self.behind = left;
    }

    fn handed_over(&mut self, handed: Handed) {
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

impl Behind {
    /// Bytes that are handed over together.
    pub(super) const MAX_BYTES: usize = MAX_INBOX_BYTES / 4;
    /// Messages that are handed over together.
    pub(super) const MAX_MESSAGES: usize = MAX_INBOX_MESSAGES / 4;

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

    /// Whether something is owed to any shard.
    pub(super) fn is_any_behind(&self) -> bool {
        self.0.iter().any(Port::is_behind)
    }

    /// The way to each shard.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Port> {
        self.0.iter_mut()
    }

    /// A channel is closed: its number may soon be another's.
    pub(super) fn forget(&mut self, channel: ChannelIndex) {
        for port in &mut self.0 {
            if let Some(behind) = &mut port.behind {
                behind.missed.remove(&channel);
                behind.told.remove(&channel);
            }
        }
    }

    /// Hands every batch over; they lead to `handed`.
    pub(super) fn flush(&mut self, handed: Handed) {
        for port in &mut self.0 {
            port.flush(handed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Handed, Inbox, Message, Port, Ports};
    use crate::event::EntryId;

    #[tokio::test]
    async fn what_waits_is_seen_as_behind() {
        let mut ports = Ports::new(vec![Port::with_inbox(Inbox::new(1, 100))]);
        ports.tell_all(&Message::Lost);
        ports.flush(Handed::default());
        ports.tell_all(&Message::Confirmed { channel: 0, number: 0, entry: EntryId::ZERO });
        ports.flush(Handed::default());
        let behind = ports.0[0].behind.as_ref().expect("there is no room");
        assert_eq!(behind.held.len(), 1);
        assert!(ports.is_any_behind(), "nobody will hand over what waits");
    }
}
