//! One member of a channel at this gateway.

use tokio::time::Instant;

/// A member of a channel, with its streams at this gateway.
#[derive(Debug)]
pub(super) struct LocalMember {
    /// Its open streams.
    pub(super) streams: u32,
    /// When the first of them was opened.
    pub(super) since: Instant,
    /// The number of streams that the store has; `None`: the store does not have the member.
    pub(super) told: Option<u32>,
    /// The store may have it, with an unknown number of streams.
    pub(super) is_unsure: bool,
    /// It is in the list of members that have changed.
    pub(super) is_changed: bool,
    /// It is in the list of members whose grace ends.
    pub(super) is_in_grace: bool,
    /// When it leaves, if it has no stream.
    pub(super) leaves_at: Instant,
    /// Its grace is over.
    pub(super) is_gone: bool,
}

impl LocalMember {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            streams: 0,
            since: now,
            told: None,
            is_unsure: false,
            is_changed: false,
            is_in_grace: false,
            leaves_at: now,
            is_gone: false,
        }
    }

    /// The change for the store; `None`: nothing has changed. The inner `None`: the member has
    /// left.
    pub(super) fn news(&self) -> Option<Option<u32>> {
        match (self.is_gone, self.told) {
            (true, told) => (told.is_some() || self.is_unsure).then_some(None),
            // During its grace the store keeps it as it was.
            (false, Some(_)) if self.streams == 0 => None,
            (false, told) if told == Some(self.streams) => None,
            (false, _) => Some(Some(self.streams)),
        }
    }
}
