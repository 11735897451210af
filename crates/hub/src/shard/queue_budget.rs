//! What the queues of all subscribers hold together, and which shard must free some of it.
//!
//! Each shard reports the size of its queues when it has delivered a slice of events. When all queues
//! together exceed the bound, each shard that holds more than its share frees the excess, its largest queues
//! first. This takes one store and one comparison for a slice, and no lock.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Shared by all shards.
#[derive(Debug)]
pub(crate) struct QueueBudget {
    max_bytes: AtomicUsize,
    held: Box<[AtomicUsize]>,
}

impl QueueBudget {
    pub(crate) fn new(max_bytes: usize, shards: usize) -> Self {
        let held = (0..shards).map(|_| AtomicUsize::new(0)).collect();
        Self { max_bytes: AtomicUsize::new(max_bytes), held }
    }

    pub(crate) fn set_max_bytes(&self, max_bytes: usize) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    /// Reports what the queues of a shard hold; returns how many bytes of it the shard must free.
    pub(crate) fn report(&self, shard: usize, bytes: usize) -> usize {
        self.held[shard].store(bytes, Ordering::Relaxed);
        let max_bytes = self.max_bytes.load(Ordering::Relaxed);
        // A tenth below the bound, so that the next event does not find it full again.
        let share = max_bytes / self.held.len() / 10 * 9;
        if bytes <= share {
            return 0;
        }
        let all: usize = self.held.iter().map(|held| held.load(Ordering::Relaxed)).sum();
        if all > max_bytes { (all - max_bytes / 10 * 9).min(bytes - share) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::QueueBudget;

    #[test]
    fn a_shard_over_its_share_frees_memory_when_all_are_over_the_bound() {
        let budget = QueueBudget::new(1000, 2);
        assert_eq!(budget.report(0, 900), 0, "the other shard holds nothing");
        assert_eq!(budget.report(1, 100), 0, "it is within its share");
        assert_eq!(budget.report(1, 200), 0, "it is within its share");
        assert_eq!(budget.report(0, 900), 200, "until a tenth is free");
        assert_eq!(budget.report(0, 700), 0);
        budget.set_max_bytes(100);
        assert_eq!(budget.report(0, 700), 655, "all but its share");
    }
}
