//! The memory of a route's kept streams, which is granted in steps.
//!
//! A stream that runs keeps what it was granted, whatever others want: none loses events because another one grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::Metrics;

/// What a stream is granted at once, in bytes.
pub(super) const STEP: usize = 64 << 10;

/// The memory of a route that is granted.
#[derive(Debug, Default)]
pub(super) struct KeptMemory(AtomicUsize);

impl KeptMemory {
    /// Grants so many bytes if no more than `total` are granted then.
    fn take(&self, bytes: usize, total: usize) -> bool {
        let more = |granted: usize| granted.checked_add(bytes).filter(|sum| *sum <= total);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What one stream, or the body of a request, is granted, until this is dropped.
#[derive(Debug)]
pub(in crate::service) struct KeptGrant {
    memory: Arc<KeptMemory>,
    metrics: Metrics,
    granted: usize,
    used: usize,
}

impl KeptGrant {
    /// Nothing yet.
    pub(super) fn new(memory: Arc<KeptMemory>, metrics: Metrics) -> Self {
        Self { memory, metrics, granted: 0, used: 0 }
    }

    /// How much is granted, in bytes.
    pub(super) fn granted(&self) -> usize {
        self.granted
    }

    /// So many bytes are used now. Returns whether they are granted: what is missing is, in steps of `step` bytes,
    /// as long as the route's memory stays within `total`.
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

    /// Gives back what is not used: there will be no more.
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
