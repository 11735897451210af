//! What it costs a client to take requests back.
//!
//! A client may reset a stream at any time, and it is nearly free for the client. Who does so again
//! and again, before there can be an answer, makes us and a backend work for nothing (Rapid Reset,
//! CVE-2023-44487). A response that has begun is no such case: one connection of a proxy may carry
//! many clients, who open streams and leave them.

use std::time::Duration;

use tokio::time::Instant;

/// A request that is taken back within this has been taken back too early.
const PREMATURE: Duration = Duration::from_secs(1);
/// So many of them within so long are no accident: who leaves a page takes back what that page still
/// waits for, and not page after page within seconds.
const MAX_RESETS: u32 = 100;
const WINDOW: Duration = Duration::from_secs(10);

/// The requests that a client took back too early, on one connection.
#[derive(Debug, Default)]
pub(super) struct Resets {
    // Since when is counted; begins anew when it is over.
    window: Option<Instant>,
    count: u32,
}

impl Resets {
    /// A request that was not answered is taken back; answers whether the client may.
    pub(super) fn may(&mut self, begun: Instant, now: Instant) -> bool {
        if now >= begun + PREMATURE {
            return true;
        }
        if self.window.is_none_or(|window| now >= window + WINDOW) {
            (self.window, self.count) = (Some(now), 0);
        }
        self.count += 1;
        self.count < MAX_RESETS
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{MAX_RESETS, PREMATURE, Resets, WINDOW};

    #[test]
    fn many_resets_in_a_short_time_are_too_many() {
        let start = Instant::now();
        let mut resets = Resets::default();
        assert!((1..MAX_RESETS).all(|_| resets.may(start, start)));
        assert!(resets.may(start, start + PREMATURE), "that one was waited for");
        assert!(!resets.may(start, start));
    }

    #[test]
    fn resets_over_a_long_time_are_not() {
        let start = Instant::now();
        let mut resets = Resets::default();
        assert!((0..10 * MAX_RESETS).all(|number| {
            let now = start + number * 2 * WINDOW / MAX_RESETS;
            resets.may(now, now)
        }));
    }
}
