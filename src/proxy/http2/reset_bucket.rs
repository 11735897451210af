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
const LEAK_INTERVAL: Duration = Duration::from_millis(100);

/// A leaky bucket of the resets on one connection.
#[derive(Debug, Default)]
pub(super) struct ResetBucket {
    count: u32,
    // When the bucket leaked last.
    leaked_at: Option<Instant>,
}

impl ResetBucket {
    /// Counts a reset; returns whether there are too many.
    pub(super) fn add(&mut self, now: Instant) -> bool {
        let leaked_at = *self.leaked_at.get_or_insert(now);
        let allowed = (now - leaked_at).as_millis() / LEAK_INTERVAL.as_millis();
        let allowed = u32::try_from(allowed).unwrap_or(u32::MAX);
        if allowed > 0 {
            self.leaked_at = Some(now);
        }
        self.count = self.count.saturating_sub(allowed) + 1;
        self.count >= MAX_RESETS
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{LEAK_INTERVAL, MAX_RESETS, ResetBucket};

    #[test]
    fn a_burst_of_resets_reaches_the_limit() {
        let (mut bucket, now) = (ResetBucket::default(), Instant::now());
        assert!((1..MAX_RESETS).all(|_| !bucket.add(now)));
        assert!(bucket.add(now));
    }

    #[test]
    fn a_steady_rate_below_the_leak_never_reaches_the_limit() {
        let (mut bucket, start) = (ResetBucket::default(), Instant::now());
        for number in 0..100 * MAX_RESETS {
            assert!(!bucket.add(start + LEAK_INTERVAL * number), "{number}");
        }
    }
}
