//! Both decoders: values decode the same however the bytes are split, nothing panics, limits hold.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{Limits, ProtocolError, RequestDecoder, Value, ValueDecoder};

fn decode_all(decoder: &mut ValueDecoder, bytes: &[u8]) -> Result<Vec<Value>, ProtocolError> {
    decode_pieces(decoder, [bytes])
}

/// Feeds `pieces` as a reader would: decodes until `None`, then appends.
fn decode_pieces<'a>(
    decoder: &mut ValueDecoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<Value>, ProtocolError> {
    let mut buf = BytesMut::new();
    let mut values = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        while let Some(value) = decoder.decode(&mut buf)? {
            values.push(value);
        }
    }
    assert!(buf.is_empty(), "left over: {buf:?}");
    Ok(values)
}

fn one(bytes: &[u8]) -> Result<Value, ProtocolError> {
    let mut values = decode_all(&mut ValueDecoder::new(Limits::default()), bytes)?;
    assert_eq!(values.len(), 1, "{values:?}");
    Ok(values.remove(0))
}

fn bulk(text: &str) -> Value {
    Value::Bulk(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn every_type_is_decoded() {
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    let table: [(&str, Value); 22] = [
        ("+OK\r\n", Value::Simple(text("OK"))),
        ("+\r\n", Value::Simple(text(""))),
        ("-ERR no\r\n", Value::Error(text("ERR no"))),
        ("!6\r\nERR\r\nx\r\n", Value::Error(text("ERR\r\nx"))),
        (":-12\r\n", Value::Integer(-12)),
        ("$5\r\na\r\nb\n\r\n", bulk("a\r\nb\n")),
        ("$0\r\n\r\n", bulk("")),
        ("$-1\r\n", Value::Null),
        ("*-1\r\n", Value::Null),
        ("_\r\n", Value::Null),
        ("#t\r\n", Value::Boolean(true)),
        ("#f\r\n", Value::Boolean(false)),
        (",-inf\r\n", Value::Double(f64::NEG_INFINITY)),
        ("(-123456789012345678901\r\n", Value::BigNumber(text("-123456789012345678901"))),
        ("=7\r\ntxt:abc\r\n", Value::Verbatim { format: *b"txt", text: text("abc") }),
        ("*0\r\n", Value::Array(vec![])),
        ("*2\r\n*0\r\n:1\r\n", Value::Array(vec![Value::Array(vec![]), Value::Integer(1)])),
        ("~1\r\n_\r\n", Value::Set(vec![Value::Null])),
        ("%0\r\n", Value::Map(vec![])),
        ("%1\r\n$1\r\na\r\n%1\r\n:1\r\n:2\r\n", {
            let inner = Value::Map(vec![(Value::Integer(1), Value::Integer(2))]);
            Value::Map(vec![(bulk("a"), inner)])
        }),
        (
            ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n",
            Value::Push(vec![bulk("message"), bulk("c"), bulk("hi")]),
        ),
        (
            "|1\r\n+ttl\r\n:3\r\n*1\r\n|1\r\n+a\r\n+b\r\n:9\r\n",
            Value::Array(vec![Value::Integer(9)]),
        ),
    ];
    for (bytes, value) in table {
        assert_eq!(one(bytes.as_bytes()), Ok(value), "{bytes:?}");
    }
}

#[test]
fn a_malformed_value_is_an_error() {
    let table: [(&str, ProtocolError); 19] = [
        ("hello\r\n", ProtocolError::UnknownType(b'h')),
        ("\r\n", ProtocolError::MissingLineEnd),
        ("\n", ProtocolError::MissingLineEnd),
        ("+OK\n", ProtocolError::MissingLineEnd),
        (":\r\n", ProtocolError::InvalidScalar("integer")),
        (":1.5\r\n", ProtocolError::InvalidScalar("integer")),
        (",x\r\n", ProtocolError::InvalidScalar("double")),
        ("#x\r\n", ProtocolError::InvalidScalar("boolean")),
        ("_x\r\n", ProtocolError::InvalidScalar("null")),
        ("(1x\r\n", ProtocolError::InvalidScalar("big number")),
        ("=3\r\ntxt\r\n", ProtocolError::InvalidScalar("verbatim string")),
        ("$-2\r\n", ProtocolError::InvalidLength),
        ("$?\r\n", ProtocolError::InvalidLength),
        ("*-2\r\n", ProtocolError::InvalidLength),
        ("%-1\r\n", ProtocolError::InvalidLength),
        ("$99999999999999999999\r\n", ProtocolError::InvalidLength),
        ("%9223372036854775807\r\n", ProtocolError::TooManyElements),
        ("$1\r\nab\r\n", ProtocolError::MissingLineEnd),
        ("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", ProtocolError::TooDeep),
    ];
    for (bytes, error) in table {
        assert_eq!(one(bytes.as_bytes()), Err(error), "{bytes:?}");
    }
}

#[test]
fn a_line_over_its_limit_is_an_error() {
    let limits = Limits { max_line_bytes: 100, ..Limits::default() };
    let error = Err(ProtocolError::LineTooLong);
    assert_eq!(decode_all(&mut ValueDecoder::new(limits), &[b'+'; 101]), error);
    let ended = [&[b'+'; 101][..], b"\r\n"].concat();
    assert_eq!(decode_all(&mut ValueDecoder::new(limits), &ended), error);
    let mut requests = RequestDecoder::new(limits);
    assert_eq!(
        requests.decode(&mut BytesMut::from(&[b'x'; 101][..])),
        Err(ProtocolError::LineTooLong)
    );
}

#[test]
fn a_string_over_the_limit_is_skipped_in_constant_memory() {
    let mut decoder = ValueDecoder::new(Limits::with_max_bulk(1000));
    let mut buf = BytesMut::from(&b"*3\r\n$1\r\na\r\n$100000000\r\n"[..]);
    let piece = vec![b'x'; 100_000];
    for _ in 0..1000 {
        assert_eq!(decoder.decode(&mut buf), Ok(None));
        assert!(buf.is_empty());
        buf.extend_from_slice(&piece);
    }
    assert!(buf.capacity() <= 2 * piece.len(), "{}", buf.capacity());
    buf.extend_from_slice(b"\r\n$1000\r\n");
    buf.extend_from_slice(&piece[..1000]);
    buf.extend_from_slice(b"\r\n");
    let kept = Value::Bulk(Bytes::copy_from_slice(&piece[..1000]));
    let expected = Value::Array(vec![bulk("a"), Value::TooLarge(100_000_000), kept]);
    assert_eq!(decoder.decode(&mut buf), Ok(Some(expected)));
}

#[test]
fn a_skipped_string_must_end_with_crlf() {
    let mut decoder = ValueDecoder::new(Limits::with_max_bulk(3));
    assert_eq!(decode_all(&mut decoder, b"$4\r\nabcdxy"), Err(ProtocolError::MissingLineEnd));
}

#[test]
fn the_strings_of_one_value_share_a_limit_and_the_next_value_has_its_own() {
    let max = 2 << 20;
    let mut decoder = ValueDecoder::new(Limits::with_max_bulk(max));
    let string = [format!("${max}\r\n").as_bytes(), &vec![b'x'; max], b"\r\n"].concat();
    let bytes = [b"*2\r\n", &string[..], &string[..], &string[..]].concat();
    let values = decode_all(&mut decoder, &bytes).expect("valid");
    let kept = Value::Bulk(Bytes::from(vec![b'x'; max]));
    assert_eq!(values[0], Value::Array(vec![kept.clone(), Value::TooLarge(max as u64)]));
    assert_eq!(values[1], kept);
}

#[test]
fn the_elements_of_all_levels_of_a_value_share_a_limit() {
    let limits = Limits { max_elements: 5, ..Limits::default() };
    let five = b"*2\r\n*2\r\n:1\r\n:2\r\n*1\r\n:3\r\n";
    assert!(decode_all(&mut ValueDecoder::new(limits), &five.repeat(3)).is_ok());
    let six = b"*2\r\n*2\r\n:1\r\n:2\r\n*2\r\n:3\r\n:4\r\n";
    assert_eq!(
        decode_all(&mut ValueDecoder::new(limits), six),
        Err(ProtocolError::TooManyElements)
    );
}

#[test]
fn a_long_string_leaves_the_read_buffer_small() {
    const READ: usize = 16 << 10;
    let mut bytes = format!("${}\r\n", 4 << 20).into_bytes();
    bytes.resize(bytes.len() + (4 << 20), b'x');
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&b"$2\r\nhi\r\n".repeat(10_000));
    let mut decoder = ValueDecoder::new(Limits::default());
    let mut buf = BytesMut::with_capacity(READ);
    let mut values = 0;
    for piece in bytes.chunks(READ / 2) {
        buf.reserve(READ / 2);
        buf.extend_from_slice(piece);
        while let Some(value) = decoder.decode(&mut buf).expect("valid") {
            values += 1;
            drop(value);
        }
        assert!(buf.capacity() <= READ, "{}", buf.capacity());
    }
    assert_eq!(values, 10_001);
}

#[test]
fn commands_are_arrays_or_inline_commands() {
    let mut decoder = RequestDecoder::new(Limits::with_max_bulk(10));
    let mut buf = BytesMut::from(
        &b"\r\n*0\r\n*-1\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$11\r\n01234567890\r\n  ECHO 'a b'\n*1"[..],
    );
    let mut next = || decoder.decode(&mut buf).expect("valid");
    let request = next().expect("a line");
    assert_eq!((request.words, request.is_inline), (vec![bulk("PING")], true));
    let request = next().expect("an array");
    assert_eq!(request.words, vec![bulk("ECHO"), Value::TooLarge(11)]);
    assert!(!request.is_inline);
    assert_eq!(next().expect("a line").words, vec![bulk("ECHO"), bulk("a b")]);
    assert_eq!(next(), None);
}

#[test]
fn a_command_consists_of_bulk_strings() {
    let decode =
        |bytes: &[u8]| RequestDecoder::new(Limits::default()).decode(&mut BytesMut::from(bytes));
    assert_eq!(decode(b"*1\r\n:1\r\n"), Err(ProtocolError::ExpectedBulk));
    assert_eq!(decode(b"*1\r\n$-1\r\n"), Err(ProtocolError::ExpectedBulk));
    assert_eq!(decode(b"*1\r\n*1\r\n"), Err(ProtocolError::TooDeep));
    assert_eq!(decode(b"*x\r\n"), Err(ProtocolError::InvalidLength));
}

/// A minimal encoder, so that the decoder is not tested with the encoder's mistakes.
fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Simple(text) => line('+', String::from_utf8_lossy(text), out),
        Value::Error(text) => blob('!', text, out),
        Value::Integer(number) => line(':', number, out),
        Value::Bulk(bytes) => blob('$', bytes, out),
        Value::Null => line('_', "", out),
        Value::Boolean(is_true) => line('#', if *is_true { 't' } else { 'f' }, out),
        Value::Double(number) => line(',', number, out),
        Value::BigNumber(digits) => line('(', String::from_utf8_lossy(digits), out),
        Value::Verbatim { format, text } => blob('=', &[&format[..], b":", text].concat(), out),
        Value::Array(elements) => encode_elements('*', elements, out),
        Value::Set(elements) => encode_elements('~', elements, out),
        Value::Push(elements) => encode_elements('>', elements, out),
        Value::Map(pairs) => {
            line('%', pairs.len(), out);
            for (key, value) in pairs {
                encode(key, out);
                encode(value, out);
            }
        }
        Value::TooLarge(_) | Value::NullArray => panic!("never sent"),
    }
}

fn line(kind: char, text: impl std::fmt::Display, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{kind}{text}\r\n").as_bytes());
}

fn blob(kind: char, bytes: &[u8], out: &mut Vec<u8>) {
    line(kind, bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn encode_elements(kind: char, elements: &[Value], out: &mut Vec<u8>) {
    line(kind, elements.len(), out);
    for element in elements {
        encode(element, out);
    }
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 0..3000),
    ]
    .prop_map(Bytes::from)
}

fn any_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        "[^\r\n]{0,20}".prop_map(|text| Value::Simple(text.into())),
        any_bytes().prop_map(Value::Error),
        any::<i64>().prop_map(Value::Integer),
        any_bytes().prop_map(Value::Bulk),
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<f64>().prop_filter("equals itself", |n| !n.is_nan()).prop_map(Value::Double),
        "-?[0-9]{1,40}".prop_map(|digits| Value::BigNumber(digits.into())),
        ("[a-z]{3}", any_bytes()).prop_map(|(format, text)| {
            let format = format.as_bytes().try_into().expect("three letters");
            Value::Verbatim { format, text }
        }),
    ];
    scalar.prop_recursive(4, 40, 6, |inner| {
        let elements = || prop::collection::vec(inner.clone(), 0..6);
        prop_oneof![
            elements().prop_map(Value::Array),
            elements().prop_map(Value::Set),
            elements().prop_map(Value::Push),
            prop::collection::vec((inner.clone(), inner.clone()), 0..4).prop_map(Value::Map),
        ]
    })
}

/// Splits `bytes` at the given offsets, taken modulo its length.
fn cut<'a>(bytes: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = places.iter().map(|place| place % (bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

proptest! {
    #[test]
    fn values_decode_the_same_however_they_are_split(
        values in prop::collection::vec(any_value(), 1..5),
        places in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let mut bytes = Vec::new();
        values.iter().for_each(|value| encode(value, &mut bytes));
        let mut decoder = ValueDecoder::new(Limits::default());
        prop_assert_eq!(decode_pieces(&mut decoder, cut(&bytes, &places)), Ok(values.clone()));
        prop_assert!(decoder.is_between_values());
        let mut decoder = ValueDecoder::new(Limits::default());
        prop_assert_eq!(decode_pieces(&mut decoder, bytes.chunks(1)), Ok(values));
    }

    #[test]
    fn strings_are_skipped_however_they_are_split(
        lengths in prop::collection::vec(0_usize..300, 1..6),
        places in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let strings: Vec<_> =
            lengths.iter().map(|len| Value::Bulk(Bytes::from(vec![b'\r'; *len]))).collect();
        let mut bytes = Vec::new();
        encode_elements('*', &strings, &mut bytes);
        let expected = strings.into_iter().map(|string| match string {
            Value::Bulk(bytes) if bytes.len() > 100 => Value::TooLarge(bytes.len() as u64),
            kept => kept,
        });
        let mut decoder = ValueDecoder::new(Limits::with_max_bulk(100));
        let read = decode_pieces(&mut decoder, cut(&bytes, &places));
        prop_assert_eq!(read, Ok(vec![Value::Array(expected.collect())]));
    }

    #[test]
    fn any_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        places in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        never_panics(&bytes, &places);
    }

    #[test]
    fn bytes_that_look_like_resp_never_panic(
        tokens in prop::collection::vec("[*$>%~|+:,#_(!=-]?(-1|[0-9]{0,3}|txt:|\\?)(\r\n|\n|\r)?", 0..40),
        places in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        never_panics(tokens.concat().as_bytes(), &places);
    }
}

fn never_panics(bytes: &[u8], places: &[usize]) {
    let limits = Limits { max_bulk_bytes: 50, max_elements: 100, max_depth: 3, max_line_bytes: 90 };
    let (mut values, mut requests) = (ValueDecoder::new(limits), RequestDecoder::new(limits));
    let (mut value_buf, mut request_buf) = (BytesMut::new(), BytesMut::new());
    for piece in cut(bytes, places) {
        value_buf.extend_from_slice(piece);
        while let Ok(Some(_)) = values.decode(&mut value_buf) {}
        request_buf.extend_from_slice(piece);
        while let Ok(Some(_)) = requests.decode(&mut request_buf) {}
    }
}
