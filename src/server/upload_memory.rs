//! A memory budget, shared by all HTTP/2 connections, for flow-control windows beyond their own.
//!
//! Each client connection has a window of `connection_window`, and each stream to a backend 64 KiB.
//! What exceeds that is reserved here: for bodies that are not read yet, so that other streams of
//! the connection can go on, and for windows that grow with a fast upload or download. To reserve
//! and to release is one atomic addition, no lock. A connection that stays within its own window
//! does neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::Metrics;

/// The budget. A cheap handle for all shards.
#[derive(Clone, Debug)]
pub struct UploadMemory(Arc<UploadMemoryState>);

#[derive(Debug)]
struct UploadMemoryState {
    limit: AtomicUsize,
    reserved: AtomicUsize,
    metrics: Metrics,
}

impl UploadMemory {
    /// Grants nothing until [`set_limit`](Self::set_limit) is called.
    pub fn new(metrics: Metrics) -> Self {
        Self(Arc::new(UploadMemoryState {
            limit: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            metrics,
        }))
    }

    /// Sets the budget in bytes. Bytes that are reserved already stay so until they are released.
    pub fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// Reserves up to `wanted` bytes; returns how many.
    pub(crate) fn reserve(&self, wanted: usize) -> usize {
        let limit = self.0.limit.load(Ordering::Relaxed);
        let before = self.0.reserved.fetch_add(wanted, Ordering::Relaxed);
        let reserved = wanted.min(limit.saturating_sub(before));
        if reserved < wanted {
            self.0.reserved.fetch_sub(wanted - reserved, Ordering::Relaxed);
            self.0.metrics.upload_memory_refused();
        }
        self.0.metrics.upload_memory_lent(reserved);
        reserved
    }

    /// Releases reserved bytes.
    pub(crate) fn release(&self, bytes: usize) {
        self.0.reserved.fetch_sub(bytes, Ordering::Relaxed);
        self.0.metrics.upload_memory_given_back(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::UploadMemory;
    use crate::metrics::Metrics;

    #[test]
    fn no_more_than_the_budget_is_granted() {
        let memory = UploadMemory::new(Metrics::new().expect("metrics"));
        assert_eq!(memory.reserve(1), 0);
        memory.set_limit(100);
        assert_eq!((memory.reserve(60), memory.reserve(60), memory.reserve(1)), (60, 40, 0));
        memory.release(30);
        assert_eq!(memory.reserve(50), 30);
        memory.set_limit(50);
        memory.release(40);
        assert_eq!(memory.reserve(10), 0, "still above the lowered limit");
    }
}
