//! A response on its way from the connection task to its reader.
//!
//! The reader holds a [`ResponseFuture`] until the head has arrived, and then an [`Http2Body`].
//! Dropping either cancels the request: the task resets the stream. The buffer is bounded by the
//! stream window: credit is returned to the backend when data is read, and no sooner.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::reason::{LostRequest, Reason};
use crate::proxy::message;
use crate::proxy::upload::Upload;
use crate::server::connection::BodyError;
use crate::server::interim::Interim;

/// Small DATA frames are merged into chunks of up to this size: each chunk has an overhead in
/// memory, and the backend chooses the size of its frames.
const MAX_CHUNK: usize = 16 << 10;

/// The maximum number of buffered interim responses; further ones are dropped.
const MAX_INTERIM: usize = 16;

/// The task's end. Dropped before [`complete`](Self::complete), it fails the body.
#[derive(Debug)]
pub(super) struct ResponseSender(Rc<RefCell<ResponseState>>);

/// Resolves to the response head.
#[derive(Debug)]
pub(in crate::proxy) struct ResponseFuture {
    state: Option<Rc<RefCell<ResponseState>>>,
    interim: Interim,
}

/// The body of a response.
#[derive(Debug)]
pub(in crate::proxy) struct Http2Body(Rc<RefCell<ResponseState>>);

#[derive(Debug)]
struct ResponseState {
    // Interim responses that the reader has not taken.
    interim: Vec<(StatusCode, HeaderMap)>,
    // The head that the reader has not taken.
    head: Option<Result<Response<()>, Box<LostRequest>>>,
    chunks: VecDeque<BytesMut>,
    // Octets read since the task last returned credit.
    read: usize,
    // When this much is read, the task is woken to return credit.
    credit_at: usize,
    // The rest of the announced Content-Length.
    length: Option<u64>,
    end: Option<ResponseEnd>,
    reader: Option<Waker>,
    // Wakes the task for this stream.
    stream: Waker,
    is_reader_dropped: bool,
}

#[derive(Debug)]
enum ResponseEnd {
    Complete(Option<HeaderMap>),
    Failed(Reason),
}

/// Creates both ends of a response. `stream` wakes the task; `window` is the stream window in
/// octets.
pub(super) fn channel(stream: Waker, window: u32) -> (ResponseSender, ResponseFuture) {
    let state = Rc::new(RefCell::new(ResponseState {
        interim: Vec::new(),
        head: None,
        chunks: VecDeque::new(),
        read: 0,
        credit_at: (window / 2) as usize,
        length: None,
        end: None,
        reader: None,
        stream,
        is_reader_dropped: false,
    }));
    let response = ResponseFuture { state: Some(Rc::clone(&state)), interim: Interim::default() };
    (ResponseSender(state), response)
}

impl ResponseSender {
    /// Adds an interim response. Drops it if [`MAX_INTERIM`] are buffered, as any of them may be.
    pub(super) fn send_interim(&self, status: StatusCode, headers: HeaderMap) {
        let mut state = self.0.borrow_mut();
        if state.interim.len() < MAX_INTERIM {
            state.interim.push((status, headers));
            state.wake();
        }
    }

    /// Delivers the head. `length` is that of the body, if known.
    pub(super) fn send_head(&self, head: Response<()>, length: Option<u64>) {
        let mut state = self.0.borrow_mut();
        state.head = Some(Ok(head));
        state.length = length;
        state.wake();
    }

    /// Fails the request: there will be no response.
    pub(super) fn fail_request(&self, lost: LostRequest) {
        let mut state = self.0.borrow_mut();
        state.head = Some(Err(Box::new(lost)));
        state.wake();
    }

    /// Adds a piece of the body.
    pub(super) fn send_data(&self, piece: &[u8]) {
        let mut state = self.0.borrow_mut();
        if state.is_reader_dropped {
            return;
        }
        match state.chunks.back_mut() {
            Some(last) if last.len() + piece.len() <= MAX_CHUNK => last.extend_from_slice(piece),
            _ => state.chunks.push_back(piece.into()),
        }
        state.wake();
    }

    /// Ends the body.
    pub(super) fn complete(&self, trailers: Option<HeaderMap>) {
        let mut state = self.0.borrow_mut();
        state.end.get_or_insert(ResponseEnd::Complete(trailers));
        state.wake();
    }

    /// Fails the body: its rest will not arrive.
    pub(super) fn fail_body(&self, reason: Reason) {
        let mut state = self.0.borrow_mut();
        state.end.get_or_insert(ResponseEnd::Failed(reason));
        state.wake();
    }

    /// Whether the reader has dropped its end.
    pub(super) fn is_reader_dropped(&self) -> bool {
        self.0.borrow().is_reader_dropped
    }

    /// Sets the size of the stream window, in octets.
    pub(super) fn set_window(&self, window: usize) {
        self.0.borrow_mut().credit_at = window / 2;
    }

    /// Takes the number of octets read since the last call.
    pub(super) fn take_read(&self) -> usize {
        std::mem::take(&mut self.0.borrow_mut().read)
    }
}

impl Drop for ResponseSender {
    fn drop(&mut self) {
        self.fail_body(Reason::Task);
    }
}

impl ResponseState {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Records that the reader has dropped its end, and wakes the task.
    fn drop_reader(&mut self) {
        self.is_reader_dropped = true;
        self.chunks.clear();
        self.stream.wake_by_ref();
    }
}

impl ResponseFuture {
    /// Forwards interim responses to `interim`.
    pub(in crate::proxy) fn with_interim(mut self, interim: &Interim) -> Self {
        self.interim = interim.clone();
        self
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<Http2Body>, Box<LostRequest>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = self.state.take().expect("not polled after completion");
        let head = {
            let mut state = shared.borrow_mut();
            for (status, headers) in state.interim.drain(..) {
                message::forward_interim(&self.interim, status, headers);
            }
            match (state.head.take(), &state.end) {
                // The task has panicked, and the request is lost: nothing can be sent again.
                (None, Some(ResponseEnd::Failed(reason))) => {
                    let (reason, request) = (reason.clone(), Request::new(Upload::none()));
                    Some(Err(Box::new(LostRequest { reason, is_unprocessed: false, request })))
                }
                (None, _) => {
                    state.reader = Some(cx.waker().clone());
                    None
                }
                (head, _) => head,
            }
        };
        match head {
            None => {
                self.state = Some(shared);
                Poll::Pending
            }
            Some(Ok(head)) => Poll::Ready(Ok(head.map(|()| Http2Body(shared)))),
            Some(Err(lost)) => Poll::Ready(Err(lost)),
        }
    }
}

impl Drop for ResponseFuture {
    fn drop(&mut self) {
        if let Some(state) = &self.state {
            state.borrow_mut().drop_reader();
        }
    }
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let state = &mut *self.0.borrow_mut();
        if let Some(chunk) = state.chunks.pop_front() {
            state.read += chunk.len();
            state.length = state.length.map(|length| length.saturating_sub(chunk.len() as u64));
            if state.read >= state.credit_at && state.end.is_none() {
                state.stream.wake_by_ref();
            }
            return Poll::Ready(Some(Ok(Frame::data(chunk.freeze()))));
        }
        match &mut state.end {
            Some(ResponseEnd::Complete(trailers)) => {
                Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Some(ResponseEnd::Failed(reason)) => Poll::Ready(Some(Err(reason.clone().into()))),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.0.borrow();
        state.chunks.is_empty() && matches!(state.end, Some(ResponseEnd::Complete(None)))
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            return SizeHint::with_exact(0);
        }
        self.0.borrow().length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Http2Body {
    fn drop(&mut self) {
        self.0.borrow_mut().drop_reader();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use http::{HeaderMap, Response, StatusCode};
    use http_body::Body as _;

    use super::{
        Http2Body, MAX_CHUNK, MAX_INTERIM, Reason, ResponseFuture, ResponseSender, channel,
    };

    fn body() -> (ResponseSender, Http2Body) {
        let (sender, mut response) = channel(Waker::noop().clone(), 8);
        sender.send_head(Response::new(()), None);
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(response)) = Pin::new(&mut response).poll(&mut context) else {
            panic!("the head has arrived");
        };
        (sender, response.into_body())
    }

    fn read(body: &mut Http2Body) -> Poll<Option<Result<Vec<u8>, String>>> {
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(body).poll_frame(&mut context).map(|frame| {
            frame.map(|frame| match frame {
                Ok(frame) => Ok(frame.into_data().expect("data").to_vec()),
                Err(error) => Err(error.to_string()),
            })
        })
    }

    #[test]
    fn small_frames_are_merged_into_chunks() {
        let (sender, mut body) = body();
        for _ in 0..MAX_CHUNK + 1 {
            sender.send_data(b"x");
        }
        let lengths = [read(&mut body), read(&mut body)].map(|read| match read {
            Poll::Ready(Some(Ok(chunk))) => chunk.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(lengths, [MAX_CHUNK, 1]);
        assert_eq!(sender.take_read(), MAX_CHUNK + 1);
        assert_eq!(sender.take_read(), 0);
    }

    #[test]
    fn endless_interim_responses_are_bounded() {
        let (sender, _exchange) = channel(Waker::noop().clone(), 8);
        for _ in 0..2 * MAX_INTERIM {
            sender.send_interim(StatusCode::EARLY_HINTS, HeaderMap::new());
        }
        assert_eq!(sender.0.borrow().interim.len(), MAX_INTERIM);
    }

    #[test]
    fn a_request_fails_if_the_task_ends_before_the_head_arrives() {
        let (sender, mut response) = channel(Waker::noop().clone(), 8);
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut response).poll(&mut context).is_pending());
        drop(sender);
        let Poll::Ready(Err(lost)) = Pin::new(&mut response).poll(&mut context) else {
            panic!("still pending");
        };
        assert!(!lost.is_unprocessed && !lost.reason.is_connection_failure(), "{lost:?}");
    }

    #[test]
    fn data_that_arrived_before_a_failure_is_read_first() {
        let (sender, mut body) = body();
        sender.send_data(b"abc");
        sender.fail_body(Reason::Upload);
        sender.complete(None);
        assert_eq!(read(&mut body), Poll::Ready(Some(Ok(b"abc".to_vec()))));
        assert!(!body.is_end_stream());
        assert!(matches!(read(&mut body), Poll::Ready(Some(Err(_)))));
    }

    #[test]
    fn a_complete_body_stays_complete_when_the_connection_ends() {
        let (sender, mut body) = body();
        sender.complete(None);
        sender.fail_body(Reason::Upload);
        assert!(body.is_end_stream());
        assert_eq!(read(&mut body), Poll::Ready(None));
    }

    #[test]
    fn the_task_sees_that_the_reader_was_dropped() {
        let (sender, response): (ResponseSender, ResponseFuture) =
            channel(Waker::noop().clone(), 8);
        assert!(!sender.is_reader_dropped());
        drop(response);
        assert!(sender.is_reader_dropped());
        let (sender, body) = body();
        drop(body);
        assert!(sender.is_reader_dropped());
    }
}
