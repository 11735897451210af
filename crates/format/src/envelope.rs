//! The `envelope` payload format: a JSON object with `event` or `type`, `data`, `id` and `retry`.
//!
//! A string in `data` is used as is; any other value, `null` included, becomes compact JSON. A
//! payload that is not an object, or an object with none of `data`, `event` and `type`, is not an
//! envelope: it is the event's data, unchanged. As in most JSON parsers, the last of duplicate keys
//! wins and a leading byte order mark is skipped.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use ssegate_sse::Event;

use super::{Decoded, data, field, raw};

/// Returns the envelope with these fields: what [`Format::Envelope`](crate::Format::Envelope) decodes to them.
/// Without an id it is a message of Laravel's broadcast driver, too.
pub fn encode_envelope(event: Option<&str>, id: Option<&str>, data: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct EnvelopeJson<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        event: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        data: &'a str,
    }
    serde_json::to_vec(&EnvelopeJson { event, id, data }).expect("strings are JSON")
}

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[derive(Default)]
struct Envelope<'a> {
    event: Option<&'a RawValue>,
    event_type: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    retry: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum EnvelopeKey {
    Event,
    Type,
    Data,
    Id,
    Retry,
    #[serde(other)]
    Other,
}

pub(super) fn decode(payload: &Bytes) -> Decoded {
    let json = payload.strip_prefix(BYTE_ORDER_MARK).unwrap_or(payload);
    let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(json) else {
        return raw(payload);
    };
    let name = envelope.event.filter(|event| !is_null(event));
    let name = name.or_else(|| envelope.event_type.filter(|name| !is_null(name)));
    if envelope.data.is_none() && name.is_none() {
        return raw(payload);
    }
    let mut is_malformed = false;
    let name = name.and_then(|name| text(name, &mut is_malformed));
    let id = envelope.id.and_then(|id| text(id, &mut is_malformed));
    let retry = envelope.retry.and_then(|retry| number(retry, &mut is_malformed));
    let id = field(id, &mut is_malformed).filter(|id| {
        let fits_in_header = id.len() <= Event::MAX_ID_BYTES;
        is_malformed |= !fits_in_header;
        fits_in_header
    });
    let event = Event {
        name: field(name, &mut is_malformed).filter(|name| !name.is_empty()),
        data: envelope.data.map(data).unwrap_or_default(),
        id,
        retry,
    };
    Decoded { event, is_malformed }
}

impl<'de: 'a, 'a> Deserialize<'de> for Envelope<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

/// Collects the known fields of a JSON object; the last of duplicate keys wins.
// Not derived: a derived implementation rejects duplicate keys and reads `null` as an absent field.
struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(key) = object.next_key()? {
            let field = match key {
                EnvelopeKey::Event => &mut envelope.event,
                EnvelopeKey::Type => &mut envelope.event_type,
                EnvelopeKey::Data => &mut envelope.data,
                EnvelopeKey::Id => &mut envelope.id,
                EnvelopeKey::Retry => &mut envelope.retry,
                EnvelopeKey::Other => {
                    object.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *field = Some(object.next_value()?);
        }
        Ok(envelope)
    }
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// Returns a string, or a number as written.
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

/// Returns milliseconds, from a number or a string of digits.
fn number(value: &RawValue, is_malformed: &mut bool) -> Option<u64> {
    let number = value.get().trim_matches('"').parse().ok();
    *is_malformed |= number.is_none() && value.get() != "null";
    number
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ssegate_sse::Event;

    use super::decode;

    fn check(payload: &'static str, name: Option<&str>, data: &str) {
        let decoded = decode(&Bytes::from_static(payload.as_bytes()));
        assert_eq!(decoded.event.name.as_deref(), name, "{payload}");
        assert_eq!(decoded.event.data, data, "{payload}");
        assert!(!decoded.is_malformed, "{payload}");
    }

    #[test]
    fn string_data_is_kept_and_other_data_becomes_compact_json() {
        check(r#"{"event":"ping","data":"a\nb"}"#, Some("ping"), "a\nb");
        check(
            r#"{"type":"ping","data":{ "a" : [1, 2.50, "x  \" y"] }}"#,
            Some("ping"),
            r#"{"a":[1,2.50,"x  \" y"]}"#,
        );
        check(r#"{"data": 12345678901234567890.10 }"#, None, "12345678901234567890.10");
        check(r#"{"data":null,"event":"e"}"#, Some("e"), "null");
        check(r#"{"data":null}"#, None, "null");
        check(r#"{"event":null,"type":"t","data":"x"}"#, Some("t"), "x");
        check(r#"{"event":"only"}"#, Some("only"), "");
        check(r#"{"event":"e","type":"t","data":""}"#, Some("e"), "");
        check(r#"{"event":"","data":"x"}"#, None, "x");
        check(r#"{"data":"\ud800"}"#, None, r#""\ud800""#);
    }

    #[test]
    fn the_last_of_duplicate_keys_wins() {
        check(r#"{"data":"a","event":"x","data":"b","event":"y"}"#, Some("y"), "b");
        check(r#"{"data":{"k":1},"d\u0061ta":{"k":1,"k":2}}"#, None, r#"{"k":1,"k":2}"#);
        let decoded =
            decode(&Bytes::from_static(br#"{"data":"x","id":1,"id":2,"retry":1,"retry":2}"#));
        assert_eq!((decoded.event.id.as_deref(), decoded.event.retry), (Some("2"), Some(2)));
    }

    #[test]
    fn an_envelope_skips_a_byte_order_mark_and_other_payloads_keep_it() {
        check("\u{feff}{\"event\":\"e\",\"data\":\"x\"}", Some("e"), "x");
        check("\u{feff} {\"data\":\"\u{feff}x\"}", None, "\u{feff}x");
        for payload in ["\u{feff}plain", "\u{feff}\u{feff}{\"data\":\"x\"}", "{\u{feff}\"data\":1}"]
        {
            check(payload, None, payload);
        }
    }

    #[test]
    fn an_id_too_long_for_a_request_header_is_dropped() {
        let with = |bytes: usize| {
            decode(&Bytes::from(format!(r#"{{"data":"x","id":"{}"}}"#, "i".repeat(bytes))))
        };
        let fits = with(Event::MAX_ID_BYTES);
        assert_eq!(fits.event.id.map_or(0, |id| id.len()), Event::MAX_ID_BYTES);
        assert!(!fits.is_malformed);
        let long = with(Event::MAX_ID_BYTES + 1);
        assert_eq!(
            (long.event.id, &long.event.data[..], long.is_malformed),
            (None, &b"x"[..], true)
        );
    }

    #[test]
    fn a_payload_that_is_not_an_envelope_is_the_data() {
        for payload in [
            "plain",
            "",
            "[1,2]",
            r#"["event","type","data","id",700]"#,
            "42",
            r#"{"hello": "world"}"#,
            r#"{"data":"#,
            r#"{"data":"x"} {}"#,
            r#"{"event":null,"id":"7"}"#,
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
    fn invalid_fields_are_dropped_and_the_data_is_kept() {
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
