#![no_main]
//! Any payload decodes to an event: none of its fields forges a line, and its data is what a JSON parser reads.

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use ssegate_format::Decoded;
use ssegate_format::Format;
use ssegate_sse::Event;
use ssegate_sse::encode::is_field_value;

fuzz_target!(|input: &[u8]| {
    let payload = Bytes::copy_from_slice(input);
    let raw =
        Decoded { event: Event { data: payload.clone(), ..Event::default() }, is_malformed: false };
    assert_eq!(Format::Raw.decode(&payload), raw);
    for format in Format::ALL {
        let Event { name, id, .. } = &format.decode(&payload).event;
        assert!([name, id].into_iter().flatten().all(|field| is_field_value(field)), "{format:?}");
        assert!(name.as_deref() != Some(""), "{format:?}");
    }

    let decoded = Format::Envelope.decode(&payload);
    let data = &decoded.event.data;
    match serde_json::from_slice::<Value>(input) {
        // The payload was taken for an envelope: its data is that of the JSON.
        Ok(Value::Object(object)) if decoded != raw => {
            check_data(data, object.get("data").unwrap_or(&Value::Null));
        }
        Ok(Value::Object(object)) => {
            let is_envelope = ["data", "event", "type"]
                .iter()
                .any(|key| object.get(*key).is_some_and(|value| !value.is_null()));
            assert!(!is_envelope || has_doubles(input), "an envelope was taken for data");
        }
        Ok(_) => assert_eq!(decoded, raw, "no object is no envelope"),
        Err(_) => {}
    }

    // What is written as an envelope reads back.
    let text = String::from_utf8_lossy(input);
    let (name, data) = text.split_once('|').unwrap_or(("", &text));
    let envelope = json!({ "event": name, "data": data, "id": name, "retry": input.len() });
    let decoded = Format::Envelope.decode(&envelope.to_string().into());
    let field = Some(name).filter(|name| is_field_value(name));
    // An id that is too long for a header could never come back.
    let id = field.filter(|id| id.len() <= Event::MAX_ID_BYTES);
    let expected = Event {
        name: field.filter(|name| !name.is_empty()).map(Into::into),
        id: id.map(Into::into),
        data: Bytes::copy_from_slice(data.as_bytes()),
        retry: Some(input.len() as u64),
    };
    assert_eq!(decoded, Decoded { event: expected, is_malformed: id.is_none() });
});

/// A string as it is, else the same value as compact JSON.
fn check_data(data: &Bytes, written: &Value) {
    match written {
        Value::Null if data.is_empty() => {}
        Value::String(text) => assert_eq!(data, text),
        other => {
            let read: Value = serde_json::from_slice(data).expect("JSON");
            assert_eq!(read, *other);
            assert!(!has_space_between_tokens(data), "not compact: {}", data.escape_ascii());
        }
    }
}

/// Whether a key may stand in the object twice: the word itself or an escape of it.
fn has_doubles(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let keys = ["event", "type", "data", "id", "retry"];
    text.contains("\\u") || keys.iter().any(|key| text.matches(&format!("\"{key}\"")).count() > 1)
}

fn has_space_between_tokens(json: &[u8]) -> bool {
    let (mut rest, mut is_in_string) = (json, false);
    while let [byte, after @ ..] = rest {
        rest = match byte {
            b'\\' if is_in_string => &after[1..],
            _ => after,
        };
        is_in_string ^= *byte == b'"';
        if !is_in_string && byte.is_ascii_whitespace() {
            return true;
        }
    }
    false
}
