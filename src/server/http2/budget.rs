//! How many frames a client may send that ask for nothing.
//!
//! PING, SETTINGS, PRIORITY, empty DATA and the like cost their sender next to nothing, and us an
//! answer or at least a look (CVE-2019-9512, 9515, 9518). A client that is served needs some of
//! them: each frame that we send, and each request, adds to what it may.

use std::time::Duration;

use tokio::time::Instant;

/// So many frames within [`WINDOW`] are no flood, whoever sends them.
const BASE: u32 = 1000;
const WINDOW: Duration = Duration::from_secs(10);
/// A client may answer a DATA frame with an update of both windows; twice that.
const FOR_FRAME_SENT: u32 = 4;
/// What has been earned does not pile up without end.
const MAX_EARNED: u32 = 100_000;

/// What is left of it, on one connection.
#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    earned: u32,
    window: Instant,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BASE, earned: 0, window: now }
    }

    /// We have sent a frame of data, or begun a request.
    pub(super) fn earn(&mut self) {
        self.earned = (self.earned + FOR_FRAME_SENT).min(MAX_EARNED);
    }

    /// The client has sent a frame that asks for nothing; answers whether it may. The clock is only
    /// looked at when nothing is left.
    pub(super) fn spend(&mut self, now: impl FnOnce() -> Instant) -> bool {
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

    use super::{BASE, Budget, FOR_FRAME_SENT, WINDOW};

    #[test]
    fn a_flood_is_over_the_budget_and_a_trickle_never() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert!((0..BASE).all(|_| budget.spend(|| start)));
        assert!(!budget.spend(|| start + WINDOW / 2));
        assert!(budget.spend(|| start + WINDOW));

        let mut budget = Budget::new(start);
        let steps = 10 * BASE;
        assert!((0..steps).all(|step| budget.spend(|| start + Duration::from_millis(20) * step)));
    }

    #[test]
    fn who_is_served_may_say_more() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        for _ in 0..BASE {
            budget.earn();
        }
        assert!((0..BASE * (1 + FOR_FRAME_SENT)).all(|_| budget.spend(|| start)));
        assert!(!budget.spend(|| start));
    }
}
