//! Replies that several commands use.

use bytes::Bytes;
use ssegate_resp::Value;

pub(super) fn ok() -> Value {
    simple("OK")
}

pub(super) fn simple(text: &'static str) -> Value {
    Value::Simple(Bytes::from_static(text.as_bytes()))
}

pub(super) fn bulk(text: &'static str) -> Value {
    Value::Bulk(Bytes::from_static(text.as_bytes()))
}

/// A count, as an integer reply.
pub(super) fn count(number: usize) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}
