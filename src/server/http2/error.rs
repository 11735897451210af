//! Errors in what a client sends (RFC 9113, section 5.4).

use crate::server::connection::CutReason;
use crate::server::request_error::RequestError;

/// An error code (RFC 9113, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ErrorCode(pub(crate) u32);

impl ErrorCode {
    pub(crate) const NO_ERROR: Self = Self(0x0);
    pub(crate) const PROTOCOL_ERROR: Self = Self(0x1);
    pub(crate) const INTERNAL_ERROR: Self = Self(0x2);
    pub(crate) const FLOW_CONTROL_ERROR: Self = Self(0x3);
    pub(crate) const STREAM_CLOSED: Self = Self(0x5);
    pub(crate) const FRAME_SIZE_ERROR: Self = Self(0x6);
    pub(crate) const REFUSED_STREAM: Self = Self(0x7);
    pub(crate) const CANCEL: Self = Self(0x8);
    pub(crate) const COMPRESSION_ERROR: Self = Self(0x9);
    pub(crate) const ENHANCE_YOUR_CALM: Self = Self(0xb);
}

/// An error in what the client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReceiveError {
    /// A connection error (section 5.4.1), with the text for GOAWAY and the log.
    Connection(ErrorCode, &'static str),
    /// A stream error (section 5.4.2).
    Stream(u32, ErrorCode),
    /// A request that turned out to be in error after its header. Boxed: the other errors are
    /// small.
    Request(u32, Box<RequestError>),
    /// Allowed, but too much of it: the connection ends with ENHANCE_YOUR_CALM.
    Abuse(CutReason),
}

impl ReceiveError {
    pub(super) fn protocol(what: &'static str) -> Self {
        Self::Connection(ErrorCode::PROTOCOL_ERROR, what)
    }

    pub(super) fn request(stream: u32, why: RequestError) -> Self {
        Self::Request(stream, Box::new(why))
    }

    pub(super) fn frame_size(what: &'static str) -> Self {
        Self::Connection(ErrorCode::FRAME_SIZE_ERROR, what)
    }
}
