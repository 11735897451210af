//! Errors of the HTTP/2 client: why a stream or connection ended, and the requests that were lost.

use std::fmt;

use http::Request;
use ssegate_http2::error::ErrorCode;

use crate::proxy::error::Failure;
use crate::proxy::upload::Upload;

/// Why a stream, or the whole connection, ended early. The text is for the log, after the
/// upstream's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::proxy) enum Reason {
    /// RST_STREAM (RFC 9113, section 6.4).
    #[error("the backend reset the stream with {}", CodeName(*.0))]
    Reset(ErrorCode),
    /// GOAWAY (RFC 9113, section 6.8), with its debug data.
    #[error("the backend sent GOAWAY with {}{}", CodeName(*.0), DebugData(.1))]
    GoAway(ErrorCode, Box<str>),
    /// The socket was closed or failed, or no PING ACK arrived.
    #[error("the connection was lost: {0}")]
    ConnectionLost(Box<str>),
    /// The connection task has ended, by a panic or because the last handle was dropped.
    #[error("the connection task has ended")]
    Task,
    /// A stream or connection error of the backend's.
    #[error("the backend violated HTTP/2: {0}")]
    Protocol(&'static str),
    /// The first octets were an HTTP/1.1 response.
    #[error("the backend speaks HTTP/1.1, not HTTP/2: remove `http2: true` from the route")]
    Http1,
    /// A malformed response (RFC 9113, section 8.1.1).
    #[error("malformed HTTP/2 message: {0}")]
    Malformed(&'static str),
    /// The header or the trailers exceed `max_response_header`.
    #[error("the response header is larger than max_response_header")]
    LargeHeader,
    /// The client's request body failed.
    #[error("the request body failed")]
    Upload,
}

/// A request without a response.
#[derive(Debug)]
pub(in crate::proxy) struct LostRequest {
    pub(in crate::proxy) reason: Reason,
    /// Whether the backend has not processed the request and will not: it may be retried whatever
    /// its method (RFC 9113, section 8.7).
    pub(in crate::proxy) is_unprocessed: bool,
    /// The request. Part of its body may have been read.
    pub(in crate::proxy) request: Request<Upload>,
}

impl Reason {
    /// Whether the connection is at fault, so that another one may work.
    pub(in crate::proxy) fn is_connection_failure(&self) -> bool {
        matches!(self, Self::ConnectionLost(_) | Self::Reset(ErrorCode::ENHANCE_YOUR_CALM))
    }
}

/// A request failed before its response.
impl From<&Reason> for Failure {
    fn from(reason: &Reason) -> Self {
        match reason {
            Reason::LargeHeader => Self::LargeResponse,
            Reason::Malformed(_) | Reason::Protocol(_) => Self::InvalidResponse(reason.to_string()),
            _ => Self::Exchange(reason.to_string()),
        }
    }
}

/// A protocol error of the backend's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProtocolViolation {
    /// A connection error (RFC 9113, section 5.4.1): GOAWAY with this code and debug data.
    Connection(ErrorCode, &'static str),
    /// A stream error (RFC 9113, section 5.4.2): the stream is reset with this code.
    Stream(u32, ErrorCode, Reason),
}

impl ProtocolViolation {
    /// A connection error of type PROTOCOL_ERROR.
    pub(super) fn protocol(what: &'static str) -> Self {
        Self::Connection(ErrorCode::PROTOCOL_ERROR, what)
    }

    /// The stream error for a malformed response (RFC 9113, section 8.1.1).
    pub(super) fn malformed(stream: u32, what: &'static str) -> Self {
        Self::Stream(stream, ErrorCode::PROTOCOL_ERROR, Reason::Malformed(what))
    }
}

/// Displays the name of an error code (RFC 9113, section 7).
struct CodeName(ErrorCode);

impl fmt::Display for CodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        match NAMES.get(self.0.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "error code {:#x}", self.0.0),
        }
    }
}

/// Displays debug data in parentheses, if not empty.
struct DebugData<'a>(&'a str);

impl fmt::Display for DebugData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " ({})", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::{ErrorCode, Reason};

    #[test]
    fn error_codes_are_displayed_by_name() {
        let text = Reason::Reset(ErrorCode(0xd)).to_string();
        assert_eq!(text, "the backend reset the stream with HTTP_1_1_REQUIRED");
        let text = Reason::GoAway(ErrorCode(0xb), "too_many_pings".into()).to_string();
        assert_eq!(text, "the backend sent GOAWAY with ENHANCE_YOUR_CALM (too_many_pings)");
        let text = Reason::GoAway(ErrorCode(0x99), "".into()).to_string();
        assert_eq!(text, "the backend sent GOAWAY with error code 0x99");
    }
}
