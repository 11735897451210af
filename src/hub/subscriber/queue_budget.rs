//! What the queues of all subscribers hold together, and who has to give when it is too much.
//!
//! Each shard tells what its queues hold when it has dealt something. When all of them together hold
//! too much, each that holds more than its share gives up what is over: the fattest queues first. One
//! addition for a batch of events, no lock.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Shared by all shards.
#[derive(Debug)]
pub(in crate::hub) struct QueueBudget {
    most: AtomicUsize,
    held: Box<[AtomicUsize]>,
}

impl QueueBudget {
    pub(in crate::hub) fn new(most: usize, shards: usize) -> Self {
        let held = (0..shards).map(|_| AtomicUsize::new(0)).collect();
        Self { most: AtomicUsize::new(most), held }
    }

    /// So much may be held from now on.
    pub(in crate::hub) fn hold(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// This shard holds so many bytes; answers how many of them it is to give up.
    pub(in crate::hub) fn holds(&self, shard: usize, bytes: usize) -> usize {
        self.held[shard].store(bytes, Ordering::Relaxed);
        let most = self.most.load(Ordering::Relaxed);
        // A tenth more than need be, so that the next event does not find it full again.
        let share = most / self.held.len() / 10 * 9;
        if bytes <= share {
            return 0;
        }
        let all: usize = self.held.iter().map(|held| held.load(Ordering::Relaxed)).sum();
        if all > most { (all - most / 10 * 9).min(bytes - share) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::QueueBudget;

    #[test]
    fn who_holds_more_than_its_share_gives_when_all_is_used() {
        let memory = QueueBudget::new(1000, 2);
        assert_eq!(memory.holds(0, 900), 0, "the others hold nothing");
        assert_eq!(memory.holds(1, 100), 0, "and a little is always allowed");
        assert_eq!(memory.holds(1, 200), 0, "that is not who holds too much");
        assert_eq!(memory.holds(0, 900), 200, "until a tenth is free");
        assert_eq!(memory.holds(0, 700), 0);
        memory.hold(100);
        assert_eq!(memory.holds(0, 700), 655, "all but its share");
    }
}
