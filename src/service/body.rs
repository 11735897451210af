//! The body of a response: a stream of ours, a backend's, or a few bytes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::counted::CountedStream;
use super::passing::PassingStream;
use crate::hub::{CloseReason, Subscriber};
use crate::proxy::{TunnelBody, UpstreamBody};
use crate::server::carrier::Frames;
use crate::server::connection::BodyError;
use crate::sse::frame::Form;

/// What a client is sent.
#[derive(Debug)]
pub enum ResponseBody {
    /// A stream of events.
    Stream(StreamBody),
    /// A stream of events that the backend writes.
    Passing(Box<PassingStream>),
    /// What a backend sends.
    Upstream(UpstreamBody),
    /// What a backend says that speaks something else than HTTP now.
    Tunnel(TunnelBody),
    /// So many bytes; `None` once they are sent.
    Whole(Option<Bytes>),
}

impl ResponseBody {
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
            Self::Stream(stream) => {
                let bytes = ready!(stream.subscriber.poll_next(Form::Text, cx));
                Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Passing(stream) => stream.poll_frame(cx),
            Self::Upstream(body) => Pin::new(body).poll_frame(cx),
            Self::Tunnel(body) => Pin::new(body).poll_frame(cx),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Stream(_) | Self::Passing(_) => false,
            Self::Upstream(body) => body.is_end_stream(),
            Self::Tunnel(body) => body.is_end_stream(),
            Self::Whole(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Stream(_) | Self::Passing(_) => SizeHint::default(),
            Self::Upstream(body) => body.size_hint(),
            Self::Tunnel(body) => body.size_hint(),
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}

impl Frames for ResponseBody {
    fn is_frames(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    fn poll_chunks(&mut self, context: &Context<'_>) -> Poll<Option<Bytes>> {
        match self {
            Self::Stream(stream) => stream.subscriber.poll_next(Form::Chunk, context),
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
}

/// A subscriber on its way to the socket; counts the stream when it ends.
#[derive(Debug)]
pub struct StreamBody {
    subscriber: Subscriber,
    counted: CountedStream,
}

impl StreamBody {
    pub(super) fn new(subscriber: Subscriber, counted: CountedStream) -> Self {
        Self { subscriber, counted }
    }

    fn close_reason(&self) -> CloseReason {
        match self.subscriber.close_reason() {
            Some(reason) => reason,
            None if self.counted.is_stalled() => CloseReason::Stalled,
            None => CloseReason::ClientLeft,
        }
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.counted.close(self.close_reason().as_str());
    }
}
