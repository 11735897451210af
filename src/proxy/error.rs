//! Why a request was not answered by its backend.

use std::error::Error as StdError;
use std::fmt;

use http::Request;

use super::http2::Reason;
use super::upload::Upload;
use crate::route::UpstreamAddress;

/// Why a request was not answered by its backend. The text is for the log: it names what failed.
#[derive(Debug, thiserror::Error)]
#[error("{upstream}: {failure}")]
pub struct ProxyError {
    upstream: UpstreamAddress,
    failure: Failure,
    // Whether it is to be logged.
    held_back: Option<u64>,
}

/// Whose fault it was, and what a client may know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The backend cannot be reached.
    Unreachable,
    /// The backend took the request, and ended without a response.
    NoResponse,
    /// The backend's response cannot be passed on.
    InvalidResponse,
    /// The head of the backend's response is larger than it may be.
    LargeResponse,
    /// The backend does not speak what the client has asked for.
    NoSwitch,
    /// The backend has all the connections, or waiting requests, that it may have.
    Busy,
    /// The backend takes too long.
    TooSlow,
    /// The client's body is broken.
    BrokenRequest,
    /// The client's body is larger than it may be.
    LargeRequest,
    /// The client's body does not come.
    SlowRequest,
}

impl Fault {
    /// Whether the client would have to send another request.
    pub fn is_of_the_client(self) -> bool {
        matches!(self, Self::BrokenRequest | Self::LargeRequest | Self::SlowRequest)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "the backend cannot be reached",
            Self::NoResponse => "the backend closed its connection without a response",
            Self::InvalidResponse => "the backend sent an invalid response",
            Self::LargeResponse => "the backend sent a response with too large a header",
            Self::NoSwitch => "the backend does not switch to the protocol that was asked for",
            Self::Busy => "the backend is busy",
            Self::TooSlow => "the backend took too long to answer",
            Self::BrokenRequest => "the body of the request is broken",
            Self::LargeRequest => "the body of the request is too large",
            Self::SlowRequest => "the body of the request did not come",
        })
    }
}

/// What failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("no connection within connect_timeout")]
    ConnectTimeout,
    #[error("max_connections are open")]
    MaxConnections,
    #[error("max_waiting requests wait for a connection")]
    MaxWaiting,
    #[error("no response within response_timeout")]
    ResponseTimeout,
    #[error("it took nothing of the request's body for idle_timeout")]
    UploadTimeout,
    #[error("it ended before it answered: {0}")]
    Exchange(String),
    #[error(
        "it did not process the request, and more of its body was read than retry_buffer keeps"
    )]
    RetryBuffer,
    #[error("its response is not valid HTTP: {0}")]
    InvalidResponse(String),
    #[error("the header of its response is larger than max_response_header")]
    LargeResponse,
    #[error("its response has a transfer coding other than chunked")]
    TransferCoding,
    #[error("it switches to a protocol that nobody asked for")]
    UnaskedSwitch,
    #[error("it does not switch to the protocol asked for: {0}")]
    NoSwitch(&'static str),
    #[error(
        "a WebSocket goes to the backend over HTTP/1.1, also where `http2` is true, and this one seems \
         to speak HTTP/2 alone: give WebSockets a route to a port that speaks HTTP/1.1 ({0})"
    )]
    Http2Alone(Box<Self>),
    #[error("the body of the request is broken")]
    BrokenRequest,
    #[error("the body of the request is larger than limits.body, or max_body of the route")]
    LargeRequest,
    #[error("the body of the request did not come for idle_timeout")]
    SlowRequest,
}

impl Failure {
    pub(super) fn connect(error: &(dyn StdError + 'static)) -> Self {
        Self::Connect(down_to_the_cause(error))
    }

    /// A request was sent over HTTP/1.1, and hyper has no response to it.
    pub(super) fn exchange(error: &hyper::Error) -> Self {
        if error.is_parse_too_large() {
            Self::LargeResponse
        } else if error.is_parse() {
            Self::InvalidResponse(down_to_the_cause(error))
        } else {
            Self::Exchange(down_to_the_cause(error))
        }
    }

    /// A request was sent over HTTP/2, and there is no response to it.
    pub(super) fn lost(reason: &Reason) -> Self {
        match reason {
            Reason::LargeHeader => Self::LargeResponse,
            Reason::Malformed(_) | Reason::Protocol(_) => Self::InvalidResponse(reason.to_string()),
            _ => Self::Exchange(reason.to_string()),
        }
    }

    /// The word in the metrics.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::MaxConnections => "max_connections",
            Self::MaxWaiting => "max_waiting",
            Self::ResponseTimeout => "response_timeout",
            Self::UploadTimeout => "upload_timeout",
            Self::Exchange(_) => "exchange",
            Self::RetryBuffer => "retry_buffer",
            Self::InvalidResponse(_) => "invalid_response",
            Self::LargeResponse => "large_response",
            Self::TransferCoding => "transfer_coding",
            Self::UnaskedSwitch | Self::NoSwitch(_) | Self::Http2Alone(_) => "switch",
            Self::BrokenRequest => "broken_request",
            Self::LargeRequest => "large_request",
            Self::SlowRequest => "slow_request",
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::Connect(_) => Fault::Unreachable,
            Self::Exchange(_) | Self::RetryBuffer => Fault::NoResponse,
            Self::InvalidResponse(_) | Self::TransferCoding | Self::UnaskedSwitch => {
                Fault::InvalidResponse
            }
            Self::NoSwitch(_) | Self::Http2Alone(_) => Fault::NoSwitch,
            Self::LargeResponse => Fault::LargeResponse,
            Self::MaxConnections | Self::MaxWaiting => Fault::Busy,
            Self::ConnectTimeout | Self::ResponseTimeout | Self::UploadTimeout => Fault::TooSlow,
            Self::BrokenRequest => Fault::BrokenRequest,
            Self::LargeRequest => Fault::LargeRequest,
            Self::SlowRequest => Fault::SlowRequest,
        }
    }

    /// Whether the client would have to send another request.
    pub(super) fn is_of_the_client(&self) -> bool {
        self.fault().is_of_the_client()
    }

    /// A WebSocket has failed at a backend that is said to speak HTTP/2.
    pub(super) fn of_websocket(self) -> Self {
        match self {
            Self::Exchange(_) | Self::InvalidResponse(_) => Self::Http2Alone(Box::new(self)),
            other => other,
        }
    }

    /// Whether it says nothing of how the backend is: any client can cause it, at a healthy one.
    pub(super) fn is_no_trouble(&self) -> bool {
        matches!(self, Self::Http2Alone(_))
    }

    /// Whether nobody answers there.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::ConnectTimeout)
    }

    /// Whether the upstream is better left alone for a while.
    pub(super) fn is_of_the_upstream(&self) -> bool {
        matches!(
            self,
            Self::Connect(_) | Self::ConnectTimeout | Self::ResponseTimeout | Self::UploadTimeout
        )
    }
}

/// A request without an answer; with it, where nothing of it was sent.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) failure: Failure,
    pub(super) unsent: Option<Box<Request<Upload>>>,
}

impl Unanswered {
    /// A request of which the backend has processed nothing.
    pub(super) fn unsent(failure: Failure, request: Request<Upload>) -> Self {
        Self { failure, unsent: Some(Box::new(request)) }
    }
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self { failure, unsent: None }
    }
}

impl ProxyError {
    /// `held_back`: how many failures of this kind have not been logged since the last one that was;
    /// `None`: neither is this one.
    pub(super) fn new(
        upstream: &UpstreamAddress,
        failure: Failure,
        held_back: Option<u64>,
    ) -> Self {
        Self { upstream: upstream.clone(), failure, held_back }
    }

    /// The word for it in the metrics.
    pub fn kind(&self) -> &'static str {
        self.failure.as_str()
    }

    /// `Some`: it is to be logged, and stands for so many others of its kind that were not.
    pub fn held_back(&self) -> Option<u64> {
        self.held_back
    }

    /// Whose fault it was.
    pub fn fault(&self) -> Fault {
        self.failure.fault()
    }
}

fn down_to_the_cause(error: &(dyn StdError + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| (*error).source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
