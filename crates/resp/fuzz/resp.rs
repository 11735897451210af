#![no_main]
//! RESP, from clients of the embedded bus and in the replies of Redis: decodes the same wherever it is cut,
//! as another decoder decodes it, and within its bounds.

#[path = "../../../fuzz/fuzz_targets/pieces.rs"]
mod pieces;

use std::fmt::Debug;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use redis::{Value as Other, parse_redis_value};
use ssegate_resp::{Limits, ProtocolError, RequestDecoder, Value, ValueDecoder};

/// Bounds that inputs reach.
const LIMITS: Limits =
    Limits { max_bulk_bytes: 64, max_elements: 64, max_depth: 4, max_line_bytes: 64 };

/// The values that were read, and the error that ended the reading.
type Read<T> = (Vec<T>, Option<ProtocolError>);

fn read<'a, T>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    mut decode: impl FnMut(&mut BytesMut) -> Result<Option<T>, ProtocolError>,
) -> Read<T> {
    let (mut buffer, mut values) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decode(&mut buffer) {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => return (values, Some(error)),
            }
        }
        let most = LIMITS.max_line_bytes;
        assert!(
            buffer.len() <= most,
            "{} bytes wait: no more than an unfinished line",
            buffer.len()
        );
    }
    (values, None)
}

fn values<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Read<Value> {
    let mut decoder = ValueDecoder::new(LIMITS);
    read(pieces, |buffer| decoder.decode(buffer))
}

fn requests<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Read<Vec<Value>> {
    let mut decoder = RequestDecoder::new(LIMITS);
    read(pieces, |buffer| Ok(decoder.decode(buffer)?.map(|request| request.words)))
}

/// Whether both have read the same values, and both or neither ended with an error. Which error depends on
/// how many bytes had come: a line may exceed its limit before its missing end is noticed.
fn is_equal<T: Debug>(one: &Read<T>, other: &Read<T>) -> bool {
    // As text: NaN is not equal to itself.
    let shown = |values: &[T]| format!("{values:?}");
    shown(&one.0) == shown(&other.0) && one.1.is_some() == other.1.is_some()
}

/// Within the bounds, strings are kept, lists are short and shallow.
fn check(value: &Value, depth: usize) -> usize {
    let all = |values: &[Value]| values.iter().map(|value| check(value, depth + 1)).sum::<usize>();
    assert!(depth <= LIMITS.max_depth);
    1 + match value {
        Value::Bulk(bytes) | Value::Simple(bytes) | Value::Error(bytes) => {
            assert!(bytes.len() <= LIMITS.max_bulk_bytes);
            0
        }
        Value::TooLarge(bytes) => {
            assert!(*bytes > LIMITS.max_bulk_bytes as u64);
            0
        }
        Value::Array(values) | Value::Set(values) | Value::Push(values) => all(values),
        Value::Map(pairs) => {
            pairs.iter().map(|(a, b)| check(a, depth + 1) + check(b, depth + 1)).sum()
        }
        _ => 0,
    }
}

/// Whether both have read the same.
fn is_same(ours: &Value, other: &Other) -> bool {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let all = |ours: &[Value], others: &[Other]| {
        ours.len() == others.len() && ours.iter().zip(others).all(|(a, b)| is_same(a, b))
    };
    match (ours, other) {
        (ours, Other::Attribute { data, .. }) => is_same(ours, data),
        (Value::Simple(a), Other::Okay) => a == "OK",
        (Value::Simple(a), Other::SimpleString(b)) => text(a) == *b,
        (Value::Error(_) | Value::TooLarge(_), Other::ServerError(_)) => true,
        (Value::Integer(a), Other::Int(b)) => a == b,
        (Value::Bulk(a), Other::BulkString(b)) => a == b,
        (Value::TooLarge(a), Other::BulkString(b)) => *a == b.len() as u64,
        (Value::TooLarge(_), Other::VerbatimString { .. }) => true,
        (Value::Null, Other::Nil) => true,
        (Value::Boolean(a), Other::Boolean(b)) => a == b,
        (Value::Double(a), Other::Double(b)) => a == b || a.is_nan() && b.is_nan(),
        (Value::BigNumber(a), Other::BigNumber(b)) => a == b,
        // The other decoder cuts a format of three bytes at a colon in it.
        (Value::Verbatim { format, text: a }, Other::VerbatimString { text: b, .. }) => {
            text(a) == *b || format.contains(&b':')
        }
        (Value::Array(a), Other::Array(b)) | (Value::Set(a), Other::Set(b)) => all(a, b),
        (Value::Push(a), Other::Push { data: b, .. }) => all(a.get(1..).unwrap_or_default(), b),
        (Value::Map(a), Other::Map(b)) => {
            let mut pairs = a.iter().zip(b);
            a.len() == b.len() && pairs.all(|((a, x), (b, y))| is_same(a, b) && is_same(x, y))
        }
        _ => false,
    }
}

fuzz_target!(|input: &[u8]| {
    let (bytes, pieces) = pieces::cut(input);
    let whole = values([bytes]);
    assert!(is_equal(&values(pieces.iter().copied()), &whole), "{whole:?}");
    for value in &whole.0 {
        // A map's pairs count twice, and a value in itself once.
        assert!(check(value, 0) <= LIMITS.max_elements + 1);
    }
    if let Some(first) = whole.0.first()
        && let Ok(other) = parse_redis_value(bytes)
    {
        assert!(is_same(first, &other), "{first:?}, and {other:?}");
    }

    let whole = requests([bytes]);
    assert!(is_equal(&requests(pieces), &whole), "{whole:?}");
    // An inline command means the same as its words sent as bulk strings.
    for words in whole.0 {
        let mut written = format!("*{}\r\n", words.len()).into_bytes();
        let mut is_kept = true;
        for word in &words {
            let Value::Bulk(word) = word else {
                is_kept = false;
                break;
            };
            written.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            written.extend_from_slice(word);
            written.extend_from_slice(b"\r\n");
        }
        if is_kept {
            assert_eq!(requests([&*written]), (vec![words], None));
        }
    }
});
