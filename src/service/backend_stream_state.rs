//! When a backend's event stream was written to, and what is due on it.
//!
//! Its body records each write and asks what to do; the timer of the shard visits it. Does not know the
//! bytes of the stream.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::task::{Context, Waker};
use std::time::Duration;

use ssegate_hub::{CLOSE_GRACE, CloseReason};
use tokio::time::Instant;

/// The state of one backend stream.
pub(super) struct BackendStreamState {
    keep_alive: Option<Duration>,
    // When the client's credential expires.
    expires_at: Option<Instant>,
    // Whether the write timeout is enforced here.
    is_watched: bool,
    // Whether the drain of the gateway does not end it: its pump continues until the drain is over.
    is_kept: bool,
    last_write: Cell<Instant>,
    // When the last piece was returned; `None` once the body is polled again. While a piece waits
    // for flow-control window, the body is not polled.
    waits_since: Cell<Option<Instant>>,
    // Whether a comment is due.
    is_quiet: Cell<bool>,
    is_draining: Cell<bool>,
    // Why the gateway ends the stream, and since when it may.
    ended: Cell<Option<(CloseReason, Instant)>>,
    waker: RefCell<Option<Waker>>,
    cut: Box<dyn Fn()>,
}

impl BackendStreamState {
    /// Creates the state of a stream that was opened at `now`. `expires_at` is when the client's credential
    /// expires. `is_watched`: the write timeout is enforced here. `is_kept`: the drain does not end it. `cut`
    /// aborts the request.
    pub(super) fn new(
        (keep_alive, expires_at): (Option<Duration>, Option<Instant>),
        (is_watched, is_kept): (bool, bool),
        now: Instant,
        cut: Box<dyn Fn()>,
    ) -> Self {
        Self {
            keep_alive,
            expires_at,
            is_watched,
            is_kept,
            last_write: Cell::new(now),
            waits_since: Cell::new(None),
            is_quiet: Cell::new(false),
            is_draining: Cell::new(false),
            ended: Cell::new(None),
            waker: RefCell::new(None),
            cut,
        }
    }

    /// Makes a comment due.
    pub(super) fn request_comment(&self) {
        self.is_quiet.set(true);
    }

    /// Whether a comment is due.
    pub(super) fn is_comment_due(&self) -> bool {
        self.is_quiet.get()
    }

    /// Whether the stream is to end after the event that is being sent: the gateway is stopping, or the client
    /// is not allowed any more.
    pub(super) fn is_ending(&self) -> bool {
        self.is_draining.get() || self.ended.get().is_some()
    }

    /// Why the gateway has ended the stream, other than to stop.
    pub(super) fn ended(&self) -> Option<CloseReason> {
        self.ended.get().map(|(reason, _)| reason)
    }

    /// Ends the stream after the event that is being sent. [`Self::visit`] cuts it off after [`CLOSE_GRACE`].
    pub(super) fn end(&self, reason: CloseReason, now: Instant) {
        if self.ended.get().is_none() {
            self.ended.set(Some((reason, now)));
            self.wake();
        }
    }

    /// A piece was returned to the connection.
    pub(super) fn record_write(&self, now: Instant) {
        self.last_write.set(now);
        self.is_quiet.set(false);
        self.waits_since.set(self.is_watched.then_some(now));
    }

    /// Whether a piece was not written within the write timeout.
    pub(super) fn is_stalled(&self, write_timeout: Duration) -> bool {
        self.waits_since.get().is_some_and(|since| since.elapsed() >= write_timeout)
    }

    /// All pieces have been written; stores the waker for the next comment.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        self.waits_since.set(None);
        *self.waker.borrow_mut() = Some(cx.waker().clone());
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Keeps a quiet stream alive, and aborts one that cannot be written to. Returns when to visit it
    /// again; `None`: never.
    pub(super) fn visit(&self, now: Instant, write_timeout: Duration) -> Option<Instant> {
        if self.expires_at.is_some_and(|at| now >= at) {
            self.end(CloseReason::Expired, now);
        }
        let Some((_, since)) = self.ended.get() else {
            return self.visit_open(now, write_timeout).map(|next| self.before_end(next));
        };
        let due = since + CLOSE_GRACE;
        if now < due {
            return Some(due);
        }
        (self.cut)();
        None
    }

    /// `due`, or when the credential expires, if that is earlier.
    pub(super) fn before_end(&self, due: Instant) -> Instant {
        self.expires_at.map_or(due, |at| due.min(at))
    }

    fn visit_open(&self, now: Instant, write_timeout: Duration) -> Option<Instant> {
        if let Some(since) = self.waits_since.get() {
            let due = since + write_timeout;
            if now < due {
                return Some(due);
            }
            (self.cut)();
            return None;
        }
        let again = now + write_timeout;
        let Some(keep_alive) = self.keep_alive else {
            return Some(again);
        };
        let due = self.last_write.get() + keep_alive;
        if now < due {
            return Some(due.min(again));
        }
        self.is_quiet.set(true);
        self.wake();
        Some(again.min(now + keep_alive))
    }

    /// The gateway is stopping: ends the stream after the event that is being sent.
    pub(super) fn drain(&self) {
        if self.is_kept {
            return;
        }
        self.is_draining.set(true);
        self.wake();
    }
}

impl fmt::Debug for BackendStreamState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendStreamState")
            .field("keep_alive", &self.keep_alive)
            .finish_non_exhaustive()
    }
}
