//! Rate limit for log lines: the first is logged at once, then one every ten seconds at most, with
//! the number of lines suppressed in between.
//!
//! For conditions that can occur with every request or connection. Pure: time is passed in.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Minimum time between two log lines of one kind.
pub const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The rate limit of one kind of log line.
#[derive(Clone, Copy, Debug)]
pub struct LineLimit {
    logged: Instant,
    count: u64,
}

impl LineLimit {
    /// Starts with a line that is logged now.
    pub fn new(now: Instant) -> Self {
        Self { logged: now, count: 0 }
    }

    /// Records an occurrence. Returns `Some(n)` if a line is to be logged now, where `n` is the
    /// number of occurrences suppressed since the last line.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        if now < self.logged + LOG_INTERVAL {
            self.count += 1;
            return None;
        }
        self.logged = now;
        Some(std::mem::take(&mut self.count))
    }

    /// Returns the number of suppressed occurrences once a line about them is due.
    pub fn due(&mut self, now: Instant) -> Option<u64> {
        if self.count == 0 || now < self.logged + LOG_INTERVAL {
            return None;
        }
        self.logged = now;
        Some(std::mem::take(&mut self.count))
    }
}

/// Rate limits for several kinds of log lines, shared by all threads.
#[derive(Debug, Default)]
pub struct LogLimit(Mutex<Vec<(&'static str, LineLimit)>>);

impl LogLimit {
    /// Starts without having logged anything.
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Records an occurrence of `kind`. Returns `Some(n)` if a line is to be logged now, where `n`
    /// is the number of occurrences of this kind suppressed since the last line.
    pub fn pass(&self, kind: &'static str, now: Instant) -> Option<u64> {
        let mut kinds = self.lock();
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, limit)) => limit.pass(now),
            None => {
                kinds.push((kind, LineLimit::new(now)));
                Some(0)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(&'static str, LineLimit)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{LOG_INTERVAL, LineLimit, LogLimit};

    #[test]
    fn the_first_line_is_logged_at_once_and_later_ones_are_counted() {
        let (limit, start) = (LogLimit::new(), Instant::now());
        assert_eq!(limit.pass("http", start), Some(0));
        assert_eq!(limit.pass("http", start), None);
        assert_eq!(limit.pass("other", start), Some(0), "each kind has its own limit");
        assert_eq!(limit.pass("http", start + LOG_INTERVAL), Some(1));
        assert_eq!(limit.pass("http", start + LOG_INTERVAL), None);
        assert_eq!(limit.pass("http", start + 9 * LOG_INTERVAL), Some(1));
    }

    #[test]
    fn suppressed_lines_are_reported_even_if_nothing_more_happens() {
        let start = Instant::now();
        let mut limit = LineLimit::new(start);
        assert_eq!(limit.due(start + 2 * LOG_INTERVAL), None, "nothing was suppressed");
        assert_eq!(limit.pass(start), None);
        assert_eq!(limit.due(start), None, "not yet");
        assert_eq!(limit.due(start + LOG_INTERVAL), Some(1));
        assert_eq!(limit.due(start + 3 * LOG_INTERVAL), None, "already reported");
    }
}
