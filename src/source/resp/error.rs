//! How bytes can fail to be RESP.

/// Why the bytes of a peer cannot be read on: the connection is to be closed, since nobody knows
/// where the next value begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A value begins with a byte that names no type. The streamed types of the RESP3 draft (`;`,
    /// `.`) are among them: no server sends them.
    #[error("unknown type '{}'", .0.escape_ascii())]
    UnknownType(u8),
    /// An element of a command is no bulk string.
    #[error("expected '$'")]
    ExpectedBulk,
    /// The length of a string or of an array is not a number, or is negative.
    #[error("invalid length")]
    InvalidLength,
    /// A number, a boolean, a null or a verbatim string is written in a way that has no meaning.
    #[error("invalid {0}")]
    InvalidScalar(&'static str),
    /// A line or a string does not end with CR LF.
    #[error("missing CR LF")]
    MissingLineEnd,
    /// A line is longer than [`max_line_bytes`](super::Limits::max_line_bytes).
    #[error("too big line")]
    LineTooLong,
    /// More than [`max_depth`](super::Limits::max_depth) levels.
    #[error("too deeply nested")]
    TooDeep,
    /// More than [`max_elements`](super::Limits::max_elements).
    #[error("too many elements")]
    TooManyElements,
    /// An inline command opens a quote and does not close it, or goes on right after a closing one.
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
}
