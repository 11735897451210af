//! The body of a request, over HTTP/1.1 and HTTP/2.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use ssegate_http2::IncomingBody;

use super::body_error::BodyError;
use super::http1::exchange::Http1Exchange;
use super::interim::Interim;

/// A streamed request body: nothing is buffered here.
#[derive(Debug)]
pub struct RequestBody {
    kind: RequestBodyKind,
    interim: Interim,
    // Sees what is read.
    tap: Option<Box<dyn BodyTap>>,
}

/// Sees a request body while it is read.
pub trait BodyTap: fmt::Debug {
    /// A piece of the body was read.
    fn data(&mut self, data: &Bytes);

    /// The body is complete. May be called again.
    fn end(&mut self);
}

#[derive(Debug)]
enum RequestBodyKind {
    Empty,
    Http1(Http1Body),
    Http2(IncomingBody),
    /// A body of which the beginning was read.
    Begun(Box<BegunBody>),
}

/// A body of which the beginning was read.
#[derive(Debug)]
struct BegunBody {
    begin: Bytes,
    rest: RequestBody,
}

/// A body over HTTP/1.1. When dropped, its unread rest is discarded by the connection, so that the
/// client gets to read the response.
#[derive(Debug)]
struct Http1Body {
    // `None`: abandoned.
    incoming: Option<Incoming>,
    // The client expects 100 (Continue), which hyper sends on the first read. Not read yet, so
    // there is nothing to discard.
    awaits_continue: bool,
    exchange: Arc<Http1Exchange>,
}

impl Drop for Http1Body {
    fn drop(&mut self) {
        let rest = self
            .incoming
            .take()
            .filter(|_| !self.awaits_continue && !self.exchange.is_request_complete());
        if let Some(rest) = rest {
            self.exchange.discard(rest);
        }
    }
}

impl RequestBody {
    /// Returns a request without a body.
    pub fn empty() -> Self {
        Self { kind: RequestBodyKind::Empty, interim: Interim::default(), tap: None }
    }

    /// A body of which `begin` was read, and `rest` is left.
    pub fn begun(begin: Bytes, rest: Self) -> Self {
        let interim = rest.interim.clone();
        let kind = RequestBodyKind::Begun(Box::new(BegunBody { begin, rest }));
        Self { kind, interim, tap: None }
    }

    /// Lets `tap` see what is read from now on.
    pub fn watch(&mut self, tap: Box<dyn BodyTap>) {
        self.tap = Some(tap);
    }

    /// Tells the tap that the body is complete.
    pub fn note_end(&mut self) {
        if let Some(tap) = &mut self.tap {
            tap.end();
        }
    }

    /// Where to send interim responses to its request.
    pub fn interim(&self) -> &Interim {
        &self.interim
    }

    /// `awaits_continue`: the client expects 100 (Continue) before it sends the body (RFC 9110,
    /// section 10.1.1).
    pub(super) fn from_http1(
        body: Incoming,
        awaits_continue: bool,
        interim: Interim,
        exchange: Arc<Http1Exchange>,
    ) -> Self {
        let kind = if body.is_end_stream() {
            RequestBodyKind::Empty
        } else {
            RequestBodyKind::Http1(Http1Body { incoming: Some(body), awaits_continue, exchange })
        };
        Self { kind, interim, tap: None }
    }

    /// Abandons the rest of the body, which the client did not send in time: no lingering close.
    pub fn abandon(&mut self) {
        match &mut self.kind {
            RequestBodyKind::Http1(body) => {
                body.exchange.abandon_request();
                body.incoming = None;
            }
            RequestBodyKind::Begun(body) => body.rest.abandon(),
            RequestBodyKind::Empty | RequestBodyKind::Http2(_) => {}
        }
    }

    pub(super) fn from_http2(body: IncomingBody, interim: Interim) -> Self {
        Self { kind: RequestBodyKind::Http2(body), interim, tap: None }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = this.poll_kind(cx);
        if this.tap.is_some() {
            this.show(&polled);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            RequestBodyKind::Empty => true,
            RequestBodyKind::Http1(body) => body.incoming.as_ref().is_some_and(Body::is_end_stream),
            RequestBodyKind::Http2(body) => body.is_end_stream(),
            RequestBodyKind::Begun(body) => body.begin.is_empty() && body.rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            RequestBodyKind::Empty => SizeHint::with_exact(0),
            RequestBodyKind::Http1(body) => {
                body.incoming.as_ref().map(Body::size_hint).unwrap_or_default()
            }
            RequestBodyKind::Http2(body) => body.size_hint(),
            RequestBodyKind::Begun(body) => {
                let (begin, rest) = (body.begin.len() as u64, body.rest.size_hint());
                match rest.exact() {
                    Some(rest) => SizeHint::with_exact(begin + rest),
                    None => SizeHint::default(),
                }
            }
        }
    }
}

impl RequestBody {
    /// Shows the tap what was read.
    fn show(&mut self, polled: &Poll<Option<Result<Frame<Bytes>, BodyError>>>) {
        let is_complete = match polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(tap), Some(data)) = (&mut self.tap, frame.data_ref()) {
                    tap.data(data);
                }
                frame.is_trailers() || self.is_end_stream()
            }
            Poll::Ready(None) => true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        };
        if is_complete {
            self.note_end();
        }
    }

    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.kind {
            RequestBodyKind::Empty => Poll::Ready(None),
            RequestBodyKind::Begun(body) => {
                if body.begin.is_empty() {
                    return Pin::new(&mut body.rest).poll_frame(cx);
                }
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut body.begin)))))
            }
            RequestBodyKind::Http1(Http1Body { incoming, awaits_continue, exchange }) => {
                let Some(body) = incoming else {
                    return Poll::Ready(Some(Err("the request body was abandoned".into())));
                };
                *awaits_continue = false;
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                let is_last = match &frame {
                    None => true,
                    Some(Ok(frame)) => frame.is_trailers() || body.is_end_stream(),
                    Some(Err(_)) => false,
                };
                if is_last {
                    exchange.request_received();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            RequestBodyKind::Http2(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }
}
