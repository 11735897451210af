//! From the hub to one shard: batches, within a bound, across threads.
//!
//! The hub never waits here. What does not fit it keeps back, and the shard is told later what it
//! missed. The order of messages is the order of the hub's decisions: that a shard has joined a
//! channel stands before the first event that it gets of it.

pub(super) mod shard_sender;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::event::{EntryId, Topic};
use crate::hub::gap::GapReason;
use crate::hub::history::page::Page;
use crate::hub::subject::Subject;
use crate::hub::timers::StreamKey;
use crate::sse::frame::Frame;

/// The number by which the hub and its shards speak of a channel. A number is used again only
/// after every shard has left the channel.
pub(in crate::hub) type ChannelIndex = u32;

/// What the hub tells a shard.
#[derive(Clone, Debug)]
pub(in crate::hub) enum Message {
    /// An event on a channel.
    Event { channel: ChannelIndex, subject: Subject, number: u64, frame: Frame, received: Instant },
    /// An entry of a log.
    Entry { channel: ChannelIndex, number: u64, id: EntryId, frame: Frame, received: Instant },
    /// The shard is now dealt the events of this channel, up to `number` it has all that it can have;
    /// of a log, the entries after `entry`.
    Joined {
        topic: Topic,
        ticket: u64,
        channel: ChannelIndex,
        is_confirmed: bool,
        number: u64,
        entry: EntryId,
    },
    /// No more channels can be followed.
    Refused { topic: Topic, ticket: u64 },
    /// The source confirms that it listens; of a log, from `entry` on.
    Confirmed { channel: ChannelIndex, number: u64, entry: EntryId },
    /// The source has lost its connection: nothing is confirmed any more, but logs are: nothing of
    /// them will be missing.
    Lost,
    /// A piece of the past that a subscriber of the shard asked for. What the hub deals from here on
    /// comes after `number`. The next piece begins, for each channel, at its floor or behind it.
    Replay { member: StreamKey, ticket: u64, page: Page, floors: Option<Arc<[u64]>>, number: u64 },
    /// The same of logs.
    LogReplay { member: StreamKey, ticket: u64, topics: Arc<[Topic]>, page: LogPage, number: u64 },
    /// Something may be missing on these channels, up to `number`.
    Gap { reason: GapReason, channels: Arc<[ChannelIndex]>, number: u64 },
    /// Something may be missing on this log, up to `entry`. After a reset that is an entry of
    /// another log than the one before.
    LogGap { reason: GapReason, channel: ChannelIndex, entry: EntryId, number: u64 },
}

/// A piece of a replay of logs.
#[derive(Clone, Debug)]
pub(in crate::hub) struct LogPage {
    /// Where the replay stands before it, in each log.
    pub(in crate::hub) places: Box<[Option<EntryId>]>,
    pub(in crate::hub) entries: Vec<LogReplayed>,
    /// Whether nothing is left after it.
    pub(in crate::hub) is_last: bool,
}

/// An entry of such a page.
#[derive(Clone, Debug)]
pub(in crate::hub) struct LogReplayed {
    /// In which of the logs.
    pub(in crate::hub) log: usize,
    pub(in crate::hub) id: EntryId,
    pub(in crate::hub) what: LogReplayedWhat,
}

#[derive(Clone, Debug)]
pub(in crate::hub) enum LogReplayedWhat {
    Event { frame: Frame, received: Instant },
    Gap(GapReason),
}

impl Message {
    pub(in crate::hub) fn bytes(&self) -> usize {
        match self {
            Self::Event { frame, .. } | Self::Entry { frame, .. } => frame.len(),
            // Bounded by the subscriber that asked: it asks again when it has written this.
            _ => 0,
        }
    }

    /// The position that it leads to, where it leads anywhere.
    pub(in crate::hub) fn number(&self) -> Option<u64> {
        match self {
            Self::Event { number, .. }
            | Self::Entry { number, .. }
            | Self::Joined { number, .. }
            | Self::Confirmed { number, .. }
            | Self::Replay { number, .. }
            | Self::LogReplay { number, .. }
            | Self::Gap { number, .. }
            | Self::LogGap { number, .. } => Some(*number),
            Self::Refused { .. } | Self::Lost => None,
        }
    }

    /// The position that a stream can be told once this was dealt. Logs have positions of their own.
    pub(in crate::hub) fn settled(&self) -> Option<u64> {
        match self {
            // Another copy of the message may follow.
            Self::Event { number, .. } => Some(number - 1),
            Self::Joined { number, .. }
            | Self::Confirmed { number, .. }
            | Self::Replay { number, .. }
            | Self::Gap { number, .. } => Some(*number),
            Self::Entry { .. } | Self::LogReplay { .. } | Self::LogGap { .. } => None,
            Self::Refused { .. } | Self::Lost => None,
        }
    }
}

/// Both ends hold it: the hub fills, the shard empties.
#[derive(Debug)]
pub(in crate::hub) struct Inbox {
    waiting: Mutex<InboxState>,
    arrived: Notify,
    // The position that a stream can be told once everything that was put in before was dealt.
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
    pub(in crate::hub) fn new(max_messages: usize, max_bytes: usize) -> Self {
        let (waiting, arrived, settled) = (Mutex::default(), Notify::new(), AtomicU64::new(0));
        Self { waiting, arrived, settled, max_messages, max_bytes }
    }

    /// Moves all of `batch` in, or nothing of it where it does not fit; answers which.
    pub(in crate::hub) fn put(&self, batch: &mut Vec<Message>) -> bool {
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

    /// Everything up to `number` was put in, with all its copies. The shard is not woken for that: it
    /// asks when it needs to know ([`Inbox::settled`]).
    pub(in crate::hub) fn settle(&self, number: u64) {
        // With the load below: who sees this number sees the messages that were put in before.
        self.settled.store(number, Ordering::Release);
    }

    /// The position that the shard stands at which has dealt all that it took; `None` where more
    /// waits for it.
    pub(in crate::hub) fn settled(&self) -> Option<u64> {
        let number = self.settled.load(Ordering::Acquire);
        self.lock().messages.is_empty().then_some(number)
    }

    /// Whether a good part of what had to wait has been taken.
    pub(in crate::hub) fn is_half_empty(&self) -> bool {
        let waiting = self.lock();
        waiting.messages.len() <= self.max_messages / 2 && waiting.bytes <= self.max_bytes / 2
    }

    /// Waits for messages, and swaps them with the empty `batch`. Cancel safe.
    pub(in crate::hub) async fn take(&self, batch: &mut VecDeque<Message>) {
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

    /// Adds what waits to `batch`, without waiting for more.
    pub(in crate::hub) fn take_now(&self, batch: &mut VecDeque<Message>) {
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

    use super::{Inbox, Message, Subject};

    fn event(number: u64, bytes: usize) -> Message {
        let frame = crate::hub::tests::frame(bytes);
        let (subject, received) = (Subject::of(0), Instant::now());
        Message::Event { channel: 0, subject, number, frame, received }
    }

    #[tokio::test]
    async fn a_batch_that_does_not_fit_stays_with_the_hub() {
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
        assert!(inbox.put(&mut batch), "there is room again");
        batch.extend((3..7).map(|number| event(number, 1)));
        assert!(!inbox.put(&mut batch), "too many messages");
    }

    #[tokio::test]
    async fn an_empty_inbox_takes_any_batch() {
        let inbox = Inbox::new(1, 1);
        assert!(inbox.put(&mut vec![event(1, 60), event(2, 60)]));
    }
}
