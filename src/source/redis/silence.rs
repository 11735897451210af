//! When a connection is silent for too long. Pure, but for the clock.

use std::time::Duration;

use tokio::time::Instant;

use super::error::SourceError;

/// A `PING` is due after this long without data, and its reply may take as long again.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// How often a connection is checked for silence.
pub(super) const SILENCE_INTERVAL: Duration = Duration::from_millis(250);

/// How long nothing was read from a connection.
#[derive(Debug)]
pub(super) struct Silence {
    last_read: Instant,
    // The last check found the connection silent for too long.
    was_too_long: bool,
}

impl Silence {
    /// Starts with a connection that has just been opened.
    pub(super) fn new(now: Instant) -> Self {
        Self { last_read: now, was_too_long: false }
    }

    /// Records a read.
    pub(super) fn end(&mut self, now: Instant) {
        self.last_read = now;
    }

    /// When something was last read.
    pub(super) fn last_read(&self) -> Instant {
        self.last_read
    }

    /// Called every [`SILENCE_INTERVAL`]. Returns whether a `PING` is due.
    ///
    /// # Errors
    /// The connection was silent for too long, and was so at the last check: after this process was
    /// suspended, data that has arrived is read first.
    pub(super) fn check(&mut self, now: Instant) -> Result<bool, SourceError> {
        let silence = now.saturating_duration_since(self.last_read);
        let is_too_long = silence >= 2 * PING_INTERVAL;
        if std::mem::replace(&mut self.was_too_long, is_too_long) && is_too_long {
            return Err(SourceError::Unresponsive(silence.as_secs()));
        }
        Ok(silence >= PING_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Silence;

    #[test]
    fn a_silent_connection_is_pinged_and_fails_at_the_second_check_after_ten_seconds() {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!silence.check(at(4)).expect("not long"));
        assert!(silence.check(at(5)).expect("not too long"));
        silence.end(at(6));
        assert!(!silence.check(at(10)).expect("not long"));
        assert!(silence.check(at(16)).expect("the first check that finds it"));
        silence.end(at(16));
        assert!(!silence.check(at(17)).expect("it is over"));
        assert!(silence.check(at(26)).expect("the first one again"));
        let error = silence.check(at(27)).expect_err("the second one");
        assert_eq!(error.to_string(), "no data for 11 seconds, and no reply to PING");
    }
}
