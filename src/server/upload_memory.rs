//! A memory budget, shared by all HTTP/2 connections, for flow-control windows beyond their own.
//!
//! Each client connection has a window of `connection_window`, and each stream to a backend 64 KiB.
//! What exceeds that is borrowed here: for bodies that are not read yet, so that other streams of
//! the connection can go on, and for windows that grow with a fast upload or download. Borrowing
//! and returning is one atomic addition, no lock. A connection that stays within its own window
//! does neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::Metrics;

/// The budget. A cheap handle for all shards.
#[derive(Clone, Debug)]
pub struct UploadMemory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: AtomicUsize,
    lent: AtomicUsize,
    metrics: Metrics,
}

impl UploadMemory {
    /// Lends nothing until [`limit`](Self::limit) is called.
    pub fn new(metrics: Metrics) -> Self {
        Self(Arc::new(Inner { most: AtomicUsize::new(0), lent: AtomicUsize::new(0), metrics }))
    }

    /// Sets the budget in bytes. Bytes that are lent already stay so until they are returned.
    pub fn limit(&self, most: usize) {
        self.0.most.store(most, Ordering::Relaxed);
    }

    /// Lends up to `wanted` bytes; returns how many.
    pub(crate) fn lend(&self, wanted: usize) -> usize {
        let most = self.0.most.load(Ordering::Relaxed);
        let before = self.0.lent.fetch_add(wanted, Ordering::Relaxed);
        let lent = wanted.min(most.saturating_sub(before));
        if lent < wanted {
            self.0.lent.fetch_sub(wanted - lent, Ordering::Relaxed);
            self.0.metrics.upload_memory_refused();
        }
        self.0.metrics.upload_memory_lent(lent);
        lent
    }

    /// Returns bytes to the budget.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.0.lent.fetch_sub(bytes, Ordering::Relaxed);
        self.0.metrics.upload_memory_given_back(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::UploadMemory;
    use crate::metrics::Metrics;

    #[test]
    fn no_more_than_the_budget_is_lent() {
        let memory = UploadMemory::new(Metrics::new().expect("metrics"));
        assert_eq!(memory.lend(1), 0);
        memory.limit(100);
        assert_eq!((memory.lend(60), memory.lend(60), memory.lend(1)), (60, 40, 0));
        memory.give_back(30);
        assert_eq!(memory.lend(50), 30);
        memory.limit(50);
        memory.give_back(40);
        assert_eq!(memory.lend(10), 0, "still above the lowered limit");
    }
}
