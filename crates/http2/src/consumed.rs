//! Octets of request bodies that were read and are not returned to the connection's window yet.
//!
//! All streams share that window, so what counts is the sum over all of them: many small bodies use
//! up the window like one large body. Readers may run in other tasks than the connection's, hence
//! the atomics.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The counter. Shared by the connection and the bodies of its streams.
#[derive(Debug, Default)]
pub(crate) struct ConsumedOctets {
    // In octets.
    read: AtomicUsize,
    // The connection is woken once `read` reaches this, in octets.
    wake_at: AtomicUsize,
}

// Sequentially consistent: a reader adds and then loads the threshold; the connection stores the
// threshold and then takes the sum. One of the two must see the other's store, or nothing would
// wake the connection.
impl ConsumedOctets {
    /// Adds octets that were read; returns whether the connection must be woken.
    pub(crate) fn add(&self, octets: usize) -> bool {
        let read = self.read.fetch_add(octets, Ordering::SeqCst) + octets;
        read > 0 && read >= self.wake_at.load(Ordering::SeqCst)
    }

    /// Takes the octets read since the last call. From now on the connection is woken after
    /// `wake_at` octets.
    pub(crate) fn take(&self, wake_at: usize) -> usize {
        self.wake_at.store(wake_at, Ordering::SeqCst);
        self.read.swap(0, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::ConsumedOctets;

    #[test]
    fn many_small_reads_wake_the_connection_as_one_large_read_does() {
        let consumed = ConsumedOctets::default();
        assert_eq!(consumed.take(100), 0);
        assert!((0..9).all(|_| !consumed.add(10)));
        assert!(consumed.add(10));
        assert_eq!((consumed.take(100), consumed.take(0)), (100, 0));
        assert!(consumed.add(1), "with a window of 0, a single octet wakes the connection");
    }
}
