//! How far `ssegate sub` is: the number of events, and which streams have opened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::error::{NeverOpened, SubError};
use super::follow::StreamUpdate;
use crate::cli::CliError;

/// Why a stream has not opened, until there is another reason.
const NO_RESPONSE: &str = "no response";

/// 204 tells an `EventSource` to stop reconnecting (WHATWG HTML, section 9.2.1).
const STOPPED: &str = "the server responded 204 No Content, which tells clients not to reconnect";

/// The number of events, and which streams have opened.
pub(super) struct SubscribeProgress {
    /// How many events were received, with `gap` events.
    pub(super) events: u64,
    // Streams that have not opened yet, with the reason.
    closed: BTreeMap<Arc<str>, String>,
    // Streams that are open for the first time. One that ends at once with a reason moves back to
    // `closed`: its server had no stream.
    opened: BTreeSet<Arc<str>>,
}

impl SubscribeProgress {
    /// The beginning: none of the streams with these names has opened.
    pub(super) fn new(names: impl Iterator<Item = Arc<str>>) -> Self {
        let closed = names.map(|name| (name, NO_RESPONSE.into())).collect();
        Self { events: 0, closed, opened: BTreeSet::new() }
    }

    /// Records an update.
    pub(super) fn note(&mut self, update: &StreamUpdate) {
        match update {
            StreamUpdate::Event { .. } => self.events += 1,
            StreamUpdate::Open { from, .. } => {
                if self.closed.remove(from).is_some() {
                    self.opened.insert(Arc::clone(from));
                }
            }
            StreamUpdate::Lost { from, reason, is_unavailable, .. } => {
                let was_first = self.opened.remove(from);
                if was_first && *is_unavailable || self.closed.contains_key(from) {
                    self.closed.insert(Arc::clone(from), reason.clone());
                }
            }
            StreamUpdate::Stopped { from } => {
                if let Some(reason) = self.closed.get_mut(from) {
                    STOPPED.clone_into(reason);
                }
            }
            StreamUpdate::Waiting { .. } | StreamUpdate::TooLarge { .. } => {}
        }
    }

    /// The streams that never opened, once.
    pub(super) fn never_opened(&mut self) -> Vec<NeverOpened> {
        let closed = std::mem::take(&mut self.closed).into_iter();
        closed.map(|(name, reason)| NeverOpened { name, reason }).collect()
    }

    /// The result at the end: an error if a stream never opened.
    pub(super) fn end(&mut self) -> Result<(), CliError> {
        match self.never_opened() {
            never_opened if never_opened.is_empty() => Ok(()),
            never_opened => Err(SubError::NeverOpened(never_opened).into()),
        }
    }
}
