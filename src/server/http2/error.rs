//! What goes wrong on a connection, and how it is told.

use crate::server::connection::CutReason;
use crate::server::request_error::RequestError;

/// An error code (RFC 9113, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) u32);

impl Code {
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

/// A fault of the client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It ends the connection (section 5.4.1).
    Connection(Code, &'static str),
    /// It ends one stream (section 5.4.2).
    Stream(u32, Code),
    /// The rest of a request shows that the request is none. Boxed: the other faults are small.
    Request(u32, Box<RequestError>),
    /// Allowed, but too much of it: it ends the connection.
    Abuse(CutReason),
}

impl Fault {
    pub(super) fn protocol(what: &'static str) -> Self {
        Self::Connection(Code::PROTOCOL_ERROR, what)
    }

    pub(super) fn request(stream: u32, why: RequestError) -> Self {
        Self::Request(stream, Box::new(why))
    }

    pub(super) fn frame_size(what: &'static str) -> Self {
        Self::Connection(Code::FRAME_SIZE_ERROR, what)
    }
}
