//! The body of a request, between the connection and its reader.
//!
//! Bounded by the window of its stream: octets return to that window when they have been read, and
//! not before. The reader may run in another task than the connection, hence the lock.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::consumed::ConsumedOctets;

/// Small pieces are merged up to this size: each piece costs an allocation, and the client chooses
/// how small they are.
const MAX_MERGED: usize = 16 << 10;
/// A piece of this size or more is not merged: merging would copy it.
const LARGE_PIECE: usize = 2 << 10;

/// The body as its reader sees it: nothing is buffered beyond the window of its stream.
// `None`: the request has no body.
#[derive(Debug)]
pub struct IncomingBody(Option<Arc<SharedBody>>);

/// The body as the connection sees it: where received octets go.
#[derive(Debug)]
pub(crate) struct BodyFeed(Arc<SharedBody>);

#[derive(Debug)]
struct SharedBody {
    state: Mutex<BodyState>,
    stream: Waker,
    // Shared by all streams of the connection.
    consumed: Arc<ConsumedOctets>,
}

#[derive(Debug)]
struct BodyState {
    chunks: VecDeque<BytesMut>,
    // `content-length` less the octets read.
    length: Option<u64>,
    read: usize,
    // The stream is woken once this much has been read since its last look.
    wake_at: usize,
    end: Option<RequestBodyEnd>,
    // The client expects 100 (Continue) before it sends the body (RFC 9110, section 10.1.1).
    awaits_continue: bool,
    was_polled: bool,
    reader: Option<Waker>,
    // The reader has been dropped: octets that come are counted as read, and dropped.
    is_reader_gone: bool,
    // The stream is closed, and its octets are credited: later reads do not count for the
    // connection.
    is_detached: bool,
}

#[derive(Debug)]
enum RequestBodyEnd {
    Complete(Option<HeaderMap>),
    Incomplete,
}

/// A new body. `consumed` counts what is read, for the connection.
pub(crate) fn channel(
    stream: Waker,
    consumed: Arc<ConsumedOctets>,
    window: u32,
    length: Option<u64>,
    awaits_continue: bool,
) -> (BodyFeed, IncomingBody) {
    let state = BodyState {
        chunks: VecDeque::new(),
        length,
        read: 0,
        wake_at: window as usize / 2,
        end: None,
        awaits_continue,
        was_polled: false,
        reader: None,
        is_reader_gone: false,
        is_detached: false,
    };
    let shared = Arc::new(SharedBody { state: Mutex::new(state), stream, consumed });
    (BodyFeed(Arc::clone(&shared)), IncomingBody(Some(shared)))
}

impl BodyFeed {
    /// Adds a piece; returns false if there is no reader. The piece counts as read then.
    pub(crate) fn push(&self, piece: &[u8]) -> bool {
        let mut state = self.0.lock();
        if state.is_reader_gone {
            state.count(piece.len(), &self.0.consumed);
            return false;
        }
        match state.chunks.back_mut() {
            Some(last) if piece.len() < LARGE_PIECE && last.len() + piece.len() <= MAX_MERGED => {
                last.extend_from_slice(piece);
            }
            _ => state.chunks.push_back(piece.into()),
        }
        wake(state);
        true
    }

    /// Counts padding as read: it never reaches a reader.
    pub(crate) fn discard(&self, padding: usize) {
        self.0.lock().count(padding, &self.0.consumed);
    }

    /// Detaches the body from its stream, which is closed. Returns what has been read since
    /// [`take_read`](Self::take_read), in octets; later reads do not count for the connection.
    pub(crate) fn detach(&self) -> usize {
        let mut state = self.0.lock();
        state.is_detached = true;
        std::mem::take(&mut state.read)
    }

    /// Whether the reader has been dropped: what still comes is dropped, too.
    pub(crate) fn is_reader_gone(&self) -> bool {
        self.0.lock().is_reader_gone
    }

    /// Marks the body as complete.
    pub(crate) fn end(&self, trailers: Option<HeaderMap>) {
        let mut state = self.0.lock();
        state.end = Some(RequestBodyEnd::Complete(trailers));
        wake(state);
    }

    /// Marks the body as incomplete: the reader gets an error, unless it was complete before.
    pub(crate) fn abort(&self) {
        let mut state = self.0.lock();
        if state.end.is_none() {
            state.end = Some(RequestBodyEnd::Incomplete);
            wake(state);
        }
    }

    /// Notes the new size of the stream's window.
    pub(crate) fn set_window(&self, window: usize) {
        self.0.lock().wake_at = window / 2;
    }

    /// Takes the octets read since the last call.
    pub(crate) fn take_read(&self) -> usize {
        std::mem::take(&mut self.0.lock().read)
    }

    /// Notes that the response begins: no interim response may follow (RFC 9113, section 8.1).
    pub(crate) fn forbid_continue(&self) {
        self.0.lock().awaits_continue = false;
    }

    /// Whether 100 (Continue) is to be sent now. True once.
    pub(crate) fn take_continue(&self) -> bool {
        let mut state = self.0.lock();
        state.was_polled && std::mem::take(&mut state.awaits_continue)
    }
}

impl Drop for BodyFeed {
    fn drop(&mut self) {
        self.abort();
    }
}

fn wake(mut state: MutexGuard<'_, BodyState>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

impl SharedBody {
    fn lock(&self) -> MutexGuard<'_, BodyState> {
        // No code that holds the lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BodyState {
    /// Counts octets as read; returns whether the stream must be woken.
    fn count(&mut self, octets: usize, consumed: &ConsumedOctets) -> bool {
        self.read += octets;
        let is_due = !self.is_detached && consumed.add(octets);
        is_due || self.read >= self.wake_at
    }
}

/// The stream was closed before the end of the request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream was closed before the end of the request body")]
pub struct IncompleteBody;

impl IncomingBody {
    /// The body of a request that has none.
    pub(crate) fn none() -> Self {
        Self(None)
    }
}

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = IncompleteBody;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncompleteBody>>> {
        let Some(shared) = &self.0 else { return Poll::Ready(None) };
        let mut state = shared.lock();
        if let Some(chunk) = state.chunks.pop_front() {
            let is_due = state.count(chunk.len(), &shared.consumed);
            state.length = state.length.map(|length| length.saturating_sub(chunk.len() as u64));
            // At the end of a body, too: what the window has grown by is released early.
            let is_end = state.chunks.is_empty() && state.end.is_some();
            drop(state);
            if is_due || is_end {
                shared.stream.wake_by_ref();
            }
            return Poll::Ready(Some(Ok(Frame::data(chunk.freeze()))));
        }
        match &mut state.end {
            Some(RequestBodyEnd::Complete(trailers)) => {
                Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Some(RequestBodyEnd::Incomplete) => Poll::Ready(Some(Err(IncompleteBody))),
            None => {
                state.reader = Some(cx.waker().clone());
                let is_news = !std::mem::replace(&mut state.was_polled, true);
                let asks = is_news && state.awaits_continue;
                drop(state);
                if asks {
                    shared.stream.wake_by_ref();
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let Some(shared) = &self.0 else { return true };
        let state = shared.lock();
        state.chunks.is_empty() && matches!(state.end, Some(RequestBodyEnd::Complete(None)))
    }

    fn size_hint(&self) -> SizeHint {
        let Some(shared) = &self.0 else { return SizeHint::with_exact(0) };
        shared.lock().length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for IncomingBody {
    fn drop(&mut self) {
        let Some(shared) = &self.0 else { return };
        let mut state = shared.lock();
        state.is_reader_gone = true;
        let unread: usize = state.chunks.drain(..).map(|chunk| chunk.len()).sum();
        state.count(unread, &shared.consumed);
        let is_news = state.read > 0;
        drop(state);
        if is_news {
            shared.stream.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;
    use http_body::Body as _;

    use super::{BodyFeed, ConsumedOctets, IncomingBody, MAX_MERGED, channel};
    use crate::wake_queue::{ConnectionPart, WakeQueue};

    fn body(awaits_continue: bool) -> (BodyFeed, IncomingBody, Arc<WakeQueue>) {
        let wakes = Arc::new(WakeQueue::default());
        let consumed = Arc::new(ConsumedOctets::default());
        consumed.take(16);
        let stream = wakes.waker(ConnectionPart::Stream(1));
        let (feed, incoming) = channel(stream, consumed, 8, None, awaits_continue);
        (feed, incoming, wakes)
    }

    fn read(body: &mut IncomingBody) -> Poll<Option<Result<Bytes, String>>> {
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(body).poll_frame(&mut context).map(|frame| {
            frame.map(|frame| match frame {
                Ok(frame) => Ok(frame.into_data().expect("data")),
                Err(error) => Err(error.to_string()),
            })
        })
    }

    fn was_woken(wakes: &WakeQueue) -> bool {
        let mut woken = Vec::new();
        wakes.take(&mut woken);
        !woken.is_empty()
    }

    #[test]
    fn the_stream_is_woken_once_half_of_its_window_is_read() {
        let (feed, mut body, wakes) = body(false);
        feed.push(b"abc");
        assert_eq!(read(&mut body), Poll::Ready(Some(Ok(Bytes::from_static(b"abc")))));
        assert!(!was_woken(&wakes), "3 of 8 octets");
        feed.push(b"def");
        assert_eq!(read(&mut body), Poll::Ready(Some(Ok(Bytes::from_static(b"def")))));
        assert!(was_woken(&wakes));
        assert_eq!(feed.take_read(), 6);
        feed.end(None);
        assert!(body.is_end_stream());
        assert_eq!(read(&mut body), Poll::Ready(None));
    }

    #[test]
    fn octets_of_a_closed_stream_are_credited_once() {
        let (feed, mut body, _wakes) = body(false);
        let consumed = Arc::clone(&feed.0.consumed);
        feed.push(&[b'x'; MAX_MERGED]);
        feed.push(b"abc");
        feed.discard(5);
        assert!(read(&mut body).is_ready());
        // The connection credits the other three when it removes the stream.
        assert_eq!((feed.detach(), consumed.take(16)), (MAX_MERGED + 5, MAX_MERGED + 5));
        assert!(read(&mut body).is_ready());
        drop(body);
        assert_eq!(consumed.take(16), 0);
    }

    #[test]
    fn a_body_whose_stream_is_gone_ends_with_an_error() {
        let (feed, mut body, _wakes) = body(false);
        feed.push(b"abc");
        drop(feed);
        assert!(matches!(read(&mut body), Poll::Ready(Some(Ok(_)))));
        assert!(matches!(read(&mut body), Poll::Ready(Some(Err(_)))));
    }

    #[test]
    fn small_pieces_are_merged() {
        let (feed, mut body, _wakes) = body(false);
        for _ in 0..MAX_MERGED + 1 {
            feed.push(b"x");
        }
        let lengths = [read(&mut body), read(&mut body)].map(|read| match read {
            Poll::Ready(Some(Ok(chunk))) => chunk.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(lengths, [MAX_MERGED, 1]);
    }

    #[test]
    fn the_stream_is_woken_at_the_end_of_a_body_however_short_it_is() {
        let (feed, mut body, wakes) = body(false);
        feed.push(b"a");
        feed.end(None);
        assert!(read(&mut body).is_ready());
        assert!(was_woken(&wakes));
        assert_eq!(feed.take_read(), 1);
    }

    #[test]
    fn octets_without_a_reader_count_as_read() {
        let (feed, body, wakes) = body(false);
        feed.push(b"abc");
        drop(body);
        assert!(was_woken(&wakes));
        assert!(!feed.push(b"de"));
        assert_eq!((feed.take_read(), feed.is_reader_gone()), (5, true));
    }

    #[test]
    fn a_100_continue_is_due_once_when_the_body_is_polled() {
        let (feed, mut body, wakes) = body(true);
        assert!(!feed.take_continue());
        assert!(read(&mut body).is_pending());
        assert!(was_woken(&wakes));
        assert!(feed.take_continue());
        assert!(!feed.take_continue(), "only once");
    }

    #[test]
    fn no_100_continue_is_due_once_the_response_has_begun() {
        let (feed, mut body, wakes) = body(true);
        feed.forbid_continue();
        assert!(read(&mut body).is_pending());
        assert!(!was_woken(&wakes) && !feed.take_continue());
    }
}
