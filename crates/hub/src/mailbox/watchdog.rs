//! The deadlines of one stream: keep-alives, stalled writes, its maximum age, and its end.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use super::close_reason::CloseReason;

/// How long a closed stream may write what is queued; then it is cut off.
pub const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// What a visit of a stream has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VisitAction {
    /// Nothing before this time.
    Nothing(Instant),
    /// A keep-alive: nothing was written for that long.
    KeepAlive,
    /// The end: the stream has reached its maximum age, or its credential has expired.
    End(CloseReason),
    /// The stream cannot be written to, and was cut off.
    Cut,
}

/// The deadlines of one stream, as they are seen when it is visited.
// In the order written: the fields that an event needs are last, beside the queue of the stream.
#[repr(C)]
pub(super) struct Watchdog {
    // Cuts the stream off from outside.
    cut: Box<dyn Fn()>,
    ends_at: Option<Instant>,
    closed_at: Cell<Instant>,
    last_write: Cell<Instant>,
    // Since when frames wait to be written; `None` while the transport asks for more and there is nothing.
    waits_since: Cell<Option<Instant>>,
    closed: Cell<Option<CloseReason>>,
    // Whether it is the credential that ends at `ends_at`, rather than the maximum age.
    expires: bool,
}

impl Watchdog {
    /// The deadlines of a stream that is opened now. `expires_at` is when the client's credential expires.
    pub(super) fn new(
        max_age: Option<Duration>,
        expires_at: Option<Instant>,
        cut: Box<dyn Fn()>,
        now: Instant,
    ) -> Self {
        // Up to a quarter earlier: streams that were opened together do not end together.
        let aged_at = max_age.map(|age| now + age.mul_f64(1.0 - fastrand::f64() / 4.0));
        let expires = expires_at.is_some_and(|at| aged_at.is_none_or(|aged_at| at < aged_at));
        Self {
            cut,
            ends_at: if expires { expires_at } else { aged_at },
            closed_at: Cell::new(now),
            last_write: Cell::new(now),
            waits_since: Cell::new(Some(now)),
            closed: Cell::new(None),
            expires,
        }
    }

    pub(super) fn closed(&self) -> Option<CloseReason> {
        self.closed.get()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    pub(super) fn close(&self, reason: CloseReason, now: Instant) {
        self.closed.set(Some(reason));
        self.closed_at.set(now);
    }

    /// A frame is queued.
    pub(super) fn note_queued(&self, now: Instant) {
        if self.waits_since.get().is_none() {
            self.waits_since.set(Some(now));
        }
    }

    /// Frames were handed to the transport. Until it asks for more they are on their way: while they wait
    /// for an HTTP/2 window, the body is not polled.
    pub(super) fn note_handed_over(&self, now: Instant) {
        self.last_write.set(now);
        self.waits_since.set(Some(now));
    }

    /// A part of what was handed over was written: the client is slow, but has not stopped.
    pub(super) fn note_progress(&self, now: Instant) {
        self.waits_since.set(Some(now));
    }

    /// Everything was written.
    pub(super) fn note_idle(&self) {
        self.waits_since.set(None);
    }

    /// When the stream is visited for the first time, or after a keep-alive.
    pub(super) fn next_visit(
        &self,
        now: Instant,
        keep_alive: Duration,
        write_timeout: Duration,
    ) -> Instant {
        self.before_end(now + keep_alive.min(write_timeout))
    }

    /// What is due now.
    pub(super) fn visit(
        &self,
        now: Instant,
        keep_alive: Duration,
        write_timeout: Duration,
    ) -> VisitAction {
        if self.is_closed() {
            let due = self.closed_at.get() + CLOSE_GRACE;
            return if now < due { VisitAction::Nothing(due) } else { self.cut() };
        }
        if self.ends_at.is_some_and(|end| now >= end) {
            let reason = if self.expires { CloseReason::Expired } else { CloseReason::Aged };
            return VisitAction::End(reason);
        }
        if let Some(since) = self.waits_since.get() {
            let due = since + write_timeout;
            if now < due {
                return VisitAction::Nothing(self.before_end(due));
            }
            self.close(CloseReason::Stalled, now);
            return self.cut();
        }
        let due = self.last_write.get() + keep_alive;
        if now < due {
            // No later than this, so that a stall is found in time.
            return VisitAction::Nothing(self.before_end(due.min(now + write_timeout)));
        }
        VisitAction::KeepAlive
    }

    fn cut(&self) -> VisitAction {
        (self.cut)();
        VisitAction::Cut
    }

    fn before_end(&self, due: Instant) -> Instant {
        self.ends_at.map_or(due, |end| due.min(end))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{CLOSE_GRACE, VisitAction, Watchdog};
    use crate::mailbox::close_reason::CloseReason;

    const KEEP_ALIVE: Duration = Duration::from_secs(15);
    const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

    fn watchdog(now: Instant) -> (Watchdog, Rc<Cell<bool>>) {
        let is_cut = Rc::new(Cell::new(false));
        let cut = Rc::clone(&is_cut);
        (Watchdog::new(None, None, Box::new(move || cut.set(true)), now), is_cut)
    }

    #[test]
    fn a_quiet_stream_is_kept_alive_and_a_stalled_one_is_cut() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (watchdog, is_cut) = watchdog(start);
        let visit = |seconds| watchdog.visit(at(seconds), KEEP_ALIVE, WRITE_TIMEOUT);

        watchdog.note_handed_over(at(1));
        watchdog.note_idle();
        assert_eq!(visit(2), VisitAction::Nothing(at(16)));
        assert_eq!(visit(16), VisitAction::KeepAlive);

        watchdog.note_queued(at(20));
        watchdog.note_queued(at(25));
        assert_eq!(visit(26), VisitAction::Nothing(at(50)));
        watchdog.note_progress(at(40));
        assert_eq!(visit(50), VisitAction::Nothing(at(70)));
        assert_eq!((visit(70), is_cut.get()), (VisitAction::Cut, true));
        assert_eq!(watchdog.closed(), Some(CloseReason::Stalled));
    }

    #[test]
    fn a_closed_stream_is_cut_after_its_grace() {
        let start = Instant::now();
        let (watchdog, is_cut) = watchdog(start);
        watchdog.close(CloseReason::Lagged, start);
        let end = start + CLOSE_GRACE;
        let visit = |now| watchdog.visit(now, KEEP_ALIVE, WRITE_TIMEOUT);
        assert_eq!((visit(start), is_cut.get()), (VisitAction::Nothing(end), false));
        assert_eq!((visit(end), is_cut.get()), (VisitAction::Cut, true));
        assert_eq!(watchdog.closed(), Some(CloseReason::Lagged));
    }

    #[test]
    fn a_stream_ends_with_its_credential_or_its_age_whichever_is_first() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (max_age, expires, ends, reason) in [
            (None, Some(5), 5, CloseReason::Expired),
            (Some(100), Some(5), 5, CloseReason::Expired),
            (Some(4), Some(5), 4, CloseReason::Aged),
        ] {
            let (max_age, expires) = (max_age.map(Duration::from_secs), expires.map(at));
            let watchdog = Watchdog::new(max_age, expires, Box::new(|| {}), start);
            let visit = |now| watchdog.visit(now, KEEP_ALIVE, WRITE_TIMEOUT);
            assert!(watchdog.next_visit(start, KEEP_ALIVE, WRITE_TIMEOUT) <= at(ends));
            assert!(matches!(visit(at(2)), VisitAction::Nothing(due) if due <= at(ends)));
            assert_eq!(visit(at(ends)), VisitAction::End(reason));
        }
    }
}
