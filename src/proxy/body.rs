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

use super::backend_body::BackendBody;
use super::idle_timeout::IdleTimeout;
use super::lease::Lease;
use super::recorder::Recorder;
use super::trailers;
use crate::health::BackendHealth;
use crate::server::connection::BodyError;

/// The body of a backend's response, streamed. Its connection is reused when the body is complete;
/// dropping the body earlier closes the connection or resets the stream.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: BackendBody,
    // `None`: no idle timeout.
    idle_timeout: Option<IdleTimeout>,
    // `None`: the body is complete, or has failed.
    lease: Option<Lease>,
    allows_underscores: bool,
    recorder: Recorder,
    backend: Arc<BackendHealth>,
}

impl UpstreamBody {
    pub(super) fn new(
        incoming: BackendBody,
        idle_timeout: IdleTimeout,
        lease: Lease,
        allows_underscores: bool,
        (recorder, backend): (Recorder, Arc<BackendHealth>),
    ) -> Self {
        let (idle_timeout, lease) = (Some(idle_timeout), Some(lease));
        let mut body =
            Self { incoming, idle_timeout, lease, allows_underscores, recorder, backend };
        body.complete_if_ended();
        body
    }

    /// Disables `idle_timeout`: an event stream may be idle for any time.
    pub fn disable_idle_timeout(&mut self) {
        self.idle_timeout = None;
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

    fn fail(
        &mut self,
        is_timeout: bool,
        error: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.recorder.body_cut(&self.backend, is_timeout, &error.to_string());
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
                let Some(idle_timeout) = &mut this.idle_timeout else { return Poll::Pending };
                ready!(idle_timeout.poll(cx));
                let error =
                    io::Error::new(io::ErrorKind::TimedOut, "nothing received for idle_timeout");
                this.fail(true, error.into())
            }
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(idle_timeout) = &mut this.idle_timeout {
                    idle_timeout.reset();
                }
                if !trailers::filter(&mut frame, this.allows_underscores) {
                    this.complete();
                    return Poll::Ready(None);
                }
                if frame.is_trailers() {
                    // The last frame: the body is not polled again.
                    this.complete();
                } else {
                    this.complete_if_ended();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => this.fail(false, error),
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
