//! How often requests are taken back on one connection.
//!
//! Clients may leave at any time, and each one that does costs a RST_STREAM. Against Rapid Reset
//! (CVE-2023-44487) servers count these, and end a connection with too many of them, with all its
//! streams: Node allows 1,000 and then 33 a second. A connection is given no further requests long
//! before that.

use std::time::Duration;

use tokio::time::Instant;

/// So many at once are too many,
const MAX_RESETS: u32 = 100;
/// and one in this time never is.
const ALLOWED_EVERY: Duration = Duration::from_millis(100);

/// The requests taken back on one connection, less those that were allowed meanwhile.
#[derive(Debug, Default)]
pub(super) struct Resets {
    count: u32,
    // Since when none was subtracted.
    since: Option<Instant>,
}

impl Resets {
    /// One more; returns whether there are too many.
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
    fn many_at_once_are_too_many() {
        let (mut resets, now) = (Resets::default(), Instant::now());
        assert!((1..MAX_RESETS).all(|_| !resets.are_too_many(now)));
        assert!(resets.are_too_many(now));
    }

    #[test]
    fn clients_that_leave_now_and_then_are_not() {
        let (mut resets, start) = (Resets::default(), Instant::now());
        for number in 0..100 * MAX_RESETS {
            assert!(!resets.are_too_many(start + ALLOWED_EVERY * number), "{number}");
        }
    }
}
