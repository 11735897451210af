//! Values to bytes, in the version of RESP that a client chose.

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2;
use redis_protocol::resp3;
use redis_protocol::resp3::types::VerbatimStringFormat;

use crate::source::resp::Value;

/// What a client understands. It begins with 2 and says `HELLO 3` for 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

pub(super) fn ok() -> Value {
    simple("OK")
}

pub(super) fn simple(text: &'static str) -> Value {
    Value::Simple(Bytes::from_static(text.as_bytes()))
}

pub(super) fn bulk(text: &'static str) -> Value {
    Value::Bulk(Bytes::from_static(text.as_bytes()))
}

/// A count, as RESP writes it.
pub(super) fn count(number: usize) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Writes `value` to the end of `out`.
pub(super) fn encode(value: Value, protocol: Protocol, out: &mut BytesMut) {
    let start = out.len();
    let written = match protocol {
        Protocol::Resp2 => resp2::encode::extend_encode(out, &resp2_frame(value), false),
        Protocol::Resp3 => resp3::encode::complete::extend_encode(out, &resp3_frame(value), false),
    };
    if let Err(error) = written {
        // Only a value that we put together wrongly ends here; the client learns that much.
        tracing::error!(%error, "a reply of the embedded bus could not be encoded");
        out.truncate(start);
        out.extend_from_slice(b"-ERR the reply could not be encoded\r\n");
    }
}

/// RESP2 knows texts, integers and arrays; the rest becomes the nearest of them, as in Redis.
fn resp2_frame(value: Value) -> resp2::types::BytesFrame {
    use resp2::types::BytesFrame as Frame;
    match value {
        Value::Simple(text) => Frame::SimpleString(text),
        Value::Error(text) => Frame::Error(String::from_utf8_lossy(&text).into_owned().into()),
        Value::Integer(number) => Frame::Integer(number),
        Value::Boolean(is_true) => Frame::Integer(is_true.into()),
        Value::Bulk(bytes) | Value::BigNumber(bytes) | Value::Verbatim { text: bytes, .. } => {
            Frame::BulkString(bytes)
        }
        Value::Double(number) => Frame::BulkString(number.to_string().into()),
        Value::Null | Value::TooLarge(_) => Frame::Null,
        Value::Array(elements) | Value::Set(elements) | Value::Push(elements) => {
            Frame::Array(elements.into_iter().map(resp2_frame).collect())
        }
        Value::Map(pairs) => {
            let flat = pairs.into_iter().flat_map(|(key, value)| [key, value]);
            Frame::Array(flat.map(resp2_frame).collect())
        }
    }
}

fn resp3_frame(value: Value) -> resp3::types::BytesFrame {
    use resp3::types::BytesFrame as Frame;
    let attributes = None;
    match value {
        Value::Simple(data) => Frame::SimpleString { data, attributes },
        Value::Error(text) => {
            let data = String::from_utf8_lossy(&text).into_owned().into();
            Frame::SimpleError { data, attributes }
        }
        Value::Integer(data) => Frame::Number { data, attributes },
        Value::Boolean(data) => Frame::Boolean { data, attributes },
        Value::Bulk(data) => Frame::BlobString { data, attributes },
        Value::BigNumber(data) => Frame::BigNumber { data, attributes },
        Value::Verbatim { text: data, format } => {
            let format = match &format {
                b"mkd" => VerbatimStringFormat::Markdown,
                _ => VerbatimStringFormat::Text,
            };
            Frame::VerbatimString { data, format, attributes }
        }
        Value::Double(data) => Frame::Double { data, attributes },
        Value::Null | Value::TooLarge(_) => Frame::Null,
        Value::Array(elements) => Frame::Array { data: resp3_frames(elements), attributes },
        Value::Push(elements) => Frame::Push { data: resp3_frames(elements), attributes },
        Value::Set(elements) => Frame::Set { data: resp3_frames(elements), attributes },
        Value::Map(pairs) => {
            let pair = |(key, value)| (resp3_frame(key), resp3_frame(value));
            Frame::Map { data: pairs.into_iter().map(pair).collect(), attributes }
        }
    }
}

fn resp3_frames<C: FromIterator<resp3::types::BytesFrame>>(elements: Vec<Value>) -> C {
    elements.into_iter().map(resp3_frame).collect()
}
