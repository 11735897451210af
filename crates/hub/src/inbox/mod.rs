//! From the hub to one shard: messages in batches, across threads, within a bound.
//!
//! The hub never waits: what does not fit becomes a [`backlog`], and the shard catches up from the histories.
//! Messages keep the order of the hub's decisions: a shard receives that it has joined a channel before the
//! first event of that channel.

pub(super) mod backlog;
pub(super) mod message;
pub(super) mod shard_sender;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use self::message::Message;

/// The most messages that wait for one shard.
const MAX_MESSAGES: usize = 65_536;
/// The most bytes of frames that wait for one shard.
const MAX_BYTES: usize = 64 << 20;

/// The messages that wait for one shard. The hub fills it, the shard empties it.
#[derive(Debug)]
pub(super) struct Inbox {
    waiting: Mutex<InboxState>,
    arrived: Notify,
    // The number up to which a stream has everything once all messages put in before were delivered.
    settled: AtomicU64,
    max_messages: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct InboxState {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Inbox {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        let (waiting, arrived, settled) = (Mutex::default(), Notify::new(), AtomicU64::new(0));
        Self { waiting, arrived, settled, max_messages, max_bytes }
    }

    /// Moves all of `batch` in, or nothing if it does not fit; returns which. An empty inbox takes any
    /// batch.
    pub(super) fn put(&self, batch: &mut Vec<Message>) -> bool {
        let bytes: usize = batch.iter().map(Message::bytes).sum();
        let mut waiting = self.lock();
        let has_room = waiting.messages.is_empty()
            || waiting.messages.len() + batch.len() <= self.max_messages
                && waiting.bytes + bytes <= self.max_bytes;
        if has_room {
            waiting.bytes += bytes;
            waiting.messages.extend(batch.drain(..));
            drop(waiting);
            self.arrived.notify_one();
        }
        has_room
    }

    /// Everything up to `number` was put in, with all its copies. This does not wake the shard, which reads
    /// it when it needs it ([`Inbox::settled`]).
    pub(super) fn settle(&self, number: u64) {
        // Pairs with the load below: a shard that sees this number sees the messages put in before.
        self.settled.store(number, Ordering::Release);
    }

    /// The number up to which a stream has everything, on a shard that has delivered all messages that it
    /// took. `None` while more messages wait for it.
    pub(super) fn settled(&self) -> Option<u64> {
        let number = self.settled.load(Ordering::Acquire);
        self.lock().messages.is_empty().then_some(number)
    }

    /// Whether a backlog may be sent.
    pub(super) fn is_half_empty(&self) -> bool {
        let waiting = self.lock();
        waiting.messages.len() <= self.max_messages / 2 && waiting.bytes <= self.max_bytes / 2
    }

    /// Waits for messages, and swaps them with the empty `batch`. Cancel safe.
    pub(super) async fn take(&self, batch: &mut VecDeque<Message>) {
        debug_assert!(batch.is_empty());
        loop {
            {
                let mut waiting = self.lock();
                if !waiting.messages.is_empty() {
                    waiting.bytes = 0;
                    std::mem::swap(&mut waiting.messages, batch);
                    return;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Appends the messages to `batch`, without waiting.
    pub(super) fn take_now(&self, batch: &mut VecDeque<Message>) {
        let mut waiting = self.lock();
        waiting.bytes = 0;
        batch.append(&mut waiting.messages);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, InboxState> {
        self.waiting.lock().expect("nothing panics while it holds the lock")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio::time::Instant;

    use super::{Inbox, Message};
    use crate::fleet::name::EventName;
    use crate::subject::Subject;

    fn event(number: u64, bytes: usize) -> Message {
        let frame = crate::tests::frame(bytes);
        let (subject, received) = (Subject::of(0), Instant::now());
        let name = EventName::default();
        Message::Event { channel: 0, subject, number, name, entry: None, frame, received }
    }

    #[tokio::test]
    async fn a_batch_that_does_not_fit_is_left_to_the_hub() {
        let inbox = Inbox::new(4, 100);
        let mut batch = vec![event(1, 60)];
        assert!(inbox.put(&mut batch));
        assert!(batch.is_empty());
        batch.push(event(2, 60));
        assert!(!inbox.put(&mut batch), "too many bytes");
        assert_eq!(batch.len(), 1);

        let mut taken = VecDeque::new();
        inbox.take(&mut taken).await;
        assert_eq!(taken.len(), 1);
        assert!(inbox.put(&mut batch), "the inbox is empty");
        batch.extend((3..7).map(|number| event(number, 1)));
        assert!(!inbox.put(&mut batch), "too many messages");
    }

    #[tokio::test]
    async fn an_empty_inbox_takes_any_batch() {
        let inbox = Inbox::new(1, 1);
        assert!(inbox.put(&mut vec![event(1, 60), event(2, 60)]));
    }
}
