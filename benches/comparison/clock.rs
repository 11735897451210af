//! Time, as all of the benchmark counts it: nanoseconds of the monotonic clock.

use rustix::time::{ClockId, clock_gettime};

/// One second.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// One millisecond.
pub(crate) const MILLISECOND: u64 = 1_000_000;

/// The time since some fixed moment.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

/// This many seconds in nanoseconds.
pub(crate) fn seconds(seconds: f64) -> u64 {
    (seconds * SECOND as f64) as u64
}

/// Nanoseconds in seconds.
pub(crate) fn as_seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / SECOND as f64
}
