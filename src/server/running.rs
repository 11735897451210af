//! A request whose response has not ended, and what it costs a client to take requests back.
//!
//! Over HTTP/2 a client may reset a stream at any time, and it is nearly free for the client. Who
//! does so again and again, before there can be an answer, makes us and a backend work for nothing
//! (Rapid Reset, CVE-2023-44487): that is counted for each connection. A response that has begun is
//! no such case: one connection of a proxy may carry many clients, who open streams and leave them.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::connection::{BodyError, ConnectionState};
use super::severable::{self, Switch};

/// A request that is taken back within this has been taken back too early.
const PREMATURE: Duration = Duration::from_secs(1);
/// So many of them within so long are no accident: who leaves a page takes back what that page still
/// waits for, and not page after page within seconds.
const MAX_RESETS: u32 = 100;
const RESETS_WINDOW: Duration = Duration::from_secs(10);

/// The requests that a client took back too early, on one connection.
#[derive(Debug)]
pub(super) struct Resets {
    // Since when is counted; begins anew when it is over.
    window: Cell<Instant>,
    count: Cell<u32>,
    exhausted: Cell<Option<Instant>>,
}

impl Resets {
    pub(super) fn new(now: Instant) -> Self {
        Self { window: Cell::new(now), count: Cell::new(0), exhausted: Cell::new(None) }
    }

    /// Since when there were too many.
    pub(super) fn exhausted(&self) -> Option<Instant> {
        self.exhausted.get()
    }

    /// Counts one; answers whether it was the one too many.
    pub(super) fn note(&self, now: Instant) -> bool {
        if now >= self.window.get() + RESETS_WINDOW {
            self.window.set(now);
            self.count.set(0);
        }
        self.count.set(self.count.get() + 1);
        let is_one_too_many = self.count.get() >= MAX_RESETS && self.exhausted.get().is_none();
        if is_one_too_many {
            self.exhausted.set(Some(now));
        }
        is_one_too_many
    }
}

/// A request whose response has not ended.
#[derive(Debug)]
pub(super) struct RunningRequest {
    connection: Rc<ConnectionState>,
    begun: Instant,
    // Its stream; `None` over HTTP/1.1, where a client can only hang up.
    stream: Option<Rc<Switch>>,
    is_answered: bool,
}

impl RunningRequest {
    /// The request that is being polled.
    pub(super) fn begin(connection: Rc<ConnectionState>) -> Self {
        connection.request_began();
        let stream = severable::current();
        Self { connection, begun: Instant::now(), stream, is_answered: false }
    }

    /// The response has begun.
    fn answered(mut self) -> Self {
        self.is_answered = true;
        self
    }

    fn is_taken_back(&self, now: Instant) -> bool {
        let is_left = self.stream.as_ref().is_some_and(|stream| !stream.is_cut());
        is_left && !self.is_answered && now < self.begun + PREMATURE
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        let now = Instant::now();
        self.connection.request_ended(now);
        if self.is_taken_back(now) {
            self.connection.request_taken_back(now);
        }
    }
}

pin_project! {
    /// A response's body, and with it the request that it answers.
    #[derive(Debug)]
    pub(super) struct RunningBody<B> {
        #[pin]
        body: B,
        running: RunningRequest,
    }
}

impl<B> RunningBody<B> {
    pub(super) fn new(body: B, running: RunningRequest) -> Self {
        Self { body, running: running.answered() }
    }
}

impl<B: Body<Data = Bytes, Error = BodyError>> Body for RunningBody<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{MAX_RESETS, RESETS_WINDOW, Resets};

    #[test]
    fn many_resets_in_a_short_time_are_too_many() {
        let start = Instant::now();
        let resets = Resets::new(start);
        for _ in 1..MAX_RESETS {
            assert!(!resets.note(start));
        }
        assert_eq!(resets.exhausted(), None);
        assert!(resets.note(start + Duration::from_secs(9)));
        assert!(!resets.note(start + Duration::from_secs(9)), "said once");
        assert!(resets.exhausted().is_some());
    }

    #[test]
    fn resets_over_a_long_time_are_not() {
        let start = Instant::now();
        let resets = Resets::new(start);
        for number in 0..10 * MAX_RESETS {
            assert!(!resets.note(start + number * 2 * RESETS_WINDOW / MAX_RESETS));
        }
    }
}
