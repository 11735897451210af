//! The hub's ends of the inboxes: a batch for each shard, and the backlog of one that is behind.

use std::sync::Arc;

use super::backlog::{Backlog, SentUpTo};
use super::message::Message;
use super::{Inbox, MAX_BYTES, MAX_MESSAGES};
use crate::subject::ChannelIndex;

/// Sends to one shard.
#[derive(Debug)]
pub(crate) struct ShardSender {
    inbox: Arc<Inbox>,
    batch: Vec<Message>,
    sent: SentUpTo,
    backlog: Option<Backlog>,
}

impl ShardSender {
    pub(crate) fn new() -> Self {
        Self::with_inbox(Inbox::new(MAX_MESSAGES, MAX_BYTES))
    }

    fn with_inbox(inbox: Inbox) -> Self {
        let (batch, sent) = (Vec::new(), SentUpTo::default());
        Self { inbox: Arc::new(inbox), batch, sent, backlog: None }
    }

    pub(crate) fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    /// Sends the batch. After it, the shard has everything up to `sent`. If it does not fit, the shard falls
    /// behind.
    fn flush(&mut self, sent: SentUpTo) {
        if let Some(backlog) = &mut self.backlog {
            backlog.hold(&mut self.batch);
        } else if self.batch.is_empty() || self.inbox.put(&mut self.batch) {
            self.note_sent(sent);
        } else {
            let mut backlog = Backlog::after(self.sent);
            backlog.hold(&mut self.batch);
            self.backlog = Some(backlog);
        }
    }

    /// Takes the backlog, if there is one and the shard has taken a good part of what it was sent.
    pub(crate) fn take_backlog(&mut self) -> Option<Backlog> {
        if self.inbox.is_half_empty() { self.backlog.take() } else { None }
    }

    /// Sends a part of the backlog; `rest` is what is left of it.
    pub(crate) fn catch_up(
        &mut self,
        mut part: Vec<Message>,
        sent: SentUpTo,
        rest: Option<Backlog>,
    ) {
        let fits = self.inbox.put(&mut part);
        debug_assert!(fits, "the inbox is half empty, and a part is a quarter of it");
        self.note_sent(sent);
        self.backlog = rest;
    }

    fn note_sent(&mut self, sent: SentUpTo) {
        let before = std::mem::replace(&mut self.sent, sent);
        if before.messages != sent.messages {
            self.inbox.settle(sent.messages);
        }
    }

    fn is_behind(&self) -> bool {
        self.backlog.is_some()
    }
}

/// Sends to all shards.
#[derive(Debug)]
pub(crate) struct ShardSenders(Vec<ShardSender>);

impl ShardSenders {
    pub(crate) fn new(senders: Vec<ShardSender>) -> Self {
        Self(senders)
    }

    /// Puts a message into the batch of one shard.
    pub(crate) fn send_to(&mut self, shard: usize, message: Message) {
        self.0[shard].batch.push(message);
    }

    /// Puts a message into every batch.
    pub(crate) fn send_to_all(&mut self, message: &Message) {
        for sender in &mut self.0 {
            sender.batch.push(message.clone());
        }
    }

    /// Puts a message into the batches of the shards whose bit is set.
    pub(crate) fn send(&mut self, shards: u128, message: impl Fn() -> Message) {
        let mut left = shards;
        while left != 0 {
            self.0[left.trailing_zeros() as usize].batch.push(message());
            left &= left - 1;
        }
    }

    /// Whether any shard has a backlog.
    pub(crate) fn is_any_behind(&self) -> bool {
        self.0.iter().any(ShardSender::is_behind)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut ShardSender> {
        self.0.iter_mut()
    }

    /// Forgets a channel that was closed: its number may soon be that of another.
    pub(crate) fn forget(&mut self, channel: ChannelIndex) {
        for backlog in self.0.iter_mut().filter_map(|sender| sender.backlog.as_mut()) {
            backlog.forget(channel);
        }
    }

    /// Sends every batch. After them, the shards have everything up to `sent`.
    pub(crate) fn flush(&mut self, sent: SentUpTo) {
        for sender in &mut self.0 {
            sender.flush(sent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Inbox, Message, SentUpTo, ShardSender, ShardSenders};
    use crate::EntryId;
    use crate::fleet::name::EventName;
    use crate::fleet::order_id::OrderId;
    use crate::gap::GapReason;

    #[tokio::test]
    async fn a_shard_with_a_full_inbox_has_a_backlog() {
        let mut senders = ShardSenders::new(vec![ShardSender::with_inbox(Inbox::new(1, 100))]);
        senders.send_to_all(&Message::SourceLost);
        senders.flush(SentUpTo::default());
        let (number, settled, entry) = (0, 0, EntryId::ZERO);
        let order = OrderId::PLAIN;
        senders.send_to_all(&Message::Confirmed { channel: 0, order, number, settled, entry });
        senders.flush(SentUpTo::default());
        let backlog = senders.0[0].backlog.as_ref().expect("the inbox is full");
        assert_eq!(backlog.held.len(), 1);
        assert!(senders.is_any_behind());
        // One for each message.
        for number in 1..=10 {
            let reason = GapReason::TooLarge;
            senders.send_to_all(&Message::Gap {
                reason,
                channels: [7].into(),
                number,
                name: EventName::default(),
                entry: None,
            });
            senders.flush(SentUpTo::default());
        }
        let backlog = senders.0[0].backlog.as_ref().expect("the inbox is full");
        assert_eq!((backlog.held.len(), backlog.channels.len()), (1, 1));
    }
}
