//! What the bus warns of in the log, and how often: strangers can cause it with every connection, and
//! must not fill a disk.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::Instant;

/// Minimum time between two log lines of one kind.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BusWarning {
    /// A connection could not be accepted.
    Accept,
    /// A connection was refused: there are [`max_sessions`](super::BusSettings::max_sessions).
    TooManySessions,
    /// A subscriber was disconnected: it did not read.
    SlowSubscriber,
    /// A connection was closed: all of them together held too much.
    Memory,
    /// An entry of a stream was refused: all streams together held too much.
    StreamMemory,
    /// A connection was closed: it sent HTTP.
    Http,
}

/// When a warning of each kind was last logged. Pure: time is passed in.
#[derive(Debug, Default)]
pub(super) struct WarningLimit(RefCell<Vec<LastWarning>>);

#[derive(Debug)]
struct LastWarning {
    kind: BusWarning,
    logged: Instant,
    suppressed: u64,
}

impl WarningLimit {
    /// Records a warning. Returns `Some(n)` if it is to be logged now, where `n` is the number of
    /// warnings of this kind suppressed since the last one that was logged.
    pub(super) fn pass(&self, kind: BusWarning, now: Instant) -> Option<u64> {
        let mut kinds = self.0.borrow_mut();
        let Some(last) = kinds.iter_mut().find(|last| last.kind == kind) else {
            kinds.push(LastWarning { kind, logged: now, suppressed: 0 });
            return Some(0);
        };
        if now < last.logged + LOG_INTERVAL {
            last.suppressed += 1;
            return None;
        }
        last.logged = now;
        Some(std::mem::take(&mut last.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{BusWarning, LOG_INTERVAL, WarningLimit};

    #[test]
    fn the_first_warning_is_logged_at_once_and_later_ones_are_counted() {
        let (limit, start) = (WarningLimit::default(), Instant::now());
        assert_eq!(limit.pass(BusWarning::Http, start), Some(0));
        assert_eq!(limit.pass(BusWarning::Http, start), None);
        assert_eq!(limit.pass(BusWarning::Memory, start), Some(0), "each kind has its own limit");
        assert_eq!(limit.pass(BusWarning::Http, start + LOG_INTERVAL), Some(1));
        assert_eq!(limit.pass(BusWarning::Http, start + 2 * LOG_INTERVAL), Some(0));
    }
}
