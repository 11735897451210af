//! What has been read of the bodies of one connection, and not been returned to its window yet.
//!
//! All streams share the window of the connection. So what counts for it is how much was read of all of
//! them together, however little that is of each: many small bodies use up the window as one large body
//! does. The readers may be other tasks than the connection's, hence the atomics.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The count. Shared by the connection and the bodies of its streams.
#[derive(Debug, Default)]
pub(super) struct Reads {
    // In octets.
    read: AtomicUsize,
    // The connection is woken when so much has been read, in octets.
    wake_at: AtomicUsize,
}

// Sequentially consistent: a reader adds and then looks at the threshold, the connection sets the threshold
// and then takes what was added. One of them must see what the other did, or nobody would wake the
// connection.
impl Reads {
    /// Counts octets that have been read; returns whether the connection is to be woken.
    pub(super) fn add(&self, octets: usize) -> bool {
        let read = self.read.fetch_add(octets, Ordering::SeqCst) + octets;
        read > 0 && read >= self.wake_at.load(Ordering::SeqCst)
    }

    /// Takes what was read since the last call, in octets. From now on the connection is woken when
    /// `wake_at` octets have been read.
    pub(super) fn take(&self, wake_at: usize) -> usize {
        self.wake_at.store(wake_at, Ordering::SeqCst);
        self.read.swap(0, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::Reads;

    #[test]
    fn many_small_reads_wake_the_connection_as_one_large_read_does() {
        let reads = Reads::default();
        assert_eq!(reads.take(100), 0);
        assert!((0..9).all(|_| !reads.add(10)));
        assert!(reads.add(10));
        assert_eq!((reads.take(100), reads.take(0)), (100, 0));
        assert!(reads.add(1), "without a window, any octet is worth it");
    }
}
