//! The body of a response: an event stream, a backend's body, or bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use ssegate_hub::{CloseReason, Subscriber};
use ssegate_sse::frame::{Form, Frame as SseFrame};
use tokio::time::Instant;

use super::backend_stream::BackendStream;
use super::backend_stream_end::BackendStreamEnd;
use super::counted::CountedStream;
use super::prologue::Prologue;
use super::request_log::RequestLog;
use super::shared::readers::SharedReader;
use super::stream_feed::StreamFeed;
use crate::metrics::RouteMetrics;
use crate::proxy::{TunnelBody, UpstreamBody};
use crate::server::carrier::{BodyFailed, FramedBody};
use crate::server::connection::{BodyError, HttpProtocol};

/// The body of a response.
#[derive(Debug)]
pub enum ResponseBody {
    /// An event stream of the gateway.
    Stream(StreamBody),
    /// An event stream that the backend writes.
    BackendStream(Box<BackendStream>),
    /// Another body of a backend.
    // Boxed, since the largest variant determines the memory of every event stream.
    Upstream(Box<TimedBody>),
    /// The bytes of a backend after it has switched protocols.
    Tunnel(TunnelBody),
    /// Bytes in memory; `None` once they have been returned.
    Bytes(Option<Bytes>),
}

impl ResponseBody {
    pub(super) fn upstream(body: UpstreamBody) -> Self {
        Self::Upstream(Box::new(TimedBody { body, timer: None }))
    }

    /// Sets the lines of its request in the access log. Returns them if the body is not a stream: they
    /// belong to another body.
    pub(super) fn log_in(&mut self, log: Box<RequestLog>, status: u16) -> Option<Box<RequestLog>> {
        match self {
            Self::Stream(stream) => stream.log_in(log, status),
            Self::BackendStream(stream) => stream.log_in(log.into_stream(status, 0)),
            Self::Upstream(_) | Self::Tunnel(_) | Self::Bytes(_) => return Some(log),
        }
        None
    }

    pub(super) fn empty() -> Self {
        Self::Bytes(None)
    }

    pub(super) fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::Bytes(Some(bytes.into()))
    }

    /// Removes the bytes of a [`Self::Bytes`] and returns their number: for a response to HEAD.
    pub(super) fn take_bytes(&mut self) -> Option<usize> {
        self.take_whole().map(|bytes| bytes.len())
    }

    /// Removes and returns the bytes of a [`Self::Bytes`].
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        match self {
            Self::Bytes(bytes) => bytes.take(),
            Self::Stream(_) | Self::BackendStream(_) | Self::Upstream(_) | Self::Tunnel(_) => None,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Stream(stream) => match stream.poll_next(Form::Text, cx) {
                Poll::Ready(bytes) => Poll::Ready(bytes.map(|bytes| bytes.map(Frame::data))),
                Poll::Pending => {
                    stream.probe_if_requested();
                    Poll::Pending
                }
            },
            Self::BackendStream(stream) => stream.poll_frame(cx),
            Self::Upstream(timed) => Pin::new(&mut timed.body).poll_frame(cx),
            Self::Tunnel(body) => Pin::new(body).poll_frame(cx),
            Self::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Stream(_) | Self::BackendStream(_) => false,
            Self::Upstream(timed) => timed.body.is_end_stream(),
            Self::Tunnel(body) => body.is_end_stream(),
            Self::Bytes(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Stream(_) | Self::BackendStream(_) => SizeHint::default(),
            Self::Upstream(timed) => timed.body.size_hint(),
            Self::Tunnel(body) => body.size_hint(),
            Self::Bytes(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}

impl FramedBody for ResponseBody {
    fn is_framed(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    fn poll_chunks(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyFailed>>> {
        match self {
            Self::Stream(stream) => {
                let chunks = ready!(stream.poll_next(Form::Chunk, context));
                Poll::Ready(chunks.map(|chunks| chunks.map_err(|_told_in_the_metrics| BodyFailed)))
            }
            Self::BackendStream(_) | Self::Upstream(_) | Self::Tunnel(_) | Self::Bytes(_) => {
                Poll::Ready(None)
            }
        }
    }

    fn note_progress(&self) {
        if let Self::Stream(stream) = self {
            stream.feed.note_progress();
        }
    }

    fn probe(&self) {
        if let Self::Stream(stream) = self {
            stream.probe();
        }
    }
}

/// A backend's body. Its end is recorded as the end of the request.
#[derive(Debug)]
pub struct TimedBody {
    body: UpstreamBody,
    timer: Option<(Instant, Arc<RouteMetrics>)>,
}

impl TimedBody {
    /// Records the duration of the request, which arrived at `received_at`, when the body is
    /// dropped.
    pub(super) fn time(&mut self, received_at: Instant, metrics: Arc<RouteMetrics>) {
        self.timer = Some((received_at, metrics));
    }
}

impl Drop for TimedBody {
    fn drop(&mut self) {
        if let Some((received_at, metrics)) = &self.timer {
            metrics.request_ended(received_at.elapsed());
        }
    }
}

/// A subscriber as a body. Counts the stream as closed when it is dropped.
#[derive(Debug)]
pub struct StreamBody {
    // The body of the backend that handed the stream over, until it ends.
    prologue: Option<Box<Prologue>>,
    prologue_bytes: u64,
    has_failed: bool,
    feed: StreamFeed,
    counted: CountedStream,
    // For a shared stream: the stream continues as long as it has readers.
    shared: Option<SharedReader>,
}

impl StreamBody {
    pub(super) fn new(feed: StreamFeed, counted: CountedStream) -> Self {
        Self { prologue: None, prologue_bytes: 0, has_failed: false, feed, counted, shared: None }
    }

    /// A reader of a shared stream.
    pub(super) fn sharing(
        reader: SharedReader,
        subscriber: Subscriber,
        counted: CountedStream,
    ) -> Self {
        let mut body = Self::new(subscriber.into(), counted);
        body.shared = Some(reader);
        body
    }

    /// A stream that continues a backend's body.
    pub(super) fn continuing(prologue: Prologue, feed: StreamFeed, counted: CountedStream) -> Self {
        let prologue = Some(Box::new(prologue));
        Self { prologue, prologue_bytes: 0, has_failed: false, feed, counted, shared: None }
    }

    fn poll_next(
        &mut self,
        form: Form,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(prologue) = &mut self.prologue {
            // The subscriber must not be closed as stalled while the backend's body is sent.
            self.feed.note_progress();
            match ready!(prologue.poll_next(cx)) {
                Some(Ok(piece)) => {
                    self.prologue_bytes += piece.len() as u64;
                    let bytes = match form {
                        Form::Text => piece,
                        Form::Chunk => SseFrame::of_text(&piece).bytes(form),
                    };
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Some(Err(error)) => {
                    self.has_failed = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => self.prologue = None,
            }
        }
        self.feed.poll_next(form, cx).map(|bytes| bytes.map(Ok))
    }

    /// Sends a keep-alive comment, to find out whether the client is still there.
    fn probe(&self) {
        // A comment must not go into the backend's body.
        if self.prologue.is_none() {
            self.feed.keep_alive_now();
        }
    }

    /// Probes if the connection asks for it: over HTTP/1.0, where hyper writes the stream.
    fn probe_if_requested(&self) {
        if self.counted.protocol() == HttpProtocol::Http1 && self.counted.take_probe_request() {
            self.probe();
        }
    }

    /// Sets its lines in the access log.
    fn log_in(&mut self, log: Box<RequestLog>, status: u16) {
        self.counted.log_in(log.into_stream(status, self.feed.channels()));
    }

    fn close_reason(&self) -> &'static str {
        let reason = match self.feed.close_reason() {
            _ if self.has_failed => return BackendStreamEnd::BackendFailed.as_str(),
            Some(reason) => reason,
            None if self.counted.is_stalled() => CloseReason::Stalled,
            None => CloseReason::ClientLeft,
        };
        reason.as_str()
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        let sent = self.feed.bytes_taken() + self.prologue_bytes;
        let sent = (Some(self.feed.events_taken()), sent);
        self.counted.close(self.close_reason(), sent, self.feed.resumed_from());
    }
}
