//! What the hub requests of its sources: subscriptions to follow, and parts of logs to read again.

use ssegate_format::Format;
use ssegate_sse::Event;

use super::coalescing_queue::CoalescingQueue;
use super::shard_request::StreamAddress;
use crate::Topic;
use crate::gap::GapReason;
use crate::{ChannelName, EntryId, Ids, Subscription};

/// Which source the events of a channel come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Messages that are sent to subscribers once: Redis pub/sub, the embedded bus.
    PubSub,
    /// The same from the shards of a server: Redis sharded pub/sub. The name begins with [`ChannelName::SHARDED`].
    Sharded,
    /// Logs, whose entries can be read again: Redis Streams.
    Logs,
    /// Messages that gateways write to logs: recorded channels.
    Recorded,
    /// The same from the shards of a server: the name begins with [`ChannelName::SHARDED`].
    ShardedRecorded,
}

/// What the hub requests for one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceRequest {
    /// Send its events: it has a subscriber.
    Follow,
    /// Send no more: it has had no subscriber for as long as it lingers.
    Leave,
}

/// A request to read a part of a log again.
#[derive(Clone, Debug)]
pub struct LogRead {
    /// Which log.
    pub log: ChannelName,
    /// How its entries are decoded.
    pub format: Format,
    /// Which of its entries.
    pub range: LogRange,
    pub(crate) source: SourceKind,
    pub(crate) key: LogReadKey,
}

/// The entries of a log that are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRange {
    /// The first of those after `after`, up to `until`; and whether any are missing right after
    /// `after`.
    After {
        /// An entry that a client has seen.
        after: EntryId,
        /// The last entry to read.
        until: EntryId,
    },
    /// No entries, but the id before the newest ones, this many.
    BeforeNewest(usize),
}

/// Names a [`LogRead`] in its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogReadKey {
    pub(crate) stream: StreamAddress,
    pub(crate) ticket: u64,
}

/// What the source has read for a [`LogRead`].
#[derive(Debug)]
pub enum LogReadResult {
    /// For [`LogRange::After`].
    Entries {
        /// Why entries are missing right after the client's, and up to which id.
        gap: Option<(GapReason, EntryId)>,
        /// The first entries after that; `None` for one that is too large.
        entries: Vec<(EntryId, Option<Event>)>,
        /// Whether these are all.
        is_all: bool,
    },
    /// For [`LogRange::BeforeNewest`].
    Start(EntryId),
}

impl SourceKind {
    /// The source of a channel.
    pub(crate) fn of(topic: &Topic) -> Self {
        match topic.ids {
            Ids::Entries => Self::Logs,
            Ids::Recorded if topic.is_sharded() => Self::ShardedRecorded,
            Ids::Recorded => Self::Recorded,
            _ if topic.is_sharded() => Self::Sharded,
            Ids::Ours | Ids::Publisher | Ids::Mixed => Self::PubSub,
        }
    }
}

impl LogRead {
    /// Names it in [`Hub::finish_log_read`](crate::Hub::finish_log_read).
    pub fn key(&self) -> LogReadKey {
        self.key
    }
}

/// The requests that the sources have not taken yet.
#[derive(Debug)]
pub(crate) struct SourceRequests {
    pub_sub: CoalescingQueue<Subscription, SourceRequest>,
    sharded: CoalescingQueue<Subscription, SourceRequest>,
    logs: CoalescingQueue<Subscription, SourceRequest>,
    recorded: CoalescingQueue<Subscription, SourceRequest>,
    sharded_recorded: CoalescingQueue<Subscription, SourceRequest>,
    // One for each stream.
    log_reads: CoalescingQueue<StreamAddress, LogRead>,
    recorded_reads: CoalescingQueue<StreamAddress, LogRead>,
    sharded_recorded_reads: CoalescingQueue<StreamAddress, LogRead>,
}

impl Default for SourceRequests {
    fn default() -> Self {
        Self {
            pub_sub: CoalescingQueue::new(),
            sharded: CoalescingQueue::new(),
            logs: CoalescingQueue::new(),
            recorded: CoalescingQueue::new(),
            sharded_recorded: CoalescingQueue::new(),
            log_reads: CoalescingQueue::new(),
            recorded_reads: CoalescingQueue::new(),
            sharded_recorded_reads: CoalescingQueue::new(),
        }
    }
}

impl SourceRequests {
    /// Requests for subscriptions of one source.
    pub(crate) fn of(&self, source: SourceKind) -> &CoalescingQueue<Subscription, SourceRequest> {
        match source {
            SourceKind::PubSub => &self.pub_sub,
            SourceKind::Sharded => &self.sharded,
            SourceKind::Logs => &self.logs,
            SourceKind::Recorded => &self.recorded,
            SourceKind::ShardedRecorded => &self.sharded_recorded,
        }
    }

    /// What one source has to read again: one request for each stream.
    pub(crate) fn reads_of(&self, source: SourceKind) -> &CoalescingQueue<StreamAddress, LogRead> {
        match source {
            SourceKind::Recorded => &self.recorded_reads,
            SourceKind::ShardedRecorded => &self.sharded_recorded_reads,
            SourceKind::PubSub | SourceKind::Sharded | SourceKind::Logs => &self.log_reads,
        }
    }

    /// The stream needs no part of the past any more.
    pub(crate) fn cancel_read(&self, stream: &StreamAddress) {
        self.log_reads.remove(stream);
        self.recorded_reads.remove(stream);
        self.sharded_recorded_reads.remove(stream);
    }

    pub(crate) fn put(&self, topic: Topic, request: SourceRequest) {
        self.of(SourceKind::of(&topic)).put(topic.subscription, request);
    }

    pub(crate) fn read_logs(&self, reads: impl IntoIterator<Item = LogRead>) {
        for read in reads {
            self.reads_of(read.source).put(read.key.stream, read);
        }
    }
}
