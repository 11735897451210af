//! How much more than their own windows all HTTP/2 connections together may be sent.
//!
//! Each connection of a client has `connection_window` for itself, and each stream to a backend 64 KiB.
//! What goes beyond it is lent out of one amount: for bodies that nobody reads yet, so that other
//! streams of their connection go on, and for windows that grow with a fast upload or download. One addition when something is lent or given back, no lock; a
//! connection that needs no more than its own never comes here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::Metrics;

/// Shared by all shards: a cheap handle.
#[derive(Clone, Debug)]
pub struct UploadMemory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: AtomicUsize,
    lent: AtomicUsize,
    metrics: Metrics,
}

impl UploadMemory {
    /// Lends nothing before it is told [how much](Self::limit) there is.
    pub fn new(metrics: Metrics) -> Self {
        Self(Arc::new(Inner { most: AtomicUsize::new(0), lent: AtomicUsize::new(0), metrics }))
    }

    /// So many bytes may be lent from now on; what is lent already stays so until it is given back.
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

    /// Takes back what was lent.
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
    fn no_more_is_lent_than_there_is() {
        let memory = UploadMemory::new(Metrics::new().expect("metrics"));
        assert_eq!(memory.lend(1), 0);
        memory.limit(100);
        assert_eq!((memory.lend(60), memory.lend(60), memory.lend(1)), (60, 40, 0));
        memory.give_back(30);
        assert_eq!(memory.lend(50), 30);
        memory.limit(50);
        memory.give_back(40);
        assert_eq!(memory.lend(10), 0, "60 are out still");
    }
}
