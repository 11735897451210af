//! Limits the RST_STREAM frames sent on one connection.
//!
//! Each client that leaves early costs a RST_STREAM. Servers count these against Rapid Reset
//! (CVE-2023-44487), and close a connection with too many, along with all its streams: Node allows
//! 1,000 and then 33 per second. Long before that, the connection gets no further requests.

use std::time::Duration;

use tokio::time::Instant;

/// The capacity of the leaky bucket.
const MAX_RESETS: u32 = 100;
/// The bucket leaks one reset in this time.
const ALLOWED_EVERY: Duration = Duration::from_millis(100);

/// A leaky bucket of the resets on one connection.
#[derive(Debug, Default)]
pub(super) struct Resets {
    count: u32,
    // When the bucket leaked last.
    since: Option<Instant>,
}

impl Resets {
    /// Counts a reset; returns whether there are too many.
    pub(super) fn are_too_many(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let allowed = (now - since).as_millis() / ALLOWED_EVERY.as_millis();
        let allowed = u32::try_from(allowed).unwrap_or(u32::MAX);
        if allowed > 0 {
            self.since = Some(now);
        }
        self.count = self.count.saturating_sub(allowed) + 1;
        self.count >= MAX_RESETS
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{ALLOWED_EVERY, MAX_RESETS, Resets};

    #[test]
    fn a_burst_of_resets_reaches_the_limit() {
        let (mut resets, now) = (Resets::default(), Instant::now());
        assert!((1..MAX_RESETS).all(|_| !resets.are_too_many(now)));
        assert!(resets.are_too_many(now));
    }

    #[test]
    fn a_steady_rate_below_the_leak_never_reaches_the_limit() {
        let (mut resets, start) = (Resets::default(), Instant::now());
        for number in 0..100 * MAX_RESETS {
            assert!(!resets.are_too_many(start + ALLOWED_EVERY * number), "{number}");
        }
    }
}
