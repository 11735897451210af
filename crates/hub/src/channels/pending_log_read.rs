//! Replays that wait until the source has read a part of a log again.

use crate::EntryId;
use crate::requests::shard_request::ReplayRequest;
use crate::requests::source_request::{LogRange, LogRead, LogReadKey, SourceKind};

/// Where a replay begins in one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogStart {
    /// After this entry.
    After(EntryId),
    /// After this entry, which may be newer than all that was read here. The source has said that nothing is
    /// missing after it except entries that it will still send.
    Ahead(EntryId),
    /// After this entry, for a client that has nothing of the log and so has missed nothing.
    First(EntryId),
    /// After the newest entry.
    Now,
    /// With the newest entries, this many.
    Newest(usize),
}

impl LogStart {
    /// The entry after which it begins, where it is known.
    pub(super) fn entry(self) -> Option<EntryId> {
        match self {
            Self::After(id) | Self::Ahead(id) | Self::First(id) => Some(id),
            Self::Now | Self::Newest(_) => None,
        }
    }
}

/// A replay, and what the source was requested to read for it.
#[derive(Debug)]
pub(super) struct PendingLogRead {
    pub(super) request: ReplayRequest,
    pub(super) starts: Box<[LogStart]>,
    // Which of the stream's channels.
    pub(super) log: usize,
    pub(super) range: LogRange,
}

impl PendingLogRead {
    pub(super) fn log_read(&self) -> LogRead {
        let topic = &self.request.topics[self.log];
        LogRead {
            log: topic.subscription.name.clone(),
            format: topic.format,
            range: self.range,
            source: SourceKind::of(topic),
            key: LogReadKey { stream: self.request.stream, ticket: self.request.ticket },
        }
    }
}
