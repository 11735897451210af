//! Ids of recorded messages.

/// The name of a message: the `k`-th of its channel after the mark.
///
/// As text it is `<mark>-<k>`, the id of its entry in a Redis Stream and of its event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The newest mark before it, about the Unix time in milliseconds.
    pub mark: u64,
    /// Which message of its channel since then; 0 stands for the mark itself.
    pub k: u64,
}

impl RecordId {
    /// The place of a mark: before every message that is named by it.
    pub fn start(mark: u64) -> Self {
        Self { mark, k: 0 }
    }
}
