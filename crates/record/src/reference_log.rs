//! A log in memory, as the script sees the one in Redis: for the model, and for the test that compares the script.

use crate::RecordId;

/// The entries of a log, and how far it reaches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReferenceLog<P> {
    /// The messages; `None` is a gap: something may be missing before it.
    pub entries: Vec<(RecordId, Option<P>)>,
    /// The newest id: everything up to it is in the log, or was never to be. Zero where there is no log.
    pub top: RecordId,
}

impl<P> ReferenceLog<P> {
    /// Appends a message, or a gap, as the new top.
    pub fn add(&mut self, id: RecordId, message: Option<P>) {
        self.entries.push((id, message));
        self.top = id;
    }
}

impl<P> Default for ReferenceLog<P> {
    fn default() -> Self {
        Self { entries: Vec::new(), top: RecordId::default() }
    }
}
