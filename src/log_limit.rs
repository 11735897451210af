//! How often the same thing is logged: at once, and then every ten seconds with a count.
//!
//! For what can happen with every request or connection. Pure: time is passed in.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Two lines of one kind are so far apart.
pub const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// One kind of line.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    logged: Instant,
    count: u64,
}

impl Held {
    /// A line that is written now.
    pub fn new(now: Instant) -> Self {
        Self { logged: now, count: 0 }
    }

    /// It happens once more. `Some`: a line may be written, and stands for so many others that were
    /// held back before.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        if now < self.logged + LOG_INTERVAL {
            self.count += 1;
            return None;
        }
        self.logged = now;
        Some(std::mem::take(&mut self.count))
    }

    /// How many were held back, when it is time to tell.
    pub fn due(&mut self, now: Instant) -> Option<u64> {
        if self.count == 0 || now < self.logged + LOG_INTERVAL {
            return None;
        }
        self.logged = now;
        Some(std::mem::take(&mut self.count))
    }
}

/// Limits lines of several kinds, each for itself, over all threads.
#[derive(Debug, Default)]
pub struct LogLimit(Mutex<Vec<(&'static str, Held)>>);

impl LogLimit {
    /// No line has been written yet.
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// It happens. `Some`: a line may be written, and stands for so many others of this kind that were
    /// held back before.
    pub fn pass(&self, kind: &'static str, now: Instant) -> Option<u64> {
        let mut kinds = self.lock();
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, held)) => held.pass(now),
            None => {
                kinds.push((kind, Held::new(now)));
                Some(0)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(&'static str, Held)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{Held, LOG_INTERVAL, LogLimit};

    #[test]
    fn the_first_is_logged_at_once_and_the_others_are_counted() {
        let (limit, start) = (LogLimit::new(), Instant::now());
        assert_eq!(limit.pass("http", start), Some(0));
        assert_eq!(limit.pass("http", start), None);
        assert_eq!(limit.pass("other", start), Some(0), "each kind for itself");
        assert_eq!(limit.pass("http", start + LOG_INTERVAL), Some(1));
        assert_eq!(limit.pass("http", start + LOG_INTERVAL), None);
        assert_eq!(limit.pass("http", start + 9 * LOG_INTERVAL), Some(1));
    }

    #[test]
    fn what_was_held_back_is_told_also_where_nothing_more_happens() {
        let start = Instant::now();
        let mut held = Held::new(start);
        assert_eq!(held.due(start + 2 * LOG_INTERVAL), None, "nothing was held back");
        assert_eq!(held.pass(start), None);
        assert_eq!(held.due(start), None, "not yet");
        assert_eq!(held.due(start + LOG_INTERVAL), Some(1));
        assert_eq!(held.due(start + 3 * LOG_INTERVAL), None, "told already");
    }
}
