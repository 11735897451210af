//! Why a request got no response over HTTP/2, or not all of it.

use std::fmt;

use http::Request;

use crate::proxy::upload::Upload;
use crate::server::http2::error::ErrorCode;

/// Why a stream, or the whole connection, ended early. The text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::proxy) enum Reason {
    /// RST_STREAM (RFC 9113, section 6.4).
    #[error("it reset the stream with {}", Named(*.0))]
    Reset(ErrorCode),
    /// GOAWAY (RFC 9113, section 6.8), with its debug data.
    #[error("it closes the connection with {}{}", Named(*.0), Quoted(.1))]
    GoAway(ErrorCode, Box<str>),
    /// The socket.
    #[error("the connection was lost: {0}")]
    Lost(Box<str>),
    /// The task of the connection is gone, without an end of the connection: it has panicked, perhaps.
    #[error("the task of its connection has ended")]
    Task,
    /// It broke the rules of the protocol.
    #[error("it broke the protocol: {0}")]
    Protocol(&'static str),
    /// What it sent first is HTTP/1.1.
    #[error("it speaks HTTP/1.1, and not HTTP/2 as `http2: true` says")]
    Http1,
    /// A response that RFC 9113, section 8.1.1, calls malformed.
    #[error("its response is malformed: {0}")]
    Malformed(&'static str),
    /// The header of its response, or the trailers.
    #[error("the header of its response is larger than max_response_header")]
    LargeHeader,
    /// The body of the request failed.
    #[error("the body of the request broke off")]
    Upload,
}

/// A request without a response.
#[derive(Debug)]
pub(in crate::proxy) struct Lost {
    pub(in crate::proxy) reason: Reason,
    /// Whether the backend has not processed the request, and will not: it may be sent again,
    /// whatever its method (RFC 9113, section 8.7).
    pub(in crate::proxy) is_unprocessed: bool,
    /// The request; of its body, some may have been read.
    pub(in crate::proxy) request: Request<Upload>,
}

impl Reason {
    /// Whether the connection is at fault, and another may do.
    pub(in crate::proxy) fn is_of_the_connection(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Reset(ErrorCode::ENHANCE_YOUR_CALM))
    }

    /// Whether a connection that has just been opened was closed without a fault: so a server that is
    /// being replaced closes those that it has accepted last.
    pub(in crate::proxy) fn is_plain_end(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::GoAway(ErrorCode::NO_ERROR, _))
    }
}

/// A fault of the backend's in the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It ends the connection (RFC 9113, section 5.4.1).
    Connection(ErrorCode, &'static str),
    /// It ends one stream (RFC 9113, section 5.4.2): it is reset with this code.
    Stream(u32, ErrorCode, Reason),
}

impl Fault {
    pub(super) fn protocol(what: &'static str) -> Self {
        Self::Connection(ErrorCode::PROTOCOL_ERROR, what)
    }

    pub(super) fn malformed(stream: u32, what: &'static str) -> Self {
        Self::Stream(stream, ErrorCode::PROTOCOL_ERROR, Reason::Malformed(what))
    }
}

/// An error code by its name (RFC 9113, section 7).
struct Named(ErrorCode);

impl fmt::Display for Named {
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

/// Debug data, where there is any.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " ({})", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::{ErrorCode, Reason};

    #[test]
    fn a_code_reads_as_the_standard_names_it() {
        let text = Reason::Reset(ErrorCode(0xd)).to_string();
        assert_eq!(text, "it reset the stream with HTTP_1_1_REQUIRED");
        let text = Reason::GoAway(ErrorCode(0xb), "too_many_pings".into()).to_string();
        assert_eq!(text, "it closes the connection with ENHANCE_YOUR_CALM (too_many_pings)");
        let text = Reason::GoAway(ErrorCode(0x99), "".into()).to_string();
        assert_eq!(text, "it closes the connection with error code 0x99");
    }
}
