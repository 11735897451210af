//! Encodes values in the RESP version of the peer.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};

use super::Value;

/// The RESP version of a connection. It starts with RESP2; `HELLO 3` selects RESP3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RespVersion {
    /// Strings, errors, integers and arrays.
    #[default]
    Resp2,
    /// All types of [`Value`].
    Resp3,
}

/// Appends `value` to `out`.
///
/// RESP2 has only strings, errors, integers and arrays: other types become the nearest of them, as
/// in Redis. Every CR or LF inside a [`Value::Simple`] or [`Value::Error`] becomes a space, because
/// these end with the next CRLF; Redis does the same. A [`Value::TooLarge`] has no bytes and is
/// encoded as null.
pub fn encode(value: &Value, version: RespVersion, out: &mut BytesMut) {
    let is_resp3 = version == RespVersion::Resp3;
    match value {
        Value::Simple(text) => line(b'+', text, out),
        Value::Error(text) => line(b'-', text, out),
        Value::Integer(number) => header(b':', *number, out),
        Value::Bulk(bytes) => bulk(b'$', bytes, out),
        Value::Null | Value::NullArray | Value::TooLarge(_) if is_resp3 => {
            out.put_slice(b"_\r\n");
        }
        Value::NullArray => out.put_slice(b"*-1\r\n"),
        Value::Null | Value::TooLarge(_) => out.put_slice(b"$-1\r\n"),
        Value::Boolean(is_true) if is_resp3 => header(b'#', if *is_true { 't' } else { 'f' }, out),
        Value::Boolean(is_true) => header(b':', u8::from(*is_true), out),
        Value::Double(number) if is_resp3 => header(b',', double(*number), out),
        Value::Double(number) => bulk(b'$', double(*number).as_bytes(), out),
        Value::BigNumber(digits) if is_resp3 => line(b'(', digits, out),
        Value::Verbatim { format, text } if is_resp3 => {
            bulk(b'=', &[format.as_slice(), b":", text].concat(), out);
        }
        Value::BigNumber(bytes) | Value::Verbatim { text: bytes, .. } => bulk(b'$', bytes, out),
        Value::Array(elements) => array(b'*', elements, version, out),
        Value::Set(elements) => array(if is_resp3 { b'~' } else { b'*' }, elements, version, out),
        Value::Push(elements) => array(if is_resp3 { b'>' } else { b'*' }, elements, version, out),
        Value::Map(pairs) => map(pairs, version, out),
    }
}

/// Appends a command to `out` as clients send it: an array of bulk strings.
pub fn encode_command<'a>(
    name: &str,
    arguments: impl ExactSizeIterator<Item = &'a str>,
    out: &mut BytesMut,
) {
    header(b'*', 1 + arguments.len(), out);
    bulk(b'$', name.as_bytes(), out);
    for argument in arguments {
        bulk(b'$', argument.as_bytes(), out);
    }
}

/// Appends a command whose words may have any bytes, its name first.
pub fn encode_words(words: &[impl AsRef<[u8]>], out: &mut BytesMut) {
    header(b'*', words.len(), out);
    for word in words {
        bulk(b'$', word.as_ref(), out);
    }
}

/// Writes a type byte and the rest of its line.
fn header(kind: u8, value: impl std::fmt::Display, out: &mut BytesMut) {
    out.put_u8(kind);
    write!(out, "{value}\r\n").expect("writing to a buffer cannot fail");
}

fn line(kind: u8, text: &[u8], out: &mut BytesMut) {
    out.put_u8(kind);
    out.extend(text.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    out.put_slice(b"\r\n");
}

fn bulk(kind: u8, bytes: &[u8], out: &mut BytesMut) {
    header(kind, bytes.len(), out);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

fn array(kind: u8, elements: &[Value], version: RespVersion, out: &mut BytesMut) {
    header(kind, elements.len(), out);
    for element in elements {
        encode(element, version, out);
    }
}

/// In RESP2, an array of alternating keys and values.
fn map(pairs: &[(Value, Value)], version: RespVersion, out: &mut BytesMut) {
    match version {
        RespVersion::Resp2 => header(b'*', pairs.len() * 2, out),
        RespVersion::Resp3 => header(b'%', pairs.len(), out),
    }
    for (key, value) in pairs {
        encode(key, version, out);
        encode(value, version, out);
    }
}

/// Formats a double as Redis does: `inf`, `-inf` and `nan` for values that are not finite.
fn double(number: f64) -> String {
    if number.is_nan() { "nan".to_owned() } else { number.to_string() }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use proptest::prelude::*;

    use super::super::{Limits, Value, ValueDecoder};
    use super::{RespVersion, encode};

    fn written(value: &Value, version: RespVersion) -> String {
        let mut out = BytesMut::new();
        encode(value, version, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn text(text: &'static str) -> Value {
        Value::Bulk(Bytes::from_static(text.as_bytes()))
    }

    /// The examples of the specification, in both versions.
    #[test]
    fn each_type_is_encoded_as_specified() {
        let verbatim = Value::Verbatim { format: *b"txt", text: Bytes::from_static(b"a\r\nb") };
        let number = Value::BigNumber(Bytes::from_static(b"12345678901234567890"));
        let pairs = Value::Map(vec![(text("k"), Value::Integer(-7))]);
        let set = Value::Set(vec![text("a")]);
        let push = Value::Push(vec![text(""), Value::Null]);
        for (value, resp3, resp2) in [
            (Value::Simple(Bytes::from_static(b"OK")), "+OK\r\n", "+OK\r\n"),
            (Value::Error(Bytes::from_static(b"ERR no")), "-ERR no\r\n", "-ERR no\r\n"),
            (Value::Integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
            (Value::Null, "_\r\n", "$-1\r\n"),
            (Value::NullArray, "_\r\n", "*-1\r\n"),
            (Value::TooLarge(9), "_\r\n", "$-1\r\n"),
            (Value::Boolean(true), "#t\r\n", ":1\r\n"),
            (Value::Boolean(false), "#f\r\n", ":0\r\n"),
            (Value::Double(1.5), ",1.5\r\n", "$3\r\n1.5\r\n"),
            (Value::Double(f64::NEG_INFINITY), ",-inf\r\n", "$4\r\n-inf\r\n"),
            (Value::Double(f64::NAN), ",nan\r\n", "$3\r\nnan\r\n"),
            (number, "(12345678901234567890\r\n", "$20\r\n12345678901234567890\r\n"),
            (verbatim, "=8\r\ntxt:a\r\nb\r\n", "$4\r\na\r\nb\r\n"),
            (pairs, "%1\r\n$1\r\nk\r\n:-7\r\n", "*2\r\n$1\r\nk\r\n:-7\r\n"),
            (set, "~1\r\n$1\r\na\r\n", "*1\r\n$1\r\na\r\n"),
            (push, ">2\r\n$0\r\n\r\n_\r\n", "*2\r\n$0\r\n\r\n$-1\r\n"),
            (Value::Array(vec![]), "*0\r\n", "*0\r\n"),
        ] {
            assert_eq!(written(&value, RespVersion::Resp3), resp3);
            assert_eq!(written(&value, RespVersion::Resp2), resp2);
        }
    }

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = BytesMut::new();
        super::encode_command("GET", ["a\r\nb", ""].into_iter(), &mut out);
        let mut words = BytesMut::new();
        super::encode_words(&["GET", "a\r\nb", ""], &mut words);
        assert_eq!(words, out);
        assert_eq!(out, "*3\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n$0\r\n\r\n");
        let mut decoder = ValueDecoder::new(Limits::default());
        let words = ["GET", "a\r\nb", ""].map(text);
        assert_eq!(decoder.decode(&mut out), Ok(Some(Value::Array(words.to_vec()))));
    }

    #[test]
    fn a_line_ending_in_an_error_is_replaced() {
        let forged = Value::Error(Bytes::from_static(b"ERR no\r\n+OK"));
        assert_eq!(written(&forged, RespVersion::Resp2), "-ERR no  +OK\r\n");
    }

    fn values() -> impl Strategy<Value = Value> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
        let leaf = prop_oneof![
            "[ -~]{0,20}".prop_map(|text| Value::Simple(text.into())),
            "[ -~]{0,20}".prop_map(|text| Value::Error(text.into())),
            any::<i64>().prop_map(Value::Integer),
            bytes().prop_map(Value::Bulk),
            Just(Value::Null),
            any::<bool>().prop_map(Value::Boolean),
            (-1e300..1e300).prop_map(Value::Double),
            "-?[0-9]{20,30}".prop_map(|digits| Value::BigNumber(digits.into())),
            bytes().prop_map(|text| Value::Verbatim { format: *b"mkd", text }),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let some = || proptest::collection::vec(inner.clone(), 0..6);
            prop_oneof![
                some().prop_map(Value::Array),
                some().prop_map(Value::Set),
                some().prop_map(Value::Push),
                proptest::collection::vec((inner.clone(), inner.clone()), 0..6)
                    .prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn encoded_values_decode_to_the_same_value(value in values()) {
            let mut out = BytesMut::new();
            encode(&value, RespVersion::Resp3, &mut out);
            let mut decoder = ValueDecoder::new(Limits::default());
            prop_assert_eq!(decoder.decode(&mut out), Ok(Some(value)));
            prop_assert!(out.is_empty());
        }
    }
}
