//! The body of a response on its way from the backend.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::connection::Connection;
use super::pause::Pause;
use super::pool::Pool;
use crate::server::connection::BodyError;

/// What a backend sends, as it comes. Its connection is kept when the body is complete, and closed
/// at once when nobody wants the rest.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
    // `None`: it may pause for ever.
    pause: Option<Pause>,
    lease: Option<Lease>,
}

/// A connection that goes back to its pool.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) connection: Connection,
    pub(super) pool: Pool,
}

impl UpstreamBody {
    pub(super) fn new(incoming: Incoming, pause: Pause, lease: Lease) -> Self {
        let mut body = Self { incoming, pause: Some(pause), lease: Some(lease) };
        body.give_back_when_complete();
        body
    }

    /// Lets the backend be quiet for as long as it likes.
    pub fn allow_pauses(&mut self) {
        self.pause = None;
    }

    fn give_back_when_complete(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(Lease { connection, pool }) = self.lease.take()
        {
            pool.put(connection);
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = &mut *self;
        match Pin::new(&mut body.incoming).poll_frame(cx) {
            Poll::Pending => {
                let is_too_long = body.pause.as_mut().is_some_and(|p| p.poll(cx).is_ready());
                if is_too_long {
                    body.lease = None;
                    let error = io::Error::new(io::ErrorKind::TimedOut, "the backend pauses");
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(pause) = &mut body.pause {
                    pause.over();
                }
                body.give_back_when_complete();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                body.lease = None;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                if let Some(Lease { connection, pool }) = body.lease.take() {
                    pool.put(connection);
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
