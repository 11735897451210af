//! Which sentinels can be reached.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The connections to the sentinels, as the operator sees them.
#[derive(Debug)]
pub(in super::super) struct SentinelStatus(Mutex<Vec<SentinelReach>>);

/// Whether one sentinel can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum SentinelReach {
    /// It was not tried yet.
    Unknown,
    /// It is followed.
    Reached,
    /// Why it is not.
    Failed(String),
}

impl SentinelStatus {
    pub(super) fn new(sentinels: usize) -> Self {
        Self(Mutex::new(vec![SentinelReach::Unknown; sentinels]))
    }

    /// Records the state of one. Returns whether it is news that it can be reached or not, and the states of all.
    pub(in super::super) fn set(
        &self,
        at: usize,
        reach: SentinelReach,
    ) -> (bool, Vec<SentinelReach>) {
        let mut all = self.lock();
        let is_failed = |reach: &SentinelReach| matches!(reach, SentinelReach::Failed(_));
        let was_failed = is_failed(&all[at]);
        let is_news = was_failed != is_failed(&reach);
        all[at] = reach;
        (is_news, all.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SentinelReach>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
