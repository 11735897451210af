//! Which sentinels can be reached.

use std::sync::{Mutex, PoisonError};

/// The connections to the sentinels, as the operator sees them.
#[derive(Debug)]
pub(in super::super) struct SentinelStatus(Mutex<Vec<Option<String>>>);

impl SentinelStatus {
    /// So many sentinels, none of which has failed so far.
    pub(super) fn new(sentinels: usize) -> Self {
        Self(Mutex::new(vec![None; sentinels]))
    }

    /// Records why one cannot be reached, or that it can be. Returns whether it could not be before, and the failures
    /// of all.
    pub(in super::super) fn set(
        &self,
        at: usize,
        failure: Option<String>,
    ) -> (bool, Vec<Option<String>>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_failed = std::mem::replace(&mut all[at], failure).is_some();
        (was_failed, all.clone())
    }
}
