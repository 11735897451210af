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
const PREMATURE: Duration = Duration::from_secs(1);
/// Resets within [`WINDOW`] that are taken for abuse. A user who leaves a page resets what that
/// page still waits for, but not page after page within seconds.
const MAX_RESETS: u32 = 100;
/// Stream errors within [`WINDOW`] that are taken for abuse.
const MAX_FAULTS: u32 = 64;
const WINDOW: Duration = Duration::from_secs(10);

/// The counters of one connection.
#[derive(Debug, Default)]
pub(super) struct Resets {
    taken_back: Recent,
    given_up: Recent,
}

/// A counter that restarts with every window.
#[derive(Debug, Default)]
struct Recent {
    // When the current window began.
    window: Option<Instant>,
    count: u32,
}

impl Resets {
    /// Counts a request that the client resets before its response; returns false if there are too
    /// many.
    pub(super) fn may_take_back(&mut self, begun: Instant, now: Instant) -> bool {
        now >= begun + PREMATURE || self.taken_back.count(now) < MAX_RESETS
    }

    /// Counts a request that is given up for an error of the client; returns false if there are too
    /// many.
    pub(super) fn may_fail(&mut self, now: Instant) -> bool {
        self.given_up.count(now) < MAX_FAULTS
    }
}

impl Recent {
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

    use super::{MAX_FAULTS, MAX_RESETS, PREMATURE, Resets, WINDOW};

    #[test]
    fn many_resets_in_a_short_time_are_abuse() {
        let start = Instant::now();
        let mut resets = Resets::default();
        assert!((1..MAX_RESETS).all(|_| resets.may_take_back(start, start)));
        assert!(resets.may_take_back(start, start + PREMATURE), "a late reset does not count");
        assert!(!resets.may_take_back(start, start));
    }

    #[test]
    fn as_many_resets_over_a_long_time_are_not_abuse() {
        let start = Instant::now();
        let mut resets = Resets::default();
        assert!((0..10 * MAX_RESETS).all(|number| {
            let now = start + number * 2 * WINDOW / MAX_RESETS;
            resets.may_take_back(now, now)
        }));
    }

    #[test]
    fn stream_errors_are_forgotten_after_a_while() {
        let start = Instant::now();
        let mut resets = Resets::default();
        assert!((1..MAX_FAULTS).all(|_| resets.may_fail(start)));
        assert!(!resets.may_fail(start));
        assert!(resets.may_fail(start + WINDOW));
        let mut resets = Resets::default();
        assert!((0..10 * MAX_FAULTS).all(|number| {
            let now = start + number * 2 * WINDOW / MAX_FAULTS;
            resets.may_fail(now)
        }));
    }
}
