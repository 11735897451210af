//! A RESP value.

use bytes::Bytes;

/// A value of RESP2 or RESP3.
///
/// Its [`Bytes`] are mostly slices of the read buffer, and keep all of that buffer alive: copy them
/// to keep them for longer (`Bytes::copy_from_slice`).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `+`: a simple string, such as `OK`.
    Simple(Bytes),
    /// `-` or `!`: an error, whose first word is its kind.
    Error(Bytes),
    /// `:`: an integer.
    Integer(i64),
    /// `$`: a bulk string of any bytes.
    Bulk(Bytes),
    /// A `$`, `!` or `=` over the size limit, which was discarded while it was read. The value is
    /// its length in bytes.
    TooLarge(u64),
    /// `_`, and `$-1` and `*-1` in RESP2.
    Null,
    /// What RESP2 writes as `*-1`, and RESP3 as `_`: no array. Only for encoding; a decoder returns
    /// [`Self::Null`] for both.
    NullArray,
    /// `#`: a boolean.
    Boolean(bool),
    /// `,`: a double.
    Double(f64),
    /// `(`: an integer of any size, as decimal digits.
    BigNumber(Bytes),
    /// `=`: a verbatim string.
    Verbatim {
        /// The encoding: `txt` or `mkd`.
        format: [u8; 3],
        /// The text.
        text: Bytes,
    },
    /// `*`: an array.
    Array(Vec<Self>),
    /// `~`: a set.
    Set(Vec<Self>),
    /// `>`: a push message, which a server sends without a request.
    Push(Vec<Self>),
    /// `%`: pairs of keys and values, in the order of sending.
    Map(Vec<(Self, Self)>),
}

impl Value {
    /// The bytes of a simple, bulk or verbatim string; `None` for all other types.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Simple(bytes) | Self::Bulk(bytes) | Self::Verbatim { text: bytes, .. } => {
                Some(bytes)
            }
            _ => None,
        }
    }
}
