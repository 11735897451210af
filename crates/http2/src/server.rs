//! What a connection needs of the server that it belongs to.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, response};
use http_body::Body;

use super::abuse::{AbuseReason, ResetReason};
use super::body::IncomingBody;
use super::error::ErrorCode;
use super::interim::InterimQueue;
use super::keep_alive::KeepAliveState;
use super::request_error::RequestError;
use super::settings::Http2Settings;

/// The server, as one of its connections sees it.
///
/// There is one value for each connection, on the connection's thread. All methods are called in
/// [`Connection::poll`](super::Connection::poll), and none may block. A method with a default reports what
/// happens, or is optional.
pub trait Http2Server {
    /// The body of a response. Its data are shared, not copied, until they are framed.
    type Body: Body<Data = Bytes> + Unpin + 'static;

    /// What the server holds while a stream is open, such as a counter of requests in progress. `()`
    /// for nothing.
    type StreamGuard;

    /// The settings of the connection: the same in each call.
    fn settings(&self) -> &Http2Settings;

    /// What the server and the connection share about the client: whether it is alive. The server
    /// [checks](KeepAliveState::check) it from time to time.
    fn keep_alive(&self) -> &KeepAliveState;

    /// A stream was opened. The guard is dropped when it is closed.
    fn open_stream(&self) -> Self::StreamGuard;

    /// Responds to a request. Infallible: a failure becomes an error response. While the future is
    /// polled, [`StreamAbortHandle::current`](super::StreamAbortHandle::current) is the handle of
    /// its stream. `interim` takes responses that precede the final one.
    fn handle(
        &self,
        request: Request<IncomingBody>,
        interim: Rc<InterimQueue>,
    ) -> impl Future<Output = Response<Self::Body>> + 'static;

    /// Returns the error response to a request that cannot be handled. `head` holds the method and
    /// the fields that could be read.
    fn refuse(&self, head: &Request<()>, why: RequestError) -> Response<Self::Body>;

    /// Completes the header of a response, which is sent next: a server adds `date` here (RFC 9110,
    /// section 6.6.1). Returns how the response is served beside others.
    fn prepare(&self, head: &mut response::Parts, body: &Self::Body) -> ResponseKind;

    /// How long a stream may wait for its send window before it is reset. Checked in sweeps, see
    /// [`KeepAliveState::check`].
    fn write_timeout(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// How long the rest of a request is received and dropped after the response. Zero: the stream is
    /// reset at once.
    fn lingering_close(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// Whether the connection is to end gracefully (RFC 9113, section 6.8): requests in progress
    /// finish, new ones are not accepted.
    fn is_draining(&self) -> bool {
        false
    }

    /// Reserves up to `octets` of the memory that all connections share, and returns how many: by so
    /// much the receive window may exceed [`Http2Settings::connection_window`]. By default nothing.
    fn reserve_window(&self, _octets: usize) -> usize {
        0
    }

    /// Releases octets that were reserved.
    fn release_window(&self, _octets: usize) {}

    /// Octets are about to be written. The time of the last call is what [`KeepAliveState::check`]
    /// calls `written`.
    fn writing(&self) {}

    /// A part of what the body returned last was sent: its client is reading.
    fn note_progress(&self, _body: &Self::Body) {}

    /// The socket should not be writable while this many octets in the kernel have not been sent
    /// (`TCP_NOTSENT_LOWAT`); `u32::MAX`: no limit. Without it, events on a slow connection wait for
    /// the bulk before them.
    fn limit_unsent(&self, _octets: u32) {}

    /// A stream was reset, and why. For metrics.
    fn stream_reset(&self, _why: ResetReason) {}

    /// The body of a response failed before its end. Its stream is reset, so that the client sees
    /// that it is not complete.
    fn body_failed(&self, _error: &<Self::Body as Body>::Error) {}

    /// The connection ends for a connection error (RFC 9113, section 5.4.1), or for abuse. `what` is
    /// also sent in GOAWAY.
    fn connection_error(&self, _code: ErrorCode, _what: &'static str) {}

    /// The client did too much of what is allowed. [`connection_error`](Self::connection_error)
    /// follows, with ENHANCE_YOUR_CALM. For metrics.
    fn abused(&self, _why: AbuseReason) {}
}

/// How a response is served beside the others of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseKind {
    /// A stream of events: never waits for bulk.
    Events,
    /// Any other. Once it has more to send than fits into one write, it is bulk: it is served after
    /// all others.
    Other,
}
