//! How far a stream is trimmed.

use super::id::StreamId;

/// The options of `XTRIM`, and of `XADD` for trimming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamTrim {
    pub(crate) strategy: TrimStrategy,
    /// How many entries are removed, at most.
    pub(crate) limit: Option<usize>,
}

/// Which entries stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrimStrategy {
    /// `MAXLEN`: the newest, this many.
    MaxLen(usize),
    /// `MINID`: those with this id or a higher one.
    MinId(StreamId),
}

impl StreamTrim {
    /// Entries that one command removes where it says `~` and no `LIMIT`, as in Redis.
    const DEFAULT_LIMIT: usize = 10_000;

    /// `MAXLEN ~ most`. Redis removes whole nodes of its tree then, and leaves some more entries; there are
    /// no nodes here, and exactly `most` are left, unless the limit is reached.
    pub(crate) fn about(strategy: TrimStrategy) -> Self {
        Self { strategy, limit: Some(Self::DEFAULT_LIMIT) }
    }
}
