//! One response on its way from the task of a connection to its reader.
//!
//! The reader holds an [`Exchange`] until the head has arrived, and an [`Incoming`] body from then on.
//! Dropping either takes the request back: the task resets the stream. What waits here is bounded by
//! the window of the stream: it is credited to the backend as it is read, and no sooner.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::reason::{Lost, Reason};
use crate::proxy::message;
use crate::proxy::upload::Upload;
use crate::server::connection::BodyError;
use crate::server::interim::Interim;

/// DATA is collected in chunks of up to this size: every chunk costs memory of its own, and the
/// backend chooses how small its frames are.
const MAX_CHUNK: usize = 16 << 10;

/// Interim responses that wait; more are dropped.
const MAX_INTERIM: usize = 16;

/// The task's end. Dropped early, it cuts the body.
#[derive(Debug)]
pub(super) struct Feed(Rc<RefCell<State>>);

/// The reader's end until the head has arrived.
#[derive(Debug)]
pub(in crate::proxy) struct Exchange {
    state: Option<Rc<RefCell<State>>>,
    interim: Interim,
}

/// The body of a response.
#[derive(Debug)]
pub(in crate::proxy) struct Incoming(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    // What came before the head, until the reader takes it.
    interim: Vec<(StatusCode, HeaderMap)>,
    // Until the reader takes it.
    head: Option<Result<Response<()>, Box<Lost>>>,
    chunks: VecDeque<BytesMut>,
    // Read since the task asked last, in octets.
    read: usize,
    // When this much has been read, the task is woken to credit it.
    credit_at: usize,
    // What has been announced, less what has been read.
    length: Option<u64>,
    end: Option<End>,
    reader: Option<Waker>,
    // Wakes the task for this stream.
    stream: Waker,
    is_dropped: bool,
}

#[derive(Debug)]
enum End {
    Complete(Option<HeaderMap>),
    Cut(Reason),
}

/// Both ends of a response. `stream` wakes the task; `window` is that of the stream.
pub(super) fn channel(stream: Waker, window: u32) -> (Feed, Exchange) {
    let state = Rc::new(RefCell::new(State {
        interim: Vec::new(),
        head: None,
        chunks: VecDeque::new(),
        read: 0,
        credit_at: (window / 2) as usize,
        length: None,
        end: None,
        reader: None,
        stream,
        is_dropped: false,
    }));
    let exchange = Exchange { state: Some(Rc::clone(&state)), interim: Interim::default() };
    (Feed(state), exchange)
}

impl Feed {
    /// An interim response has arrived. Any may be dropped, so many that nobody takes them are.
    pub(super) fn interim(&self, status: StatusCode, headers: HeaderMap) {
        let mut state = self.0.borrow_mut();
        if state.interim.len() < MAX_INTERIM {
            state.interim.push((status, headers));
            state.wake();
        }
    }

    /// The head has arrived, of a body with this length if it is known.
    pub(super) fn head(&self, head: Response<()>, length: Option<u64>) {
        let mut state = self.0.borrow_mut();
        state.head = Some(Ok(head));
        state.length = length;
        state.wake();
    }

    /// There will be no response.
    pub(super) fn lose(&self, lost: Lost) {
        let mut state = self.0.borrow_mut();
        state.head = Some(Err(Box::new(lost)));
        state.wake();
    }

    /// A piece of the body has arrived.
    pub(super) fn push(&self, piece: &[u8]) {
        let mut state = self.0.borrow_mut();
        if state.is_dropped {
            return;
        }
        match state.chunks.back_mut() {
            Some(last) if last.len() + piece.len() <= MAX_CHUNK => last.extend_from_slice(piece),
            _ => state.chunks.push_back(piece.into()),
        }
        state.wake();
    }

    /// The body is complete.
    pub(super) fn complete(&self, trailers: Option<HeaderMap>) {
        let mut state = self.0.borrow_mut();
        state.end.get_or_insert(End::Complete(trailers));
        state.wake();
    }

    /// The rest of the body will not arrive.
    pub(super) fn cut(&self, reason: Reason) {
        let mut state = self.0.borrow_mut();
        state.end.get_or_insert(End::Cut(reason));
        state.wake();
    }

    /// Whether the reader has left.
    pub(super) fn is_dropped(&self) -> bool {
        self.0.borrow().is_dropped
    }

    /// The window of the stream is this large now, in octets.
    pub(super) fn set_window(&self, window: usize) {
        self.0.borrow_mut().credit_at = window / 2;
    }

    /// Takes how much has been read since this was called last, in octets.
    pub(super) fn take_read(&self) -> usize {
        std::mem::take(&mut self.0.borrow_mut().read)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.cut(Reason::Task);
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// The reader leaves.
    fn drop_reader(&mut self) {
        self.is_dropped = true;
        self.chunks.clear();
        self.stream.wake_by_ref();
    }
}

impl Exchange {
    /// Sends interim responses there.
    pub(in crate::proxy) fn with_interim(mut self, interim: &Interim) -> Self {
        self.interim = interim.clone();
        self
    }
}

impl Future for Exchange {
    type Output = Result<Response<Incoming>, Box<Lost>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = self.state.take().expect("not polled after it was ready");
        let head = {
            let mut state = shared.borrow_mut();
            for (status, headers) in state.interim.drain(..) {
                message::pass_on_interim(&self.interim, status, headers);
            }
            match (state.head.take(), &state.end) {
                // A panic has taken the request with it: there is nothing that could be sent again.
                (None, Some(End::Cut(reason))) => {
                    let (reason, request) = (reason.clone(), Request::new(Upload::none()));
                    Some(Err(Box::new(Lost { reason, is_unprocessed: false, request })))
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
            Some(Ok(head)) => Poll::Ready(Ok(head.map(|()| Incoming(shared)))),
            Some(Err(lost)) => Poll::Ready(Err(lost)),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(state) = &self.state {
            state.borrow_mut().drop_reader();
        }
    }
}

impl Body for Incoming {
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
            Some(End::Complete(trailers)) => {
                Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Some(End::Cut(reason)) => Poll::Ready(Some(Err(reason.clone().into()))),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.0.borrow();
        state.chunks.is_empty() && matches!(state.end, Some(End::Complete(None)))
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            return SizeHint::with_exact(0);
        }
        self.0.borrow().length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Incoming {
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

    use super::{Exchange, Feed, Incoming, MAX_CHUNK, MAX_INTERIM, Reason, channel};

    fn body() -> (Feed, Incoming) {
        let (feed, mut exchange) = channel(Waker::noop().clone(), 8);
        feed.head(Response::new(()), None);
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(response)) = Pin::new(&mut exchange).poll(&mut context) else {
            panic!("the head is there");
        };
        (feed, response.into_body())
    }

    fn read(body: &mut Incoming) -> Poll<Option<Result<Vec<u8>, String>>> {
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(body).poll_frame(&mut context).map(|frame| {
            frame.map(|frame| match frame {
                Ok(frame) => Ok(frame.into_data().expect("data").to_vec()),
                Err(error) => Err(error.to_string()),
            })
        })
    }

    #[test]
    fn small_frames_take_the_memory_of_their_octets() {
        let (feed, mut body) = body();
        for _ in 0..MAX_CHUNK + 1 {
            feed.push(b"x");
        }
        let lengths = [read(&mut body), read(&mut body)].map(|read| match read {
            Poll::Ready(Some(Ok(chunk))) => chunk.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(lengths, [MAX_CHUNK, 1]);
        assert_eq!(feed.take_read(), MAX_CHUNK + 1);
        assert_eq!(feed.take_read(), 0);
    }

    #[test]
    fn a_backend_that_sends_interim_responses_without_an_end_fills_no_memory() {
        let (feed, _exchange) = channel(Waker::noop().clone(), 8);
        for _ in 0..2 * MAX_INTERIM {
            feed.interim(StatusCode::EARLY_HINTS, HeaderMap::new());
        }
        assert_eq!(feed.0.borrow().interim.len(), MAX_INTERIM);
    }

    #[test]
    fn a_reader_whose_request_is_gone_learns_so_before_the_head_has_arrived() {
        let (feed, mut exchange) = channel(Waker::noop().clone(), 8);
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut exchange).poll(&mut context).is_pending());
        drop(feed);
        let Poll::Ready(Err(lost)) = Pin::new(&mut exchange).poll(&mut context) else {
            panic!("it still waits");
        };
        assert!(!lost.is_unprocessed && !lost.reason.is_of_the_connection(), "{lost:?}");
    }

    #[test]
    fn what_arrived_before_a_cut_is_read_first() {
        let (feed, mut body) = body();
        feed.push(b"abc");
        feed.cut(Reason::Upload);
        feed.complete(None);
        assert_eq!(read(&mut body), Poll::Ready(Some(Ok(b"abc".to_vec()))));
        assert!(!body.is_end_stream());
        assert!(matches!(read(&mut body), Poll::Ready(Some(Err(_)))));
    }

    #[test]
    fn a_body_that_is_complete_stays_so_when_the_connection_ends() {
        let (feed, mut body) = body();
        feed.complete(None);
        feed.cut(Reason::Upload);
        assert!(body.is_end_stream());
        assert_eq!(read(&mut body), Poll::Ready(None));
    }

    #[test]
    fn the_task_learns_that_the_reader_has_left() {
        let (feed, exchange): (Feed, Exchange) = channel(Waker::noop().clone(), 8);
        assert!(!feed.is_dropped());
        drop(exchange);
        assert!(feed.is_dropped());
        let (feed, body) = body();
        drop(body);
        assert!(feed.is_dropped());
    }
}
