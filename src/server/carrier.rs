//! A stream over HTTP/1.1, carried to its socket without hyper in between.
//!
//! hyper reads the request. When the answer is a stream of frames, the connection is taken out of
//! hyper's hands: the head and the chunks are written here, each frame with the chunk around it that
//! it was encoded with. Between two events such a connection holds neither a read nor a write
//! buffer, and an event costs one write. The connection ends with its stream, and says so.

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
use super::http1::half_closed::{Due, HalfClosed};
use super::running::RunningRequest;
use super::transport::{Progress, Transport};

/// The chunk that ends a body (RFC 9112, section 7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// A client has nothing to say on a stream; what it says all the same is read past, up to so much.
const MAX_IGNORED_BYTES: usize = 64 << 10;

/// A body that may come in frames with chunks around them.
pub trait Frames {
    /// Whether it does, so that it can be carried without hyper.
    fn is_frames(&self) -> bool;

    /// The next frames, chunks and all; `None` at the end.
    fn poll_chunks(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>>;

    /// Some of what was handed over has been written.
    fn note_progress(&self);

    /// Asks for something to write, if anything can be: to see whether the client is there.
    fn probe(&self);
}

/// A body that has failed before its end. Why has been told where it was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// A response that is to be carried without hyper.
#[derive(Debug)]
pub(super) struct Offer<B> {
    pub(super) response: Response<B>,
    pub(super) running: RunningRequest,
}

/// Where a request leaves its response to be carried: one for each connection.
#[derive(Debug)]
pub(super) struct Handover<B>(Rc<RefCell<Option<Offer<B>>>>);

impl<B> Handover<B> {
    pub(super) fn new() -> Self {
        Self(Rc::default())
    }

    pub(super) fn offer(&self, offer: Offer<B>) {
        *self.0.borrow_mut() = Some(offer);
    }

    pub(super) fn is_offered(&self) -> bool {
        self.0.borrow().is_some()
    }

    pub(super) fn take(&self) -> Option<Offer<B>> {
        self.0.borrow_mut().take()
    }
}

impl<B> Clone for Handover<B> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

/// Writes a stream to its socket; ends with the stream, or when the client leaves.
#[derive(Debug)]
pub(super) struct Carrier<B> {
    transport: Transport,
    body: B,
    // Dropped with the stream: until then its request runs.
    _running: RunningRequest,
    pending: Bytes,
    progress: Arc<Progress>,
    client: Option<Arc<Client>>,
    // For how long a client is waited for that has closed its sending side, and since it has.
    half_close: Duration,
    half_closed: Option<Box<HalfClosed>>,
    ignored: usize,
    is_begun: bool,
    is_over: bool,
    is_broken: bool,
}

/// How a stream came to its end.
#[derive(Debug)]
pub(super) enum Carried<C> {
    /// By itself, or because its client has left.
    Ended(io::Result<()>),
    /// Its body has failed, and its client is to see that.
    Broken,
    /// From outside.
    CutOff(C),
}

/// Wakes the stream for what its client does, and tells that from an event: then nobody looks
/// whether there is something to read.
#[derive(Debug)]
struct Client {
    stream: Waker,
    progress: Arc<Progress>,
}

impl Wake for Client {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.progress.call();
        self.stream.wake_by_ref();
    }
}

impl<B: Frames> Carrier<B> {
    /// `half_close`: see [`Http1Settings`](super::Http1Settings).
    pub(super) fn new(
        transport: Transport,
        progress: &Arc<Progress>,
        offer: Offer<B>,
        half_close: Duration,
    ) -> Self {
        let Offer { response, running } = offer;
        let (parts, body) = response.into_parts();
        let pending = head(&parts);
        Self {
            transport,
            body,
            _running: running,
            pending,
            progress: Arc::clone(progress),
            client: None,
            half_close,
            half_closed: None,
            ignored: 0,
            is_begun: false,
            is_over: false,
            is_broken: false,
        }
    }

    /// Puts what the stream says first behind the head: one packet.
    fn join_first_chunks(&mut self, context: &mut Context<'_>) {
        match self.body.poll_chunks(context) {
            Poll::Ready(Some(Ok(chunks))) => {
                let mut both = BytesMut::with_capacity(self.pending.len() + chunks.len());
                both.put_slice(&self.pending);
                both.put_slice(&chunks);
                self.pending = both.freeze();
            }
            Poll::Ready(Some(Err(Broken))) => self.is_broken = true,
            Poll::Ready(None) | Poll::Pending => {}
        }
    }

    /// Carries the stream on: to its end, or until it is cut off. Whether it is, is asked when it is
    /// called (see [`Progress`]).
    pub(super) fn poll<C>(
        &mut self,
        context: &mut Context<'_>,
        poll_cut_off: impl FnOnce(&mut Context<'_>) -> Poll<C>,
    ) -> Poll<Carried<C>> {
        if !std::mem::replace(&mut self.is_begun, true) {
            self.join_first_chunks(context);
        }
        let is_called = self.progress.take_call();
        let mut ended = self.poll_stream(context);
        if ended.is_pending() && is_called {
            ended = self.poll_client(context).map(Carried::Ended);
        }
        match ended {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending if is_called => poll_cut_off(context).map(Carried::CutOff),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_stream<C>(&mut self, context: &mut Context<'_>) -> Poll<Carried<C>> {
        loop {
            match self.poll_write(context) {
                Ok(written) => ready!(written),
                Err(error) => return Poll::Ready(Carried::Ended(Err(error))),
            }
            if self.is_broken {
                // Without its last chunk a body is not complete.
                self.progress.reset_when_closed();
                return Poll::Ready(Carried::Broken);
            }
            if self.is_over {
                return self.poll_shutdown(context).map(Carried::Ended);
            }
            match self.body.poll_chunks(context) {
                Poll::Ready(Some(Ok(chunks))) => self.pending = chunks,
                Poll::Ready(Some(Err(Broken))) => self.is_broken = true,
                Poll::Ready(None) => {
                    self.pending = Bytes::from_static(LAST_CHUNK);
                    self.is_over = true;
                }
                Poll::Pending => {
                    // TLS may hold some of it back.
                    let flushed = Pin::new(&mut self.transport).poll_flush(context);
                    if let Poll::Ready(Err(error)) = flushed {
                        return Poll::Ready(Carried::Ended(Err(error)));
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
                half_closed.wrote();
            }
            if self.pending.has_remaining() {
                self.body.note_progress();
            }
        }
        // The frame is not held on to until the next one comes.
        self.pending = Bytes::new();
        Ok(Poll::Ready(()))
    }

    /// Waits for the client to leave, and reads past what it says.
    fn poll_client(&mut self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let client = self.client.get_or_insert_with(|| {
            let progress = Arc::clone(&self.progress);
            Arc::new(Client { stream: context.waker().clone(), progress })
        });
        let waker = Arc::clone(client).into();
        let mut context = Context::from_waker(&waker);
        let mut ignored = [0; 512];
        loop {
            if let Some(half_closed) = &mut self.half_closed {
                match ready!(half_closed.poll(&mut context)) {
                    Due::Left => return Poll::Ready(Ok(())),
                    Due::Probe => self.body.probe(),
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
                // It may have left, or only have nothing more to say.
                self.half_closed = Some(Box::new(HalfClosed::new(self.half_close)));
            }
        }
    }
}

/// The head of the response (RFC 9112, section 4).
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
