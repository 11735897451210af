//! The copies of other gateways' streams that have readers here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::copy_freshness::CopyFreshness;
use super::stream::KeptStream;
use crate::source::kept::KeptAway;

/// Whether a copy has all that Redis has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopyState {
    Loading,
    Loaded,
    /// It will never have it.
    Failed(KeptAway),
    /// The stream does not exist any more.
    Gone,
}

/// Copies that load at the same time, at most. To load is to read what the stream has sent so far: the replies
/// are large, and come on the connection on which leases are renewed.
const MAX_LOADING: usize = 8;

/// The copies, by the ids of their streams.
#[derive(Debug)]
pub(super) struct KeptCopies {
    by_id: Mutex<HashMap<Box<str>, KeptCopy>>,
    loading: Semaphore,
}

impl Default for KeptCopies {
    fn default() -> Self {
        Self { by_id: Mutex::default(), loading: Semaphore::new(MAX_LOADING) }
    }
}

/// A copy that has readers, or had some a moment ago.
#[derive(Clone, Debug)]
pub(super) struct KeptCopy {
    pub(super) stream: Arc<KeptStream>,
    pub(super) state: watch::Receiver<CopyState>,
    pub(super) freshness: Arc<Mutex<CopyFreshness>>,
}

impl KeptCopy {
    /// What it knows of Redis and of the pump.
    pub(super) fn freshness(&self) -> CopyFreshness {
        *self.freshness.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptCopies {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, KeptCopy>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a permit to load a stream. Cancel safe.
    pub(super) async fn load(&self) -> Option<SemaphorePermit<'_>> {
        self.loading.acquire().await.ok()
    }

    /// The copy of this stream.
    pub(super) fn get(&self, id: &str) -> Option<KeptCopy> {
        self.lock().get(id).cloned()
    }

    /// The copy of this stream; if there is none, the one that `make` makes.
    pub(super) fn get_or(&self, id: &str, make: impl FnOnce() -> KeptCopy) -> KeptCopy {
        self.lock().entry(id.into()).or_insert_with(make).clone()
    }

    /// Removes a copy that only this table and its copier hold. Returns whether it was removed.
    pub(super) fn retire(&self, stream: &Arc<KeptStream>) -> bool {
        let mut copies = self.lock();
        let is_it = copies.get(&stream.id).is_some_and(|copy| Arc::ptr_eq(&copy.stream, stream));
        // A caller that gets it from here is counted.
        let is_unused = Arc::strong_count(stream) <= 1 + usize::from(is_it);
        if is_unused && is_it {
            copies.remove(&stream.id);
        }
        is_unused
    }

    /// Removes a copy.
    pub(super) fn remove(&self, stream: &Arc<KeptStream>) {
        let mut copies = self.lock();
        let is_it = |copy: &KeptCopy| Arc::ptr_eq(&copy.stream, stream);
        if copies.get(&stream.id).is_some_and(is_it) {
            copies.remove(&stream.id);
        }
    }
}
