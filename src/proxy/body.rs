//! The response body that the proxy hands to the client's side.
//!
//! Wraps the body of the backend's connection: filters trailers, enforces `idle_timeout`, and
//! returns the connection to its pool at the end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::facts::Facts;
use super::incoming::Incoming;
use super::lease::Lease;
use super::pause::Pause;
use super::trailers;
use crate::health::BackendHealth;
use crate::server::connection::BodyError;

/// The body of a backend's response, streamed. Its connection is reused when the body is complete;
/// dropping the body earlier closes the connection or resets the stream.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
    // `None`: no idle timeout.
    pause: Option<Pause>,
    // `None`: the body is complete, or has failed.
    lease: Option<Lease>,
    allows_underscores: bool,
    facts: Facts,
    backend: Arc<BackendHealth>,
}

impl UpstreamBody {
    pub(super) fn new(
        incoming: Incoming,
        pause: Pause,
        lease: Lease,
        allows_underscores: bool,
        (facts, backend): (Facts, Arc<BackendHealth>),
    ) -> Self {
        let (pause, lease) = (Some(pause), Some(lease));
        let mut body = Self { incoming, pause, lease, allows_underscores, facts, backend };
        body.complete_if_ended();
        body
    }

    /// Disables `idle_timeout`: an event stream may be idle for any time.
    pub fn allow_pauses(&mut self) {
        self.pause = None;
    }

    fn complete_if_ended(&mut self) {
        if self.incoming.is_end_stream() {
            self.complete();
        }
    }

    fn complete(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.complete();
        }
    }

    fn broke(
        &mut self,
        is_timeout: bool,
        error: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.facts.body_cut(&self.backend, is_timeout, &error.to_string());
        self.lease = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Pending => {
                let Some(pause) = &mut this.pause else { return Poll::Pending };
                ready!(pause.poll(cx));
                let error =
                    io::Error::new(io::ErrorKind::TimedOut, "nothing received for idle_timeout");
                this.broke(true, error.into())
            }
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(pause) = &mut this.pause {
                    pause.over();
                }
                if !trailers::screen(&mut frame, this.allows_underscores) {
                    this.complete();
                    return Poll::Ready(None);
                }
                this.complete_if_ended();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => this.broke(false, error),
            Poll::Ready(None) => {
                this.complete();
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
