//! The body of a response: a stream of ours, a backend's, or a few bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::counted::CountedStream;
use super::passing::{PassingEnd, PassingStream};
use super::prologue::Prologue;
use crate::hub::{CloseReason, Subscriber};
use crate::metrics::RouteMetrics;
use crate::proxy::{TunnelBody, UpstreamBody};
use crate::server::carrier::{BodyFailed, FramedBody};
use crate::server::connection::{BodyError, HttpProtocol};
use crate::sse::frame::{Form, Frame as SseFrame};

/// What a client is sent.
#[derive(Debug)]
pub enum ResponseBody {
    /// A stream of events.
    Stream(StreamBody),
    /// A stream of events that the backend writes.
    Passing(Box<PassingStream>),
    /// What a backend sends.
    // Boxed: every stream of events would hold the room.
    Upstream(Box<TimedBody>),
    /// What a backend says that speaks something else than HTTP now.
    Tunnel(TunnelBody),
    /// So many bytes; `None` once they are sent.
    Whole(Option<Bytes>),
}

impl ResponseBody {
    pub(super) fn upstream(body: UpstreamBody) -> Self {
        Self::Upstream(Box::new(TimedBody { body, timer: None }))
    }

    pub(super) fn empty() -> Self {
        Self::Whole(None)
    }

    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }

    /// Takes the bytes out, for an answer that has none of them; says how many there were.
    pub(super) fn take_whole(&mut self) -> Option<usize> {
        match self {
            Self::Whole(bytes) => bytes.take().map(|bytes| bytes.len()),
            Self::Stream(_) | Self::Passing(_) | Self::Upstream(_) | Self::Tunnel(_) => None,
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
                    stream.probe_if_asked();
                    Poll::Pending
                }
            },
            Self::Passing(stream) => stream.poll_frame(cx),
            Self::Upstream(timed) => Pin::new(&mut timed.body).poll_frame(cx),
            Self::Tunnel(body) => Pin::new(body).poll_frame(cx),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Stream(_) | Self::Passing(_) => false,
            Self::Upstream(timed) => timed.body.is_end_stream(),
            Self::Tunnel(body) => body.is_end_stream(),
            Self::Whole(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Stream(_) | Self::Passing(_) => SizeHint::default(),
            Self::Upstream(timed) => timed.body.size_hint(),
            Self::Tunnel(body) => body.size_hint(),
            Self::Whole(bytes) => {
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
            Self::Passing(_) | Self::Upstream(_) | Self::Tunnel(_) | Self::Whole(_) => {
                Poll::Ready(None)
            }
        }
    }

    fn note_progress(&self) {
        if let Self::Stream(stream) = self {
            stream.subscriber.note_progress();
        }
    }

    fn probe(&self) {
        if let Self::Stream(stream) = self {
            stream.probe();
        }
    }
}

/// A backend's body, whose end is that of its request.
#[derive(Debug)]
pub struct TimedBody {
    body: UpstreamBody,
    timer: Option<(Instant, Arc<RouteMetrics>)>,
}

impl TimedBody {
    /// Records at its end how long the request took that began then.
    pub(super) fn time(&mut self, began: Instant, metrics: Arc<RouteMetrics>) {
        self.timer = Some((began, metrics));
    }
}

impl Drop for TimedBody {
    fn drop(&mut self) {
        if let Some((began, metrics)) = &self.timer {
            metrics.request_ended(began.elapsed());
        }
    }
}

/// A subscriber on its way to the socket; counts the stream when it ends.
#[derive(Debug)]
pub struct StreamBody {
    // What the backend said before it handed the stream over.
    prologue: Option<Box<Prologue>>,
    has_failed: bool,
    subscriber: Subscriber,
    counted: CountedStream,
}

impl StreamBody {
    pub(super) fn new(subscriber: Subscriber, counted: CountedStream) -> Self {
        Self { prologue: None, has_failed: false, subscriber, counted }
    }

    /// A stream that goes on where the backend ends.
    pub(super) fn continuing(
        prologue: Prologue,
        subscriber: Subscriber,
        counted: CountedStream,
    ) -> Self {
        let prologue = Some(Box::new(prologue));
        Self { prologue, has_failed: false, subscriber, counted }
    }

    fn poll_next(
        &mut self,
        form: Form,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(prologue) = &mut self.prologue {
            // What waits behind it is not to blame.
            self.subscriber.note_progress();
            match ready!(prologue.poll_next(cx)) {
                Some(Ok(piece)) => {
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
        self.subscriber.poll_next(form, cx).map(|bytes| bytes.map(Ok))
    }

    /// Writes something, if anything can be: to see whether the client is there.
    fn probe(&self) {
        // What the backend writes before it hands a stream over is its own.
        if self.prologue.is_none() {
            self.subscriber.keep_alive_now();
        }
    }

    /// The same over HTTP/1.0, where hyper carries the stream, when its socket asks for it.
    fn probe_if_asked(&self) {
        if self.counted.protocol() == HttpProtocol::Http1 && self.counted.take_probe_request() {
            self.probe();
        }
    }

    fn close_reason(&self) -> &'static str {
        let reason = match self.subscriber.close_reason() {
            _ if self.has_failed => return PassingEnd::BackendFailed.as_str(),
            Some(reason) => reason,
            None if self.counted.is_stalled() => CloseReason::Stalled,
            None => CloseReason::ClientLeft,
        };
        reason.as_str()
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.counted.close(self.close_reason());
    }
}
