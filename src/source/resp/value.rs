//! One RESP value.

use bytes::Bytes;

/// A value of RESP2 or RESP3, as it was read.
///
/// Its [`Bytes`] are mostly slices of the buffer that was read into, and keep all of that buffer
/// alive: whoever stores one beyond the turn in which it was read copies it
/// (`Bytes::copy_from_slice`).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `+`: a short text, such as `OK`.
    Simple(Bytes),
    /// `-` or `!`: the text of an error; its first word names the kind.
    Error(Bytes),
    /// `:`
    Integer(i64),
    /// `$`: any bytes.
    Bulk(Bytes),
    /// A `$`, `!` or `=` that was longer than the reader keeps, and was skipped while it was read.
    /// The number is its length in bytes.
    TooLarge(u64),
    /// `_`, and the `$-1` and `*-1` of RESP2.
    Null,
    /// `#`
    Boolean(bool),
    /// `,`
    Double(f64),
    /// `(`: an integer beyond 64 bits, in decimal digits.
    BigNumber(Bytes),
    /// `=`: a text for humans.
    Verbatim {
        /// How it is written: `txt` or `mkd`.
        format: [u8; 3],
        /// The text.
        text: Bytes,
    },
    /// `*`
    Array(Vec<Self>),
    /// `~`: elements without order.
    Set(Vec<Self>),
    /// `>`: what a server sends unasked, such as a message.
    Push(Vec<Self>),
    /// `%`: pairs, in the order in which they were sent.
    Map(Vec<(Self, Self)>),
}

impl Value {
    /// The bytes of a string of any kind; `None` for everything else.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Simple(bytes) | Self::Bulk(bytes) | Self::Verbatim { text: bytes, .. } => {
                Some(bytes)
            }
            _ => None,
        }
    }
}
