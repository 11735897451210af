//! Limits on streams that end before they have a response.
//!
//! RST_STREAM costs a client almost nothing. A client that opens and resets streams again and again
//! makes us and a backend work in vain (Rapid Reset, CVE-2023-44487). Resets after the response has
//! begun do not count: one connection of a proxy may carry many users who open streams and leave.
//!
//! A stream error that the client provokes has the same effect (MadeYouReset, CVE-2025-8671). Both
//! are counted per window of a few seconds: behind a proxy, what one user does now and then must
//! not close the streams of all others.

use std::time::Duration;

use tokio::time::Instant;

/// Only a request that is reset within this time counts.
const EARLY: Duration = Duration::from_secs(1);
/// Resets within [`WINDOW`] that are taken for abuse. A user who leaves a page resets what that
/// page still waits for, but not page after page within seconds.
const MAX_RESETS: u32 = 100;
/// Stream errors within [`WINDOW`] that are taken for abuse.
const MAX_STREAM_ERRORS: u32 = 64;
const WINDOW: Duration = Duration::from_secs(10);

/// The counters of one connection.
#[derive(Debug, Default)]
pub(crate) struct ResetLimits {
    client_resets: WindowedCount,
    stream_errors: WindowedCount,
}

/// A counter that restarts with every window.
#[derive(Debug, Default)]
struct WindowedCount {
    // When the current window began.
    window: Option<Instant>,
    count: u32,
}

impl ResetLimits {
    /// Counts a request that the client resets before its response; returns false if there are too
    /// many.
    pub(crate) fn allows_client_reset(&mut self, begun: Instant, now: Instant) -> bool {
        now >= begun + EARLY || self.client_resets.count(now) < MAX_RESETS
    }

    /// Counts a request that is given up for an error of the client; returns false if there are too
    /// many.
    pub(crate) fn allows_stream_error(&mut self, now: Instant) -> bool {
        self.stream_errors.count(now) < MAX_STREAM_ERRORS
    }
}

impl WindowedCount {
    /// Counts one more; returns the count.
    fn count(&mut self, now: Instant) -> u32 {
        if self.window.is_none_or(|window| now >= window + WINDOW) {
            (self.window, self.count) = (Some(now), 0);
        }
        self.count += 1;
        self.count
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{EARLY, MAX_RESETS, MAX_STREAM_ERRORS, ResetLimits, WINDOW};

    #[test]
    fn many_resets_in_a_short_time_are_abuse() {
        let start = Instant::now();
        let mut resets = ResetLimits::default();
        assert!((1..MAX_RESETS).all(|_| resets.allows_client_reset(start, start)));
        assert!(resets.allows_client_reset(start, start + EARLY), "a late reset does not count");
        assert!(!resets.allows_client_reset(start, start));
    }

    #[test]
    fn as_many_resets_over_a_long_time_are_not_abuse() {
        let start = Instant::now();
        let mut resets = ResetLimits::default();
        assert!((0..10 * MAX_RESETS).all(|number| {
            let now = start + number * 2 * WINDOW / MAX_RESETS;
            resets.allows_client_reset(now, now)
        }));
    }

    #[test]
    fn stream_errors_are_forgotten_after_a_while() {
        let start = Instant::now();
        let mut resets = ResetLimits::default();
        assert!((1..MAX_STREAM_ERRORS).all(|_| resets.allows_stream_error(start)));
        assert!(!resets.allows_stream_error(start));
        assert!(resets.allows_stream_error(start + WINDOW));
        let mut resets = ResetLimits::default();
        assert!((0..10 * MAX_STREAM_ERRORS).all(|number| {
            let now = start + number * 2 * WINDOW / MAX_STREAM_ERRORS;
            resets.allows_stream_error(now)
        }));
    }
}
