//! Requests that are refused before they are handled.

use std::borrow::Cow;

/// Why a request cannot be handled. The text says what is wrong with it, for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Malformed as RFC 9113, section 8.1.1, defines it: behind the answer its stream is reset with
    /// PROTOCOL_ERROR.
    #[error("the request is malformed: {0}")]
    Malformed(Cow<'static, str>),
    /// Well-formed for HTTP/2, and refused all the same.
    #[error("the request is not valid: {0}")]
    Refused(Cow<'static, str>),
    /// Its fields are larger than SETTINGS_MAX_HEADER_LIST_SIZE.
    #[error("the header is too large")]
    TooLarge,
}

impl Unfit {
    pub(super) fn malformed(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed(what.into())
    }

    pub(super) fn refused(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused(what.into())
    }

    /// Whether the stream is reset behind the answer.
    pub(super) fn is_malformed(&self) -> bool {
        matches!(self, Self::Malformed(_))
    }
}
