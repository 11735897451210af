//! Whether the other end of a connection is still there, whether its streams get on, and whether it
//! ends the frames that it has begun.
//!
//! Looked after in the rounds of the shard: a connection has no timer of its own. To a client that
//! is written to, its kernel answers, or `TCP_USER_TIMEOUT` ends the connection: that one is asked
//! only now and then, in case that its HTTP/2 alone hangs.

use std::cell::Cell;

use tokio::time::Instant;

use crate::server::Http2Settings;

/// A client that is written to is asked after so many intervals in which it has said nothing.
const WRITTEN_TO: u32 = 6;

/// What is known of the other end, shared by a connection and the rounds of its shard.
#[derive(Debug)]
pub(in crate::server) struct KeepAlive {
    heard: Cell<Instant>,
    probe: Cell<Probe>,
    // Whether a stream waits for the client to open its window.
    has_blocked: Cell<bool>,
    is_sweep_due: Cell<bool>,
    // Since when a frame or a header block is underway whose end has not come.
    unfinished_since: Cell<Option<Instant>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    None,
    Due,
    Sent(Instant),
}

/// What a round finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Found {
    /// Nothing to do.
    Well,
    /// The connection has something to do.
    Work,
    /// Nobody has answered.
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

    /// What is to be done now, and when it is to be looked at again: no later than what goes on now
    /// will end. What begins after now is not in it. `written` is when something was written last.
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

    /// By when the client must have ended the frame or the header block that it has begun.
    pub(in crate::server) fn unfinished_until(&self, settings: &Http2Settings) -> Option<Instant> {
        Some(self.unfinished_since.get()? + settings.header_timeout)
    }

    /// Since when a frame or a header block is underway; `None`: the last one has ended.
    pub(in crate::server) fn set_unfinished_since(&self, since: Option<Instant>) {
        self.unfinished_since.set(since);
    }

    /// Since when something is underway that was not ended.
    pub(super) fn unfinished_since(&self) -> Option<Instant> {
        self.unfinished_since.get()
    }

    /// The other end has sent something.
    pub(in crate::server) fn heard(&self, now: Instant) {
        self.heard.set(now);
    }

    /// Whether a PING is to be sent now.
    pub(in crate::server) fn take_probe(&self, now: impl FnOnce() -> Instant) -> bool {
        let is_due = self.probe.get() == Probe::Due;
        if is_due {
            self.probe.set(Probe::Sent(now()));
        }
        is_due
    }

    /// A stream waits for its window.
    pub(super) fn note_blocked(&self) {
        self.has_blocked.set(true);
    }

    /// Whether the streams that wait are to be looked at now. Who still waits is to be noted again.
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
    fn a_quiet_client_is_asked_and_one_that_does_not_answer_is_dead() {
        let settings = Http2Settings::default();
        let start = Instant::now();
        let keep_alive = KeepAlive::new(start);
        let later = |seconds| start + Duration::from_secs(seconds);
        let round = |seconds| keep_alive.round(later(seconds), start, &settings);
        assert_eq!(round(1), (Found::Well, later(20)));
        assert_eq!(round(20).0, Found::Work);
        assert!(keep_alive.take_probe(|| later(20)));
        assert!(!keep_alive.take_probe(|| later(20)), "once");
        assert_eq!(round(21), (Found::Well, later(40)), "so long it may take");
        keep_alive.heard(later(39));
        assert_eq!(round(41), (Found::Well, later(59)));
        assert_eq!(round(59).0, Found::Work);
        assert!(keep_alive.take_probe(|| later(59)));
        assert_eq!(round(79).0, Found::Dead);
    }

    #[test]
    fn a_client_that_is_written_to_is_asked_now_and_then() {
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
    fn streams_that_wait_are_looked_at_in_each_round() {
        let settings = Http2Settings::default();
        let start = Instant::now();
        let keep_alive = KeepAlive::new(start);
        keep_alive.note_blocked();
        assert_eq!(
            keep_alive.round(start, start, &settings),
            (Found::Work, start),
            "and in the next"
        );
        assert!(keep_alive.take_sweep());
        assert!(!keep_alive.take_sweep());
        assert_eq!(keep_alive.round(start, start, &settings).0, Found::Well);
    }
}
