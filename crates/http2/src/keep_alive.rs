//! Whether the client is alive, whether its streams make progress, and whether it completes the
//! frames that it began.
//!
//! The server checks from time to time: a connection has no timer of its own. While something is
//! written to a client, its kernel acknowledges it, or `TCP_USER_TIMEOUT` ends the connection. So
//! such a client gets a PING only rarely, in case its kernel is alive and its HTTP/2 hangs.

use std::cell::Cell;

use tokio::time::Instant;

use super::settings::Http2Settings;

/// A client that is written to, and sends nothing, gets a PING after this many intervals.
const WRITTEN_TO_INTERVALS: u32 = 6;

/// What is known about the client, shared by the connection and its server, on one thread.
///
/// The server [checks](Self::check) it, once a second or so. The connection records what comes.
#[derive(Debug)]
pub struct KeepAliveState {
    last_received: Cell<Instant>,
    ping: Cell<KeepAlivePing>,
    // Whether a stream waits for its send window.
    has_blocked: Cell<bool>,
    is_sweep_due: Cell<bool>,
    // Since when a frame or a header block is incomplete.
    unfinished_since: Cell<Option<Instant>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeepAlivePing {
    Idle,
    Due,
    Sent(Instant),
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAliveCheck {
    /// Nothing to do.
    Idle,
    /// The connection must be polled as notified: it sends a PING, or sweeps its blocked streams.
    Wake,
    /// A PING was not acknowledged in time: the connection is to be dropped.
    Dead,
}

impl KeepAliveState {
    /// The state of a connection that was accepted at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            last_received: Cell::new(now),
            ping: Cell::new(KeepAlivePing::Idle),
            has_blocked: Cell::new(false),
            is_sweep_due: Cell::new(false),
            unfinished_since: Cell::new(None),
        }
    }

    /// Checks the deadlines at `now`, and returns when to check again. Deadlines that begin later
    /// are not included. `written` is when something was last written to the client
    /// ([`Http2Server::writing`](super::Http2Server::writing)).
    ///
    /// Does not check incomplete frames: see [`unfinished_until`](Self::unfinished_until).
    pub fn check(
        &self,
        now: Instant,
        written: Instant,
        settings: &Http2Settings,
    ) -> (KeepAliveCheck, Instant) {
        let (interval, last_received) = (settings.keep_alive_interval, self.last_received.get());
        let mut next = (last_received.max(written) + interval)
            .min(last_received + interval * WRITTEN_TO_INTERVALS);
        if let KeepAlivePing::Sent(at) = self.ping.get() {
            let deadline = at + settings.keep_alive_timeout;
            if last_received >= at {
                self.ping.set(KeepAlivePing::Idle);
            } else if now >= deadline {
                return (KeepAliveCheck::Dead, now);
            } else {
                next = deadline;
            }
        }
        if now >= next {
            self.ping.set(KeepAlivePing::Due);
        }
        self.is_sweep_due.set(self.has_blocked.get());
        let must_wake = self.ping.get() == KeepAlivePing::Due || self.is_sweep_due.get();
        if must_wake { (KeepAliveCheck::Wake, now) } else { (KeepAliveCheck::Idle, next) }
    }

    /// The deadline of the incomplete frame or header block: past it, the connection is to be dropped.
    /// It does not count while the socket is full, since nothing is read then.
    pub fn unfinished_until(&self, settings: &Http2Settings) -> Option<Instant> {
        Some(self.unfinished_since.get()? + settings.header_timeout)
    }

    /// Notes since when a frame or a header block is incomplete; `None` if none is. Called by the
    /// connection.
    pub fn set_unfinished_since(&self, since: Option<Instant>) {
        self.unfinished_since.set(since);
    }

    /// Since when a frame or a header block is incomplete.
    pub(crate) fn unfinished_since(&self) -> Option<Instant> {
        self.unfinished_since.get()
    }

    /// Notes that the client has sent something. Called by the connection.
    pub fn received(&self, now: Instant) {
        self.last_received.set(now);
    }

    /// Whether a PING must be sent now. True once. Called by the connection.
    pub fn take_ping(&self, now: impl FnOnce() -> Instant) -> bool {
        let is_due = self.ping.get() == KeepAlivePing::Due;
        if is_due {
            self.ping.set(KeepAlivePing::Sent(now()));
        }
        is_due
    }

    /// Notes that a stream waits for its send window.
    pub(crate) fn note_blocked(&self) {
        self.has_blocked.set(true);
    }

    /// Whether the blocked streams must be checked now. Those that are still blocked must be noted
    /// again.
    pub(crate) fn take_sweep(&self) -> bool {
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

    use super::{KeepAliveCheck, KeepAliveState};
    use crate::settings::Http2Settings;

    #[test]
    fn a_quiet_client_gets_a_ping_and_is_dead_without_an_ack() {
        let settings = Http2Settings::default();
        let start = Instant::now();
        let keep_alive = KeepAliveState::new(start);
        let later = |seconds| start + Duration::from_secs(seconds);
        let check = |seconds| keep_alive.check(later(seconds), start, &settings);
        assert_eq!(check(1), (KeepAliveCheck::Idle, later(20)));
        assert_eq!(check(20).0, KeepAliveCheck::Wake);
        assert!(keep_alive.take_ping(|| later(20)));
        assert!(!keep_alive.take_ping(|| later(20)), "only once");
        assert_eq!(check(21), (KeepAliveCheck::Idle, later(40)), "the timeout has not passed");
        keep_alive.received(later(39));
        assert_eq!(check(41), (KeepAliveCheck::Idle, later(59)));
        assert_eq!(check(59).0, KeepAliveCheck::Wake);
        assert!(keep_alive.take_ping(|| later(59)));
        assert_eq!(check(79).0, KeepAliveCheck::Dead);
    }

    #[test]
    fn a_client_that_is_written_to_rarely_gets_a_ping() {
        let settings = Http2Settings::default();
        let start = Instant::now();
        let keep_alive = KeepAliveState::new(start);
        for seconds in (15..120).step_by(15) {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(
                keep_alive.check(now, now, &settings).0,
                KeepAliveCheck::Idle,
                "{seconds} s"
            );
        }
        let now = start + Duration::from_secs(120);
        assert_eq!(keep_alive.check(now, now, &settings).0, KeepAliveCheck::Wake);
    }

    #[test]
    fn blocked_streams_are_swept_in_the_next_round() {
        let settings = Http2Settings::default();
        let start = Instant::now();
        let keep_alive = KeepAliveState::new(start);
        keep_alive.note_blocked();
        assert_eq!(
            keep_alive.check(start, start, &settings),
            (KeepAliveCheck::Wake, start),
            "the round wakes the connection"
        );
        assert!(keep_alive.take_sweep());
        assert!(!keep_alive.take_sweep());
        assert_eq!(keep_alive.check(start, start, &settings).0, KeepAliveCheck::Idle);
    }
}
