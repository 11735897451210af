//! Protocol errors.

/// Why bytes cannot be decoded. The connection must be closed, because the start of the next value
/// is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// An unknown type byte. The streamed types of the RESP3 draft (`;`, `.`) count as unknown: no
    /// server sends them.
    #[error("unknown type '{}'", .0.escape_ascii())]
    UnknownType(u8),
    /// An element of a command is not a bulk string.
    #[error("expected '$'")]
    ExpectedBulk,
    /// The length of a string or an aggregate is not a number, or is negative.
    #[error("invalid length")]
    InvalidLength,
    /// A number, a boolean, a null or a verbatim string is malformed.
    #[error("invalid {0}")]
    InvalidScalar(&'static str),
    /// A line or a string does not end with CRLF.
    #[error("missing CR LF")]
    MissingLineEnd,
    /// A line is longer than [`max_line_bytes`](super::Limits::max_line_bytes).
    #[error("too big line")]
    LineTooLong,
    /// More nesting levels than [`max_depth`](super::Limits::max_depth).
    #[error("too deeply nested")]
    TooDeep,
    /// More elements than [`max_elements`](super::Limits::max_elements).
    #[error("too many elements")]
    TooManyElements,
    /// An inline command has an unclosed quote, or text directly after a closing quote.
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
}
