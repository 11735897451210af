//! Requests that are rejected before they are handled.

use std::borrow::Cow;

/// Why a request is rejected. The text goes to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Malformed (RFC 9113, section 8.1.1): after the response its stream is reset with
    /// PROTOCOL_ERROR.
    #[error("malformed request: {0}")]
    Malformed(Cow<'static, str>),
    /// Well-formed HTTP/2, but not acceptable.
    #[error("invalid request: {0}")]
    Invalid(Cow<'static, str>),
    /// Its header list is larger than SETTINGS_MAX_HEADER_LIST_SIZE.
    #[error("request header too large")]
    TooLarge,
}

impl RequestError {
    pub(crate) fn malformed(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed(what.into())
    }

    pub(crate) fn invalid(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(what.into())
    }

    /// Whether the stream is reset after the response.
    pub(crate) fn is_malformed(&self) -> bool {
        matches!(self, Self::Malformed(_))
    }
}
