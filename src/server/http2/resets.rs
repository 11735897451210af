//! How often a client may make us work for nothing.
//!
//! A client may reset a stream at any time, and it is nearly free for the client. Who does so again
//! and again, before there can be an answer, makes us and a backend work for nothing (Rapid Reset,
//! CVE-2023-44487). A response that has begun is no such case: one connection of a proxy may carry
//! many clients, who open streams and leave them.
//!
//! A fault of the client's that makes us reset the stream has the same effect (MadeYouReset,
//! CVE-2025-8671). Both are counted over a few seconds and then forgotten: behind a proxy, what one user
//! does now and then must not end the streams of all others.

use std::time::Duration;

use tokio::time::Instant;

/// A request that is taken back within this has been taken back too early.
const PREMATURE: Duration = Duration::from_secs(1);
/// So many of them within [`WINDOW`] are no accident: who leaves a page takes back what that page still
/// waits for, and not page after page within seconds.
const MAX_RESETS: u32 = 100;
/// So many requests given up for faults within [`WINDOW`] are no accident either.
const MAX_FAULTS: u32 = 64;
const WINDOW: Duration = Duration::from_secs(10);

/// The requests that were begun for nothing, on one connection.
#[derive(Debug, Default)]
pub(super) struct Resets {
    taken_back: Recent,
    given_up: Recent,
}

/// How many of something there were lately.
#[derive(Debug, Default)]
struct Recent {
    // Since when is counted; begins anew when it is over.
    window: Option<Instant>,
    count: u32,
}

impl Resets {
    /// The client takes back a request that was not answered, and that began then; returns whether it
    /// may.
    pub(super) fn may_take_back(&mut self, begun: Instant, now: Instant) -> bool {
        now >= begun + PREMATURE || self.taken_back.count(now) < MAX_RESETS
    }

    /// A fault of the client's makes us give up a request that was not answered; returns whether that
    /// is not too often.
    pub(super) fn may_fail(&mut self, now: Instant) -> bool {
        self.given_up.count(now) < MAX_FAULTS
    }
}

impl Recent {
    /// One more; returns how many that makes.
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
    fn many_resets_in_a_short_time_are_too_many() {
        let start = Instant::now();
        let mut resets = Resets::default();
        assert!((1..MAX_RESETS).all(|_| resets.may_take_back(start, start)));
        assert!(resets.may_take_back(start, start + PREMATURE), "that one was waited for");
        assert!(!resets.may_take_back(start, start));
    }

    #[test]
    fn resets_over_a_long_time_are_not() {
        let start = Instant::now();
        let mut resets = Resets::default();
        assert!((0..10 * MAX_RESETS).all(|number| {
            let now = start + number * 2 * WINDOW / MAX_RESETS;
            resets.may_take_back(now, now)
        }));
    }

    #[test]
    fn faults_are_forgotten_when_they_are_few() {
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
