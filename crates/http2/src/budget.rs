//! Limits frames that make no progress.
//!
//! PING, SETTINGS, PRIORITY, empty DATA and the like cost their sender next to nothing, and us an
//! ACK or at least their processing (CVE-2019-9512, 9515, 9518). A client needs some of them while
//! it is served: so each frame that we send, and each request, adds to its budget.

use std::time::Duration;

use tokio::time::Instant;

/// Frames within [`WINDOW`] that are allowed to any client.
const BASE: u32 = 1000;
const WINDOW: Duration = Duration::from_secs(10);
/// A client may send WINDOW_UPDATEs for both windows after each DATA frame; this is twice that.
const EARNED_PER_FRAME: u32 = 4;
/// The limit of what can be earned.
const MAX_EARNED: u32 = 100_000;

/// The budget of one connection.
#[derive(Debug)]
pub(crate) struct FrameBudget {
    left: u32,
    earned: u32,
    window: Instant,
}

impl FrameBudget {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: BASE, earned: 0, window: now }
    }

    /// Adds to the budget: a DATA frame was sent, or a request has begun.
    pub(crate) fn earn(&mut self) {
        self.earned = (self.earned + EARNED_PER_FRAME).min(MAX_EARNED);
    }

    /// Spends the budget on a frame that makes no progress; returns false if it is exceeded. Reads
    /// the clock only when nothing is left.
    pub(crate) fn spend(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if let Some(less) = self.earned.checked_sub(1) {
            self.earned = less;
            return true;
        }
        if self.left == 0 {
            let now = now();
            if now < self.window + WINDOW {
                return false;
            }
            (self.left, self.window) = (BASE, now);
        }
        self.left -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{BASE, EARNED_PER_FRAME, FrameBudget, WINDOW};

    #[test]
    fn a_flood_exceeds_the_budget_and_a_trickle_never_does() {
        let start = Instant::now();
        let mut budget = FrameBudget::new(start);
        assert!((0..BASE).all(|_| budget.spend(|| start)));
        assert!(!budget.spend(|| start + WINDOW / 2));
        assert!(budget.spend(|| start + WINDOW));

        let mut budget = FrameBudget::new(start);
        let steps = 10 * BASE;
        assert!((0..steps).all(|step| budget.spend(|| start + Duration::from_millis(20) * step)));
    }

    #[test]
    fn a_client_that_is_served_may_send_more() {
        let start = Instant::now();
        let mut budget = FrameBudget::new(start);
        for _ in 0..BASE {
            budget.earn();
        }
        assert!((0..BASE * (1 + EARNED_PER_FRAME)).all(|_| budget.spend(|| start)));
        assert!(!budget.spend(|| start));
    }
}
