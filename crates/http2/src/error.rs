//! Error codes, and errors in what a client sends (RFC 9113, sections 5.4 and 7).

use super::abuse::AbuseReason;
use super::request_error::RequestError;

/// An error code (RFC 9113, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// Not an error: a graceful end.
    pub const NO_ERROR: Self = Self(0x0);
    /// The peer violated the protocol.
    pub const PROTOCOL_ERROR: Self = Self(0x1);
    /// This side failed.
    pub const INTERNAL_ERROR: Self = Self(0x2);
    /// The peer exceeded a flow-control window, or let one grow beyond 2^31-1.
    pub const FLOW_CONTROL_ERROR: Self = Self(0x3);
    /// A frame came on a stream that was half-closed or closed.
    pub const STREAM_CLOSED: Self = Self(0x5);
    /// A frame has an invalid size.
    pub const FRAME_SIZE_ERROR: Self = Self(0x6);
    /// The request was not processed at all: it may be sent again.
    pub const REFUSED_STREAM: Self = Self(0x7);
    /// The stream is no longer needed.
    pub const CANCEL: Self = Self(0x8);
    /// A header block could not be decoded.
    pub const COMPRESSION_ERROR: Self = Self(0x9);
    /// The peer does too much of what is allowed.
    pub const ENHANCE_YOUR_CALM: Self = Self(0xb);
}

/// An error in what the client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReceiveError {
    /// A connection error (section 5.4.1), with the text for GOAWAY and the log.
    Connection(ErrorCode, &'static str),
    /// A stream error (section 5.4.2).
    Stream(u32, ErrorCode),
    /// A request that turned out to be in error after its header. Boxed: the other errors are
    /// small.
    Request(u32, Box<RequestError>),
    /// Allowed, but too much of it: the connection ends with ENHANCE_YOUR_CALM.
    Abuse(AbuseReason),
}

impl ReceiveError {
    pub(crate) fn protocol(what: &'static str) -> Self {
        Self::Connection(ErrorCode::PROTOCOL_ERROR, what)
    }

    pub(crate) fn request(stream: u32, why: RequestError) -> Self {
        Self::Request(stream, Box::new(why))
    }

    pub(crate) fn frame_size(what: &'static str) -> Self {
        Self::Connection(ErrorCode::FRAME_SIZE_ERROR, what)
    }
}
