//! The lines of a second: a bound over all threads, and a count of what was left out.
//!
//! Pure: the time is passed in. A stranger who makes requests cannot fill a disk faster than this.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The bound of the lines in each second.
#[derive(Debug)]
pub(super) struct LineBudget {
    most: AtomicUsize,
    // The second in the upper half, its lines in the lower.
    used: AtomicU64,
    left_out: AtomicU64,
}

impl LineBudget {
    /// At most this many lines in a second.
    pub(super) fn new(most: usize) -> Self {
        Self { most: AtomicUsize::new(most), used: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    pub(super) fn change(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Takes a line in this second. Returns false if there is none left: the line is left out.
    pub(super) fn take(&self, second: u32) -> bool {
        let most = self.most.load(Ordering::Relaxed) as u64;
        let began = u64::from(second) << 32;
        let take = |used: u64| match used >> 32 == u64::from(second) {
            // Another thread may have read the clock a little earlier: that does not begin a new
            // second.
            true => ((used & u64::from(u32::MAX)) < most).then(|| used + 1),
            false => Some(began + 1),
        };
        let is_taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if !is_taken {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        is_taken
    }

    /// Returns how many lines were left out since the last call.
    pub(super) fn take_left_out(&self) -> u64 {
        self.left_out.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::LineBudget;

    #[test]
    fn lines_over_the_bound_are_left_out_and_counted() {
        let budget = LineBudget::new(3);
        let taken = |second| (0..5).filter(|_| budget.take(second)).count();
        assert_eq!((taken(1), taken(1), taken(2)), (3, 0, 3));
        assert_eq!(budget.take_left_out(), 2 + 5 + 2);
        assert_eq!(budget.take_left_out(), 0);
        budget.change(4);
        assert_eq!((taken(2), taken(3)), (1, 4));
    }
}
