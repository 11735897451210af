//! The `envelope` format: a JSON object with `event` or `type`, `data`, `id` and `retry`.
//!
//! `data` is a string as it is, or else compact JSON. An object with none of `data`, `event` and
//! `type`, and anything that is no object, is no envelope: it is the data itself.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Decoded, field, raw};
use crate::event::Event;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    retry: Option<&'a RawValue>,
}

pub(super) fn decode(payload: &Bytes) -> Decoded {
    // An array would be read as well: its elements as the fields, in their order.
    let is_object = payload.trim_ascii_start().starts_with(b"{");
    let envelope = serde_json::from_slice::<Envelope<'_>>(payload).ok().filter(|_| is_object);
    let Some(envelope) = envelope else {
        return raw(payload);
    };
    if envelope.data.is_none() && envelope.event.is_none() && envelope.kind.is_none() {
        return raw(payload);
    }
    let mut is_malformed = false;
    let name = envelope.event.or(envelope.kind).and_then(|name| text(name, &mut is_malformed));
    let id = envelope.id.and_then(|id| text(id, &mut is_malformed));
    let retry = envelope.retry.and_then(|retry| number(retry, &mut is_malformed));
    let event = Event {
        name: field(name, &mut is_malformed).filter(|name| !name.is_empty()),
        data: envelope.data.map(data).unwrap_or_default(),
        id: field(id, &mut is_malformed),
        retry,
    };
    Decoded { event, is_malformed }
}

/// A string as it is, else compact JSON. A string that is none in Unicode (a lone surrogate) stays
/// as it was written.
fn data(data: &RawValue) -> Bytes {
    match serde_json::from_str::<String>(data.get()) {
        Ok(text) => text.into(),
        Err(_) => compact(data.get()).into(),
    }
}

/// JSON without the white space between its tokens. Numbers and keys stay as they were written.
fn compact(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let (mut is_in_string, mut is_escaped) = (false, false);
    for character in json.chars() {
        if !is_in_string && matches!(character, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        if character == '"' && !is_escaped {
            is_in_string = !is_in_string;
        }
        is_escaped = is_in_string && character == '\\' && !is_escaped;
        compact.push(character);
    }
    compact
}

/// A string, or a number as it is written.
fn text(value: &RawValue, is_malformed: &mut bool) -> Option<String> {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str(json).ok().or_else(|| {
            *is_malformed = true;
            None
        }),
        Some(b'-' | b'0'..=b'9') => Some(json.to_owned()),
        _ => {
            *is_malformed |= json != "null";
            None
        }
    }
}

/// Milliseconds, as a number or as a string of digits.
fn number(value: &RawValue, is_malformed: &mut bool) -> Option<u64> {
    let number = value.get().trim_matches('"').parse().ok();
    *is_malformed |= number.is_none() && value.get() != "null";
    number
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::decode;

    fn check(payload: &'static str, name: Option<&str>, data: &str) {
        let decoded = decode(&Bytes::from_static(payload.as_bytes()));
        assert_eq!(decoded.event.name.as_deref(), name, "{payload}");
        assert_eq!(decoded.event.data, data, "{payload}");
        assert!(!decoded.is_malformed, "{payload}");
    }

    #[test]
    fn data_is_a_string_as_it_is_or_else_compact_json() {
        check(r#"{"event":"ping","data":"a\nb"}"#, Some("ping"), "a\nb");
        check(
            r#"{"type":"ping","data":{ "a" : [1, 2.50, "x  \" y"] }}"#,
            Some("ping"),
            r#"{"a":[1,2.50,"x  \" y"]}"#,
        );
        check(r#"{"data": 12345678901234567890.10 }"#, None, "12345678901234567890.10");
        check(r#"{"data":null,"event":"e"}"#, Some("e"), "");
        check(r#"{"event":"only"}"#, Some("only"), "");
        check(r#"{"event":"e","type":"t","data":""}"#, Some("e"), "");
        check(r#"{"event":"","data":"x"}"#, None, "x");
        check(r#"{"data":"\ud800"}"#, None, r#""\ud800""#);
    }

    #[test]
    fn what_is_no_envelope_is_the_data() {
        for payload in [
            "plain",
            "",
            "[1,2]",
            r#"["event","type","data","id",700]"#,
            "42",
            r#"{"hello": "world"}"#,
            r#"{"data":"#,
            "null",
        ] {
            check(payload, None, payload);
        }
    }

    #[test]
    fn id_and_retry_are_read() {
        let decoded = decode(&Bytes::from_static(br#"{"data":"x","id":7,"retry":1500}"#));
        assert_eq!(decoded.event.id.as_deref(), Some("7"));
        assert_eq!(decoded.event.retry, Some(1500));
        let decoded = decode(&Bytes::from_static(br#"{"data":"x","id":"a b","retry":"20"}"#));
        assert_eq!(decoded.event.id.as_deref(), Some("a b"));
        assert_eq!(decoded.event.retry, Some(20));
    }

    #[test]
    fn fields_that_could_forge_a_line_are_left_out() {
        for payload in [
            r#"{"data":"x","event":"a\ndata: forged"}"#,
            r#"{"data":"x","event":"a\r"}"#,
            r#"{"data":"x","id":"a\u0000"}"#,
            r#"{"data":"x","event":"a\u0085"}"#,
            r#"{"data":"x","event":{"a":1}}"#,
            r#"{"data":"x","retry":-1}"#,
            r#"{"data":"x","retry":"soon"}"#,
        ] {
            let decoded = decode(&Bytes::from_static(payload.as_bytes()));
            assert!(decoded.is_malformed, "{payload}");
            assert_eq!(decoded.event.name, None, "{payload}");
            assert_eq!(decoded.event.id, None, "{payload}");
            assert_eq!(decoded.event.data, "x", "{payload}");
        }
    }
}
