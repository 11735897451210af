//! The body of a request, over HTTP/1.1 and HTTP/2.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http::header::EXPECT;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::connection::BodyError;
use super::http1::exchange::Exchange;
use super::http2;
use super::interim::Interim;

/// A streamed request body: nothing is buffered here.
#[derive(Debug)]
pub struct RequestBody {
    kind: Kind,
    interim: Interim,
}

#[derive(Debug)]
enum Kind {
    Empty,
    Http1(Http1Body),
    Http2(http2::Incoming),
}

/// A body over HTTP/1.1. When dropped, its unread rest is discarded by the connection, so that the
/// client gets to read the response.
#[derive(Debug)]
struct Http1Body {
    // `None`: abandoned.
    incoming: Option<Incoming>,
    // The client expects 100 (Continue), which hyper sends on the first read. Not read yet, so
    // there is nothing to discard.
    is_held: bool,
    exchange: Arc<Exchange>,
}

impl Drop for Http1Body {
    fn drop(&mut self) {
        let rest = self.incoming.take().filter(|_| !self.is_held && !self.exchange.is_whole());
        if let Some(rest) = rest {
            self.exchange.leave(rest);
        }
    }
}

impl RequestBody {
    /// Returns a request without a body.
    pub fn empty() -> Self {
        Self { kind: Kind::Empty, interim: Interim::default() }
    }

    /// Where to send interim responses to its request.
    pub fn interim(&self) -> &Interim {
        &self.interim
    }

    /// `is_held`: the client expects 100 (Continue) before it sends the body (RFC 9110, section
    /// 10.1.1).
    pub(super) fn from_http1(
        body: Incoming,
        is_held: bool,
        interim: Interim,
        exchange: Arc<Exchange>,
    ) -> Self {
        let kind = if body.is_end_stream() {
            Kind::Empty
        } else {
            Kind::Http1(Http1Body { incoming: Some(body), is_held, exchange })
        };
        Self { kind, interim }
    }

    /// Abandons the rest of the body, which the client did not send in time: no lingering close.
    pub fn give_up(&mut self) {
        if let Kind::Http1(body) = &mut self.kind {
            body.exchange.give_up();
            body.incoming = None;
        }
    }

    /// `None`: no body.
    pub(super) fn from_http2(body: Option<http2::Incoming>, interim: Interim) -> Self {
        Self { kind: body.map_or(Kind::Empty, Kind::Http2), interim }
    }
}

/// Whether a client expects 100 (Continue) before it sends a body (RFC 9110, section 10.1.1).
pub(crate) fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Http1(Http1Body { incoming, is_held, exchange }) => {
                let Some(body) = incoming else {
                    return Poll::Ready(Some(Err("the request body was abandoned".into())));
                };
                *is_held = false;
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                let is_last = match &frame {
                    None => true,
                    Some(Ok(frame)) => frame.is_trailers() || body.is_end_stream(),
                    Some(Err(_)) => false,
                };
                if is_last {
                    exchange.is_received();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Kind::Http2(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Http1(body) => body.incoming.as_ref().is_some_and(Body::is_end_stream),
            Kind::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Http1(body) => body.incoming.as_ref().map(Body::size_hint).unwrap_or_default(),
            Kind::Http2(body) => body.size_hint(),
        }
    }
}
