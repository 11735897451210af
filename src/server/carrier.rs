//! An event stream over HTTP/1.1, written to its socket without hyper.
//!
//! hyper reads the request. If the response is an event stream, this takes the connection over from
//! hyper and writes the response's head and chunks. Each frame was encoded once with its chunk
//! header and trailer (RFC 9112, section 7.1). Between two events such a connection holds neither a
//! read nor a write buffer, and an event costs one write. The connection closes with its stream
//! (`connection: close`).

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::Response;
use http::header::DATE;
use http::response::Parts;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::date::date;
use super::http1::half_closed::{HalfCloseAction, HalfClosed};
use super::running::RunningRequest;
use super::socket_state::SocketState;
use super::transport::Transport;

/// The chunk that ends a body (RFC 9112, section 7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The most bytes that a client may send during a stream, where it has nothing to send. They are
/// read and discarded; beyond this the connection is closed.
const MAX_IGNORED_BYTES: usize = 64 << 10;

/// A body that may be an event stream whose frames are already chunk-encoded.
pub trait FramedBody {
    /// Whether it is, so that it can bypass hyper.
    fn is_framed(&self) -> bool;

    /// Returns the next frames with their chunk framing; `None` at the end.
    fn poll_chunks(&mut self, context: &mut Context<'_>)
    -> Poll<Option<Result<Bytes, BodyFailed>>>;

    /// Called when part of the last chunks was written: the client is reading.
    fn note_progress(&self);

    /// Requests a keep-alive comment, if one may be written now, to find out whether the client is
    /// still there.
    fn probe(&self);
}

/// A body failed before its end. The cause was logged where it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyFailed;

/// A response that is to bypass hyper.
#[derive(Debug)]
pub(super) struct StreamResponse<B> {
    pub(super) response: Response<B>,
    pub(super) running: RunningRequest,
}

/// The slot of a connection in which a request's handler leaves a response that is to bypass hyper.
#[derive(Debug)]
pub(super) struct ResponseSlot<B>(Rc<RefCell<Option<StreamResponse<B>>>>);

impl<B> ResponseSlot<B> {
    pub(super) fn new() -> Self {
        Self(Rc::default())
    }

    pub(super) fn put(&self, response: StreamResponse<B>) {
        *self.0.borrow_mut() = Some(response);
    }

    pub(super) fn is_filled(&self) -> bool {
        self.0.borrow().is_some()
    }

    pub(super) fn take(&self) -> Option<StreamResponse<B>> {
        self.0.borrow_mut().take()
    }
}

impl<B> Clone for ResponseSlot<B> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

/// Writes an event stream to its socket. Ends with the stream, or when the client closes.
#[derive(Debug)]
pub(super) struct Carrier<B> {
    transport: Transport,
    body: B,
    // Keeps the request in progress until the stream ends.
    _running: RunningRequest,
    pending: Bytes,
    socket: Arc<SocketState>,
    client: Option<Arc<ClientWaker>>,
    // How long a client that has closed its sending side is waited for; and since when it is.
    half_close: Duration,
    half_closed: Option<Box<HalfClosed>>,
    ignored: usize,
    has_started: bool,
    is_complete: bool,
    has_failed: bool,
}

/// How a stream, or an HTTP/2 connection, ended.
#[derive(Debug)]
pub(super) enum CarrierEnd<C> {
    /// It was complete, its client closed, or its socket failed.
    Done(io::Result<()>),
    /// Its body failed; the client must see a truncated response.
    BodyFailed,
    /// It was cut.
    Cut(C),
}

/// The waker for the socket. Sets a flag that distinguishes activity of the client from an event,
/// so that an event alone costs no read(2).
#[derive(Debug)]
struct ClientWaker {
    stream: Waker,
    socket: Arc<SocketState>,
}

impl Wake for ClientWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.socket.attention.raise();
        self.stream.wake_by_ref();
    }
}

impl<B: FramedBody> Carrier<B> {
    /// `half_close`: see [`Http1Settings`](super::settings::Http1Settings).
    pub(super) fn new(
        transport: Transport,
        socket: &Arc<SocketState>,
        response: StreamResponse<B>,
        half_close: Duration,
    ) -> Self {
        let StreamResponse { response, running } = response;
        let (parts, body) = response.into_parts();
        let pending = head(&parts);
        Self {
            transport,
            body,
            _running: running,
            pending,
            socket: Arc::clone(socket),
            client: None,
            half_close,
            half_closed: None,
            ignored: 0,
            has_started: false,
            is_complete: false,
            has_failed: false,
        }
    }

    /// Appends the first chunks to the head, so that both go out in one packet.
    fn join_first_chunks(&mut self, context: &mut Context<'_>) {
        match self.body.poll_chunks(context) {
            Poll::Ready(Some(Ok(chunks))) => {
                let mut both = BytesMut::with_capacity(self.pending.len() + chunks.len());
                both.put_slice(&self.pending);
                both.put_slice(&chunks);
                self.pending = both.freeze();
            }
            Poll::Ready(Some(Err(BodyFailed))) => self.has_failed = true,
            Poll::Ready(None) | Poll::Pending => {}
        }
    }

    /// Writes the stream until it ends or is cut. Polls `poll_cut` only when the flag of
    /// [`SocketState`] is set.
    pub(super) fn poll<C>(
        &mut self,
        context: &mut Context<'_>,
        poll_cut: impl FnOnce(&mut Context<'_>) -> Poll<C>,
    ) -> Poll<CarrierEnd<C>> {
        if !std::mem::replace(&mut self.has_started, true) {
            self.join_first_chunks(context);
        }
        let has_attention = self.socket.attention.take();
        let mut ended = self.poll_stream(context);
        if ended.is_pending() && has_attention {
            ended = self.poll_client(context).map(CarrierEnd::Done);
        }
        match ended {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending if has_attention => poll_cut(context).map(CarrierEnd::Cut),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_stream<C>(&mut self, context: &mut Context<'_>) -> Poll<CarrierEnd<C>> {
        loop {
            match self.poll_write(context) {
                Ok(written) => ready!(written),
                Err(error) => return Poll::Ready(CarrierEnd::Done(Err(error))),
            }
            if self.has_failed {
                // Without the last chunk the client sees a truncated body.
                self.socket.options.reset_when_closed();
                return Poll::Ready(CarrierEnd::BodyFailed);
            }
            if self.is_complete {
                return self.poll_shutdown(context).map(CarrierEnd::Done);
            }
            match self.body.poll_chunks(context) {
                Poll::Ready(Some(Ok(chunks))) => self.pending = chunks,
                Poll::Ready(Some(Err(BodyFailed))) => self.has_failed = true,
                Poll::Ready(None) => {
                    self.pending = Bytes::from_static(LAST_CHUNK);
                    self.is_complete = true;
                }
                Poll::Pending => {
                    // rustls may still buffer some bytes.
                    let flushed = Pin::new(&mut self.transport).poll_flush(context);
                    if let Poll::Ready(Err(error)) = flushed {
                        return Poll::Ready(CarrierEnd::Done(Err(error)));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.transport).poll_flush(context))?;
        Pin::new(&mut self.transport).poll_shutdown(context)
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, io::Error> {
        while self.pending.has_remaining() {
            let written = Pin::new(&mut self.transport).poll_write(context, &self.pending);
            let Poll::Ready(written) = written else {
                return Ok(Poll::Pending);
            };
            match written? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.pending.advance(written),
            }
            if let Some(half_closed) = &mut self.half_closed {
                half_closed.note_write();
            }
            if self.pending.has_remaining() {
                self.body.note_progress();
            }
        }
        // Frees the frame now, not when the next event arrives.
        self.pending = Bytes::new();
        Ok(Poll::Ready(()))
    }

    /// Waits for the client to close, and discards what it sends.
    fn poll_client(&mut self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let client = self.client.get_or_insert_with(|| {
            let socket = Arc::clone(&self.socket);
            Arc::new(ClientWaker { stream: context.waker().clone(), socket })
        });
        let waker = Arc::clone(client).into();
        let mut context = Context::from_waker(&waker);
        let mut ignored = [0; 512];
        loop {
            if let Some(half_closed) = &mut self.half_closed {
                match ready!(half_closed.poll(&mut context)) {
                    HalfCloseAction::Close => return Poll::Ready(Ok(())),
                    HalfCloseAction::Probe => self.body.probe(),
                }
                continue;
            }
            let mut buffer = ReadBuf::new(&mut ignored);
            ready!(Pin::new(&mut self.transport).poll_read(&mut context, &mut buffer))?;
            let length = buffer.filled().len();
            self.ignored += length;
            if self.ignored > MAX_IGNORED_BYTES || length == 0 && self.half_close.is_zero() {
                return Poll::Ready(Ok(()));
            }
            if length == 0 {
                // It may be gone, or only have closed its sending side.
                self.half_closed = Some(Box::new(HalfClosed::new(self.half_close)));
            }
        }
    }
}

/// Encodes the response's status line and header (RFC 9112, section 4).
fn head(parts: &Parts) -> Bytes {
    let mut head = BytesMut::with_capacity(256);
    head.put_slice(b"HTTP/1.1 ");
    head.put_slice(parts.status.as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(parts.status.canonical_reason().unwrap_or_default().as_bytes());
    head.put_slice(b"\r\n");
    for (name, value) in &parts.headers {
        field(&mut head, name.as_str(), value.as_bytes());
    }
    field(&mut head, "transfer-encoding", b"chunked");
    field(&mut head, "connection", b"close");
    if !parts.headers.contains_key(DATE) {
        field(&mut head, "date", date().as_bytes());
    }
    head.put_slice(b"\r\n");
    head.freeze()
}

fn field(head: &mut BytesMut, name: &str, value: &[u8]) {
    head.put_slice(name.as_bytes());
    head.put_slice(b": ");
    head.put_slice(value);
    head.put_slice(b"\r\n");
}
