//! A stream of the backend's own, on its way through.
//!
//! It goes on byte by byte as it comes, and may be quiet for as long as it likes: then a comment is
//! put into it where one may stand ([`crate::sse::interject`]), so that nobody on the way closes it.
//! One that is encoded passes untouched. [`BackendStreams`](super::backend_streams::BackendStreams) visits it when it is due.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame};
use tokio::time::Instant;

use super::Service;
use super::backend_streams::BackendStreamGuard;
use super::counted::CountedStream;
use crate::hub::{CloseReason, Shard};
use crate::proxy::UpstreamBody;
use crate::server::connection::{BodyError, Protocol};
use crate::sse::interject::Interjector;

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// More is handed over in pieces, so that each that is taken is seen as progress.
const MAX_PIECE: usize = 16 << 10;

/// How such a stream ended, where it was not the client or the gateway that ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassingEnd {
    /// The backend ended it in good order.
    Backend,
    /// It broke off at the backend.
    BackendFailed,
}

impl PassingEnd {
    /// Every one, for a metric that shows them all from the start.
    pub const ALL: [Self; 2] = [Self::Backend, Self::BackendFailed];

    /// The word in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backend => "backend_ended",
            Self::BackendFailed => "backend_failed",
        }
    }
}

/// Asks the backend for a stream that comments can be put into.
pub(super) const PLAIN_TEXT: (HeaderName, HeaderValue) =
    (ACCEPT_ENCODING, HeaderValue::from_static("identity"));

/// Whether the bytes of the body are not those of its type.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(CONTENT_ENCODING).iter();
    let mut codings = codings.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    codings.any(|coding| {
        let coding = coding.trim_ascii();
        !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")
    })
}

/// Tells proxies of nginx's kind not to collect the stream.
pub(super) fn forbid_buffering(headers: &mut HeaderMap) {
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
}

/// A backend's stream; counts it when it ends.
#[derive(Debug)]
pub struct PassingStream {
    body: UpstreamBody,
    // `None` where nothing may be put in.
    interjector: Option<Interjector>,
    // What came, and has not been handed over.
    rest: Bytes,
    // They come after the rest.
    trailers: Option<HeaderMap>,
    end: Option<PassingEnd>,
    state: Rc<State>,
    shard: Shard,
    counted: CountedStream,
    _guard: BackendStreamGuard,
}

impl PassingStream {
    /// Passes `body` on, with a comment when it was quiet for `keep_alive`; `cut` ends the request
    /// from outside.
    pub(super) fn new(
        mut body: UpstreamBody,
        headers: &HeaderMap,
        keep_alive: Option<Duration>,
        (service, counted): (&Service, CountedStream),
        cut: Box<dyn Fn()>,
    ) -> Self {
        body.allow_pauses();
        // Over HTTP/1.1 the connection is watched, down to the bytes that its socket takes.
        let is_watched = counted.protocol() == Protocol::Http2;
        let shard = service.shard();
        let write_timeout = shard.write_timeout();
        // A length that was promised leaves no room.
        let has_room = !is_encoded(headers) && !headers.contains_key(CONTENT_LENGTH);
        let keep_alive = keep_alive.filter(|_| has_room);
        let now = Instant::now();
        let state = Rc::new(State {
            keep_alive,
            write_timeout,
            is_watched,
            last_write: Cell::new(now),
            waits_since: Cell::new(None),
            is_quiet: Cell::new(false),
            is_draining: Cell::new(false),
            waker: RefCell::new(None),
            cut,
        });
        let first = now + keep_alive.unwrap_or(write_timeout).min(write_timeout);
        let guard = service.backend_streams().insert(Rc::clone(&state), first);
        Self {
            body,
            interjector: has_room.then(Interjector::default),
            rest: Bytes::new(),
            trailers: None,
            end: None,
            state,
            shard: shard.clone(),
            counted,
            _guard: guard,
        }
    }

    /// The next piece of the stream.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if !self.rest.is_empty() {
                let piece = self.rest.split_to(self.rest.len().min(MAX_PIECE));
                return Poll::Ready(Some(Ok(Frame::data(self.handed_over(piece)))));
            }
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            if self.end.is_some() || self.is_drained() {
                return Poll::Ready(None);
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.take(frame),
                Poll::Ready(Some(Err(error))) => {
                    self.end = Some(PassingEnd::BackendFailed);
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => {
                    self.rest =
                        self.interjector.as_mut().map(Interjector::finish).unwrap_or_default();
                    self.end = Some(PassingEnd::Backend);
                }
                Poll::Pending => {
                    if self.counted.takes_probe() {
                        self.state.is_quiet.set(true);
                    }
                    if let Some(comment) = self.due_comment() {
                        return Poll::Ready(Some(Ok(Frame::data(self.handed_over(comment)))));
                    }
                    self.state.wait(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    fn take(&mut self, frame: Frame<Bytes>) {
        match (frame.into_data(), &mut self.interjector) {
            (Ok(data), None) => self.rest = data,
            (Ok(data), Some(interjector)) => self.rest = interjector.pass(data),
            (Err(frame), interjector) => {
                self.rest = interjector.as_mut().map(Interjector::finish).unwrap_or_default();
                self.trailers = frame.into_trailers().ok();
            }
        }
    }

    fn due_comment(&mut self) -> Option<Bytes> {
        self.interjector.as_mut().filter(|_| self.state.is_quiet.get())?.comment()
    }

    /// Whether the gateway is stopping, and all events that went out are whole.
    fn is_drained(&self) -> bool {
        let is_whole = self.interjector.as_ref().is_some_and(Interjector::is_between_blocks);
        self.state.is_draining.get() && is_whole
    }

    fn handed_over(&self, piece: Bytes) -> Bytes {
        self.shard.metrics().stream_bytes_sent(piece.len());
        self.state.handed_over(Instant::now());
        piece
    }

    fn close_reason(&self) -> &'static str {
        let reason = match self.end {
            Some(end) => return end.as_str(),
            None if self.state.is_stalled() || self.counted.is_stalled() => CloseReason::Stalled,
            None if self.is_drained() => CloseReason::Drained,
            None => CloseReason::ClientLeft,
        };
        reason.as_str()
    }
}

impl Drop for PassingStream {
    fn drop(&mut self) {
        self.counted.close(self.close_reason());
    }
}

/// What [`BackendStreams`](super::backend_streams::BackendStreams) sees of the stream.
pub(super) struct State {
    keep_alive: Option<Duration>,
    write_timeout: Duration,
    // Whether a piece that nobody takes is noticed here.
    is_watched: bool,
    last_write: Cell<Instant>,
    // Since when a piece is on its way: while it waits for HTTP/2 window, the body is not polled.
    waits_since: Cell<Option<Instant>>,
    // Whether a comment is due.
    is_quiet: Cell<bool>,
    is_draining: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    cut: Box<dyn Fn()>,
}

impl State {
    fn handed_over(&self, now: Instant) {
        self.last_write.set(now);
        self.is_quiet.set(false);
        self.waits_since.set(self.is_watched.then_some(now));
    }

    /// Whether a piece has been on its way for too long. Whoever carries the stream may have seen it
    /// first.
    fn is_stalled(&self) -> bool {
        self.waits_since.get().is_some_and(|since| since.elapsed() >= self.write_timeout)
    }

    /// All was taken that there is.
    fn wait(&self, cx: &Context<'_>) {
        self.waits_since.set(None);
        *self.waker.borrow_mut() = Some(cx.waker().clone());
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Keeps a quiet stream alive, cuts one off that cannot be written to. Returns when to visit it
    /// again; `None`: never.
    pub(super) fn visit(&self, now: Instant) -> Option<Instant> {
        if let Some(since) = self.waits_since.get() {
            let due = since + self.write_timeout;
            if now < due {
                return Some(due);
            }
            (self.cut)();
            return None;
        }
        let again = now + self.write_timeout;
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
        self.is_draining.set(true);
        self.wake();
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("keep_alive", &self.keep_alive).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::is_encoded;

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_coding_is_seen_and_none_at_all_is_none() {
        for (codings, expected) in [
            (&[][..], false),
            (&["identity"], false),
            (&["Identity, "], false),
            (&["gzip"], true),
            (&["identity", "br"], true),
            (&["identity, zstd"], true),
        ] {
            assert_eq!(is_encoded(&headers("content-encoding", codings)), expected, "{codings:?}");
        }
    }
}
