//! The payload of a message.

use bytes::Bytes;

use super::value::Value;

/// The payload of a message, as it was received within [`Limits`](super::Limits).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The complete payload.
    Whole(Bytes),
    /// Over the size limit: discarded while it was read. The value is its length in bytes.
    TooLarge(u64),
}

impl TryFrom<Value> for Payload {
    type Error = Value;

    /// # Errors
    /// The value is no bulk string; it is returned.
    fn try_from(value: Value) -> Result<Self, Value> {
        match value {
            Value::Bulk(bytes) => Ok(Self::Whole(bytes)),
            Value::TooLarge(bytes) => Ok(Self::TooLarge(bytes)),
            other => Err(other),
        }
    }
}
