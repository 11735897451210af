//! Why a request got no response from its backend.
//!
//! [`Failure`] is the detail for the log and the metrics; [`FailureClass`] is what the client may
//! know. The status codes are chosen in `service`.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::route::UpstreamAddress;

/// Why a request got no response from its backend. The text is for the log: it names the upstream.
#[derive(Debug, thiserror::Error)]
#[error("{upstream}: {failure}")]
pub struct ProxyError {
    upstream: UpstreamAddress,
    failure: Failure,
    // `Some`: to be logged, with the number of lines suppressed before.
    held_back: Option<u64>,
}

/// Whose fault it was, in the words that a client may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// The backend cannot be reached.
    Unreachable,
    /// The backend closed the connection, or reset the stream, before it responded.
    NoResponse,
    /// The backend's response cannot be forwarded.
    InvalidResponse,
    /// The header of the backend's response exceeds `max_response_header`.
    LargeResponse,
    /// The backend did not switch to the protocol that the client requested.
    NoSwitch,
    /// The request has come back to this gateway.
    Loop,
    /// `max_connections` or `max_waiting` is reached.
    Busy,
    /// The backend timed out.
    TooSlow,
    /// The request body is malformed.
    BrokenRequest,
    /// The client left in the middle of the request body, or closed its sending side there.
    ClientLeft,
    /// The request body is larger than allowed.
    LargeRequest,
    /// The client timed out while it sent the request body.
    SlowRequest,
}

impl FailureClass {
    /// Whether the client is at fault: sending the same request again would not help.
    pub fn is_client_error(self) -> bool {
        matches!(
            self,
            Self::BrokenRequest | Self::ClientLeft | Self::LargeRequest | Self::SlowRequest
        )
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "the backend cannot be reached",
            Self::NoResponse => "the backend closed its connection without a response",
            Self::InvalidResponse => "the backend sent an invalid response",
            Self::LargeResponse => "the backend sent too large a response header",
            Self::NoSwitch => "the backend did not switch to the requested protocol",
            Self::Loop => "the request came back to this gateway: it is not sent on in a loop",
            Self::Busy => "the backend is busy",
            Self::TooSlow => "the backend took too long to respond",
            Self::BrokenRequest => "the request body is malformed",
            Self::ClientLeft => "the request body is incomplete",
            Self::LargeRequest => "the request body is too large",
            Self::SlowRequest => "timed out waiting for the request body",
        })
    }
}

/// What failed. The text follows the upstream's address in the log.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("no connection within connect_timeout")]
    ConnectTimeout,
    #[error(
        "this gateway has no file descriptor left for a connection to it: raise LimitNOFILE= or ulimit -n"
    )]
    NoDescriptor,
    #[error(
        "the request came back to this gateway again and again: this upstream leads to the gateway itself; set \
         `upstream` to the address of the backend"
    )]
    Loop,
    #[error("max_connections reached")]
    MaxConnections,
    #[error("max_waiting reached: too many requests wait for a connection")]
    MaxWaiting,
    #[error("no response within response_timeout ({0:?})")]
    ResponseTimeout(Duration),
    #[error("it read nothing of the request body for idle_timeout ({0:?})")]
    UploadTimeout(Duration),
    #[error("no response: {0}")]
    Exchange(String),
    #[error(
        "it did not process the request, which cannot be retried: more of its body was sent than \
         retry_buffer holds"
    )]
    RetryBuffer,
    #[error("invalid response: {0}")]
    InvalidResponse(String),
    #[error("the response header is larger than max_response_header")]
    LargeResponse,
    #[error("the response has a transfer coding other than chunked")]
    TransferCoding,
    #[error("it responded 101 to a request without Upgrade")]
    UnexpectedSwitch,
    #[error("it did not switch to the requested protocol: {0}")]
    NoSwitch(&'static str),
    #[error(
        "a WebSocket goes to the backend over HTTP/1.1 even if `http2` is true, and this backend \
         seems to accept only HTTP/2: give WebSockets a route to a port that accepts HTTP/1.1 ({0})"
    )]
    Http2Only(Box<Self>),
    #[error("the request body is malformed")]
    BrokenRequest,
    #[error("the client left before the end of the request body")]
    ClientLeft,
    #[error("the request body is larger than limits.body, or than max_body of the route")]
    LargeRequest,
    #[error("the client sent nothing of the request body for idle_timeout")]
    SlowRequest,
}

impl Failure {
    /// A connection could not be opened.
    pub(super) fn connect(error: &(dyn StdError + 'static)) -> Self {
        Self::Connect(error_chain(error))
    }

    /// A request over HTTP/1.1 failed before its response.
    pub(super) fn http1(error: &hyper::Error) -> Self {
        if error.is_parse_too_large() {
            Self::LargeResponse
        } else if error.is_parse() {
            Self::InvalidResponse(error_chain(error))
        } else {
            Self::Exchange(error_chain(error))
        }
    }

    /// The value of the label `kind` in metrics and logs.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::NoDescriptor => "descriptors",
            Self::Loop => "loop",
            Self::MaxConnections => "max_connections",
            Self::MaxWaiting => "max_waiting",
            Self::ResponseTimeout(_) => "response_timeout",
            Self::UploadTimeout(_) => "upload_timeout",
            Self::Exchange(_) => "exchange",
            Self::RetryBuffer => "retry_buffer",
            Self::InvalidResponse(_) => "invalid_response",
            Self::LargeResponse => "large_response",
            Self::TransferCoding => "transfer_coding",
            Self::UnexpectedSwitch | Self::NoSwitch(_) | Self::Http2Only(_) => "switch",
            Self::BrokenRequest => "broken_request",
            Self::ClientLeft => "client_left",
            Self::LargeRequest => "large_request",
            Self::SlowRequest => "slow_request",
        }
    }

    fn class(&self) -> FailureClass {
        match self {
            Self::Connect(_) | Self::NoDescriptor => FailureClass::Unreachable,
            Self::Exchange(_) | Self::RetryBuffer => FailureClass::NoResponse,
            Self::InvalidResponse(_) | Self::TransferCoding | Self::UnexpectedSwitch => {
                FailureClass::InvalidResponse
            }
            Self::NoSwitch(_) | Self::Http2Only(_) => FailureClass::NoSwitch,
            Self::LargeResponse => FailureClass::LargeResponse,
            Self::Loop => FailureClass::Loop,
            Self::MaxConnections | Self::MaxWaiting => FailureClass::Busy,
            Self::ConnectTimeout | Self::ResponseTimeout(_) | Self::UploadTimeout(_) => {
                FailureClass::TooSlow
            }
            Self::BrokenRequest => FailureClass::BrokenRequest,
            Self::ClientLeft => FailureClass::ClientLeft,
            Self::LargeRequest => FailureClass::LargeRequest,
            Self::SlowRequest => FailureClass::SlowRequest,
        }
    }

    /// Whether the client is at fault.
    pub(super) fn is_client_error(&self) -> bool {
        self.class().is_client_error()
    }

    /// The failure of a WebSocket request on a route with `http2: true`.
    pub(super) fn for_websocket(self) -> Self {
        match self {
            Self::Exchange(_) | Self::InvalidResponse(_) => Self::Http2Only(Box::new(self)),
            other => other,
        }
    }

    /// Whether it does not count against the backend's health: any client can cause it, or it is the gateway's own.
    pub(super) fn is_health_neutral(&self) -> bool {
        matches!(self, Self::Http2Only(_) | Self::Loop | Self::NoDescriptor)
    }

    /// Whether no connection could be opened.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::ConnectTimeout)
    }

    /// Whether the upstream is marked down for `fail_timeout`.
    pub(super) fn marks_upstream_down(&self) -> bool {
        matches!(
            self,
            Self::Connect(_)
                | Self::ConnectTimeout
                | Self::ResponseTimeout(_)
                | Self::UploadTimeout(_)
        )
    }
}

impl ProxyError {
    /// `held_back`: `Some` if it is to be logged, with the number of failures of its kind that were
    /// suppressed since the last line; `None` if it is suppressed too.
    pub(super) fn new(
        upstream: &UpstreamAddress,
        failure: Failure,
        held_back: Option<u64>,
    ) -> Self {
        Self { upstream: upstream.clone(), failure, held_back }
    }

    /// The value of the label `kind` in metrics and logs.
    pub fn kind(&self) -> &'static str {
        self.failure.as_str()
    }

    /// `Some`: log it, with the number of failures of its kind that were suppressed since the last
    /// line.
    pub fn held_back(&self) -> Option<u64> {
        self.held_back
    }

    /// The class of the failure.
    pub fn class(&self) -> FailureClass {
        self.failure.class()
    }
}

/// The error with all its sources, joined by colons.
fn error_chain(error: &(dyn StdError + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| (*error).source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
