//! Whether the client is alive, whether its streams make progress, and whether it completes the
//! frames that it began.
//!
//! Checked in the rounds of the shard: a connection has no timer of its own. While something is
//! written to a client, its kernel acknowledges it, or `TCP_USER_TIMEOUT` ends the connection. So
//! such a client gets a PING only rarely, in case its kernel is alive and its HTTP/2 hangs.

use std::cell::Cell;

use tokio::time::Instant;

use crate::server::Http2Settings;

/// A client that is written to, and sends nothing, gets a PING after this many intervals.
const WRITTEN_TO: u32 = 6;

/// What is known about the client. Shared by the connection and the rounds of its shard.
#[derive(Debug)]
pub(in crate::server) struct KeepAlive {
    heard: Cell<Instant>,
    probe: Cell<Probe>,
    // Whether a stream waits for its send window.
    has_blocked: Cell<bool>,
    is_sweep_due: Cell<bool>,
    // Since when a frame or a header block is incomplete.
    unfinished_since: Cell<Option<Instant>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    None,
    Due,
    Sent(Instant),
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Found {
    /// Nothing to do.
    Well,
    /// The connection must be woken: it sends a PING, or sweeps its blocked streams.
    Work,
    /// A PING was not acknowledged in time.
    Dead,
}

impl KeepAlive {
    pub(in crate::server) fn new(now: Instant) -> Self {
        Self {
            heard: Cell::new(now),
            probe: Cell::new(Probe::None),
            has_blocked: Cell::new(false),
            is_sweep_due: Cell::new(false),
            unfinished_since: Cell::new(None),
        }
    }

    /// Checks the deadlines at `now`, and returns when to check again. Deadlines that begin later
    /// are not included. `written` is when something was last written to the client.
    pub(in crate::server) fn round(
        &self,
        now: Instant,
        written: Instant,
        settings: &Http2Settings,
    ) -> (Found, Instant) {
        let (interval, heard) = (settings.keep_alive_interval, self.heard.get());
        let mut next = (heard.max(written) + interval).min(heard + interval * WRITTEN_TO);
        if let Probe::Sent(at) = self.probe.get() {
            let end = at + settings.keep_alive_timeout;
            if heard >= at {
                self.probe.set(Probe::None);
            } else if now >= end {
                return (Found::Dead, now);
            } else {
                next = end;
            }
        }
        if now >= next {
            self.probe.set(Probe::Due);
        }
        self.is_sweep_due.set(self.has_blocked.get());
        let is_work = self.probe.get() == Probe::Due || self.is_sweep_due.get();
        if is_work { (Found::Work, now) } else { (Found::Well, next) }
    }

    /// The deadline of the incomplete frame or header block.
    pub(in crate::server) fn unfinished_until(&self, settings: &Http2Settings) -> Option<Instant> {
        Some(self.unfinished_since.get()? + settings.header_timeout)
    }

    /// Notes since when a frame or a header block is incomplete; `None` if none is.
    pub(super) fn set_unfinished_since(&self, since: Option<Instant>) {
        self.unfinished_since.set(since);
    }

    /// Since when a frame or a header block is incomplete.
    pub(super) fn unfinished_since(&self) -> Option<Instant> {
        self.unfinished_since.get()
    }

    /// Notes that the client has sent something.
    pub(super) fn heard(&self, now: Instant) {
        self.heard.set(now);
    }

    /// Whether a PING must be sent now. True once.
    pub(super) fn take_probe(&self, now: impl FnOnce() -> Instant) -> bool {
        let is_due = self.probe.get() == Probe::Due;
        if is_due {
            self.probe.set(Probe::Sent(now()));
        }
        is_due
    }

    /// Notes that a stream waits for its send window.
    pub(super) fn note_blocked(&self) {
        self.has_blocked.set(true);
    }

    /// Whether the blocked streams must be checked now. Those that are still blocked must be noted
    /// again.
    pub(super) fn take_sweep(&self) -> bool {
        let is_due = self.is_sweep_due.take();
        if is_due {
            self.has_blocked.set(false);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Found, KeepAlive};
    use crate::server::Http2Settings;

    #[test]
    fn a_quiet_client_gets_a_ping_and_is_dead_without_an_ack() {
        let settings = Http2Settings::default();
        let start = Instant::now();
        let keep_alive = KeepAlive::new(start);
        let later = |seconds| start + Duration::from_secs(seconds);
        let round = |seconds| keep_alive.round(later(seconds), start, &settings);
        assert_eq!(round(1), (Found::Well, later(20)));
        assert_eq!(round(20).0, Found::Work);
        assert!(keep_alive.take_probe(|| later(20)));
        assert!(!keep_alive.take_probe(|| later(20)), "only once");
        assert_eq!(round(21), (Found::Well, later(40)), "the timeout has not passed");
        keep_alive.heard(later(39));
        assert_eq!(round(41), (Found::Well, later(59)));
        assert_eq!(round(59).0, Found::Work);
        assert!(keep_alive.take_probe(|| later(59)));
        assert_eq!(round(79).0, Found::Dead);
    }

    #[test]
    fn a_client_that_is_written_to_rarely_gets_a_ping() {
        let settings = Http2Settings::default();
        let start = Instant::now();
        let keep_alive = KeepAlive::new(start);
        for seconds in (15..120).step_by(15) {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(keep_alive.round(now, now, &settings).0, Found::Well, "{seconds} s");
        }
        let now = start + Duration::from_secs(120);
        assert_eq!(keep_alive.round(now, now, &settings).0, Found::Work);
    }

    #[test]
    fn blocked_streams_are_swept_in_the_next_round() {
        let settings = Http2Settings::default();
        let start = Instant::now();
        let keep_alive = KeepAlive::new(start);
        keep_alive.note_blocked();
        assert_eq!(
            keep_alive.round(start, start, &settings),
            (Found::Work, start),
            "the round wakes the connection"
        );
        assert!(keep_alive.take_sweep());
        assert!(!keep_alive.take_sweep());
        assert_eq!(keep_alive.round(start, start, &settings).0, Found::Well);
    }
}
