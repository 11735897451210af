//! The memory of a route's kept streams, which is granted in steps.
//!
//! A running stream keeps the memory that it was granted: it loses no events because another stream grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::Metrics;

/// The memory that a stream is granted in one step, in bytes.
pub(super) const STEP: usize = 64 << 10;

/// The memory of a route that is granted so far.
#[derive(Debug, Default)]
pub(super) struct KeptMemory(AtomicUsize);

impl KeptMemory {
    /// Grants this many bytes, unless more than `total` would be granted then.
    fn take(&self, bytes: usize, total: usize) -> bool {
        let more = |granted: usize| granted.checked_add(bytes).filter(|sum| *sum <= total);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The memory that one stream, or the body of a request, is granted, until this is dropped.
#[derive(Debug)]
pub(in crate::service) struct KeptGrant {
    memory: Arc<KeptMemory>,
    metrics: Metrics,
    granted: usize,
    used: usize,
}

impl KeptGrant {
    /// Creates a grant of nothing.
    pub(super) fn new(memory: Arc<KeptMemory>, metrics: Metrics) -> Self {
        Self { memory, metrics, granted: 0, used: 0 }
    }

    /// The granted memory, in bytes.
    pub(super) fn granted(&self) -> usize {
        self.granted
    }

    /// Sets the number of bytes in use. Returns whether they are granted: missing ones are granted in steps of
    /// `step` bytes, as long as the route's memory stays within `total`.
    pub(super) fn cover(&mut self, used: usize, step: usize, total: usize) -> bool {
        self.metrics.kept_bytes(self.used, used);
        self.used = used;
        let missing = used.saturating_sub(self.granted).next_multiple_of(step);
        if missing > 0 && !self.memory.take(missing, total) {
            return false;
        }
        self.granted += missing;
        true
    }

    /// Returns the unused rest: the stream grows no more.
    pub(super) fn settle(&mut self) {
        let excess = self.granted.saturating_sub(self.used);
        self.memory.give_back(excess);
        self.granted -= excess;
    }
}

impl Drop for KeptGrant {
    fn drop(&mut self) {
        self.metrics.kept_bytes(self.used, 0);
        self.memory.give_back(self.granted);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{KeptGrant, KeptMemory};
    use crate::metrics::Metrics;

    #[test]
    fn what_is_granted_stays_whatever_others_want() {
        let memory = Arc::<KeptMemory>::default();
        let metrics = Metrics::new().expect("metrics");
        let grant = || KeptGrant::new(Arc::clone(&memory), metrics.clone());
        let (mut small, mut large) = (grant(), grant());
        assert!(small.cover(1, 10, 40) && large.cover(25, 10, 40));
        assert_eq!((small.granted(), large.granted()), (10, 30));
        assert!(!large.cover(31, 10, 40), "there is no step left");
        assert_eq!(large.granted(), 30);
        assert!(small.cover(10, 10, 40), "its own");
        assert!(!small.cover(11, 10, 40) && small.cover(4, 10, 40));
        small.settle();
        assert!(large.cover(31, 6, 40), "what was given back");
        assert_eq!(metrics.render().expect("text").matches("ssegate_kept_bytes 35\n").count(), 1);
        drop(large);
        assert!(grant().cover(36, 1, 40));
        assert!(!grant().cover(37, 1, 40));
    }
}
