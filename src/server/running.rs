//! A request in progress: from its head to the end of its response.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::body_error::BodyError;
use super::connection::ConnectionState;
use super::http1::exchange::ResponseGuard;

/// A guard for a request in progress: its connection is not idle until it is dropped.
#[derive(Debug)]
pub(super) struct RunningRequest(Rc<ConnectionState>);

impl RunningRequest {
    pub(super) fn begin(connection: Rc<ConnectionState>) -> Self {
        connection.request_began();
        Self(connection)
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.0.request_ended(Instant::now());
    }
}

pin_project! {
    /// A response body that keeps its request in progress until it ends.
    #[derive(Debug)]
    pub(super) struct RunningBody<B> {
        #[pin]
        body: B,
        running: RunningRequest,
        response_guard: ResponseGuard,
        // Whether the body is delimited by the close of its connection.
        ends_with_connection: bool,
    }
}

impl<B> RunningBody<B> {
    /// `ends_with_connection`: the body is delimited by the close of its connection, as over
    /// HTTP/1.0 (RFC 9112, section 6.3).
    pub(super) fn new(
        body: B,
        (running, response_guard): (RunningRequest, ResponseGuard),
        ends_with_connection: bool,
    ) -> Self {
        Self { body, running, response_guard, ends_with_connection }
    }
}

impl<B: Body<Data = Bytes, Error = BodyError>> Body for RunningBody<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.project();
        let polled = this.body.poll_frame(cx);
        if *this.ends_with_connection && matches!(polled, Poll::Ready(Some(Err(_)))) {
            // An orderly close would make the truncated body look complete.
            this.running.0.socket.options.reset_when_closed();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
