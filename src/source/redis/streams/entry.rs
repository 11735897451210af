//! Stream entries: parses them from replies, and decodes them into events.

use std::hash::Hasher as _;

use bytes::Bytes;
use rustc_hash::FxHasher;
use serde_json::{Map, Value as Json};
use ssegate_format::{Decoded, Format};
use ssegate_hub::EntryId;
use ssegate_resp::Value;
use ssegate_sse::{Event, encode};

/// The fields that hold the data, in order of precedence.
const DATA: [&[u8]; 3] = [b"data", b"payload", b"message"];

/// An entry, as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StreamEntry {
    pub(super) id: EntryId,
    /// `None` if the entry is too large for an event; its fields were discarded.
    pub(super) fields: Option<Vec<(Bytes, Bytes)>>,
    /// A fingerprint of its contents.
    pub(super) fingerprint: Option<u32>,
}

/// The entries of one stream in a reply.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EntriesReply {
    pub(super) entries: Vec<StreamEntry>,
    /// The reply was too long and is truncated here: the rest must be requested again.
    pub(super) is_truncated: bool,
}

/// Whether the reply has used some of its size limit. The first entry of a reply was not skipped
/// for lack of space, but because it is too large itself.
#[derive(Debug, Default)]
pub(super) struct ReplyBudget {
    is_used: bool,
}

impl EntriesReply {
    /// Parses `[[id, [field, value, …]], …]`; `None` if the value is malformed.
    pub(super) fn parse(
        value: Value,
        budget: &mut ReplyBudget,
        max_event_bytes: usize,
    ) -> Option<Self> {
        let mut reply = Self::default();
        let list = match value {
            Value::Array(list) => list,
            Value::Null => return Some(reply),
            _ => return None,
        };
        for entry in list {
            let Value::Array(parts) = entry else { return None };
            let mut parts = parts.into_iter();
            let id = match parts.next()? {
                Value::Bulk(id) => EntryId::parse(&id)?,
                Value::TooLarge(_) => return Some(reply.truncated()),
                _ => return None,
            };
            let fields = match parts.next()? {
                Value::Array(fields) => fields,
                // The entry was deleted meanwhile.
                Value::Null => continue,
                _ => return None,
            };
            let is_too_large = |value: &Value| match value {
                Value::TooLarge(bytes) => *bytes > max_event_bytes as u64,
                _ => false,
            };
            let is_skipped = |value: &Value| matches!(value, Value::TooLarge(_));
            let fingerprint = fingerprint(fields.iter());
            let is_first = !std::mem::replace(&mut budget.is_used, true);
            let fields = if !fields.iter().any(is_skipped) {
                Some(pairs(fields)?)
            } else if is_first || fields.iter().any(is_too_large) {
                None
            } else {
                return Some(reply.truncated());
            };
            reply.entries.push(StreamEntry { id, fields, fingerprint });
        }
        Some(reply)
    }

    fn truncated(self) -> Self {
        Self { is_truncated: true, ..self }
    }
}

fn pairs(fields: Vec<Value>) -> Option<Vec<(Bytes, Bytes)>> {
    let mut pairs = Vec::with_capacity(fields.len() / 2);
    let mut fields = fields.into_iter();
    while let Some(field) = fields.next() {
        pairs.push((field.as_bytes()?.clone(), fields.next()?.as_bytes()?.clone()));
    }
    Some(pairs)
}

/// A fingerprint of an entry: a hash of its fields and values. `None` if some of them were skipped.
pub(super) fn fingerprint<'a>(parts: impl Iterator<Item = &'a Value>) -> Option<u32> {
    let mut hasher = FxHasher::default();
    for part in parts {
        let bytes = part.as_bytes()?;
        hasher.write_usize(bytes.len());
        hasher.write(bytes);
    }
    u32::try_from(hasher.finish() >> 32).ok()
}

/// Decodes the fields of an entry: `data` (or `payload`, or `message`), `event` and `retry`. A
/// single field is the data, whatever its name. An entry without data becomes an event with its
/// fields as JSON, so that a publisher's mistake is visible.
pub(super) fn decode(format: Format, fields: &[(Bytes, Bytes)]) -> Decoded {
    if let [(_, data)] = fields {
        return format.decode(data);
    }
    let field = |name: &[u8]| fields.iter().find(|(field, _)| field == name).map(|(_, v)| v);
    let Some(data) = DATA.iter().find_map(|name| field(name)) else {
        let data = Bytes::from(json(fields));
        return Decoded { event: Event { data, ..Event::default() }, is_malformed: true };
    };
    let Decoded { mut event, mut is_malformed } = format.decode(data);
    if let Some(name) = field(b"event") {
        match std::str::from_utf8(name) {
            Ok("") => {}
            Ok(name) if encode::is_field_value(name) => event.name = Some(name.into()),
            _ => is_malformed = true,
        }
    }
    if let Some(retry) = field(b"retry") {
        let number = std::str::from_utf8(retry).ok().and_then(|retry| retry.parse().ok());
        is_malformed |= number.is_none();
        event.retry = number.or(event.retry);
    }
    Decoded { event, is_malformed }
}

fn json(fields: &[(Bytes, Bytes)]) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let object: Map<String, Json> =
        fields.iter().map(|(field, value)| (text(field), Json::String(text(value)))).collect();
    Json::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ssegate_format::Format;
    use ssegate_resp::Value;

    use super::{EntriesReply, ReplyBudget, decode};

    fn fields(pairs: &[(&'static str, &'static str)]) -> Vec<(Bytes, Bytes)> {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        pairs.iter().map(|(field, value)| (bytes(field), bytes(value))).collect()
    }

    #[test]
    fn the_fields_of_an_entry_make_an_event() {
        for (pairs, name, data, retry) in [
            (&[("data", "x")][..], None, "x", None),
            (&[("anything", "x")], None, "x", None),
            (&[("event", "x")], None, "x", None),
            (&[("event", "ping"), ("data", "x")], Some("ping"), "x", None),
            (&[("payload", "x"), ("retry", "700")], None, "x", Some(700)),
            (&[("message", "m"), ("event", "")], None, "m", None),
            (&[("message", "m"), ("data", "d"), ("payload", "p")], None, "d", None),
        ] {
            let decoded = decode(Format::Raw, &fields(pairs));
            assert_eq!(decoded.event.name.as_deref(), name, "{pairs:?}");
            assert_eq!(decoded.event.data, data, "{pairs:?}");
            assert_eq!(decoded.event.retry, retry, "{pairs:?}");
            assert!(!decoded.is_malformed, "{pairs:?}");
        }
    }

    #[test]
    fn malformed_entries_are_visible() {
        let decoded = decode(Format::Raw, &fields(&[("user", "7"), ("action", "buy")]));
        assert_eq!(decoded.event.data, r#"{"action":"buy","user":"7"}"#);
        assert!(decoded.is_malformed);
        for pairs in [
            [("data", "x"), ("event", "a\ndata: forged")],
            [("data", "x"), ("retry", "soon")],
            [("data", "x"), ("retry", "-1")],
        ] {
            let decoded = decode(Format::Raw, &fields(&pairs));
            assert!(decoded.is_malformed, "{pairs:?}");
            assert_eq!((decoded.event.name, decoded.event.retry), (None, None));
            assert_eq!(decoded.event.data, "x");
        }
    }

    #[test]
    fn the_data_may_be_an_envelope() {
        let envelope = r#"{"event":"inner","data":"x","retry":5}"#;
        let one = decode(Format::Envelope, &fields(&[("data", envelope)])).event;
        assert_eq!((one.name.as_deref(), one.retry), (Some("inner"), Some(5)));
        let two =
            decode(Format::Envelope, &fields(&[("data", envelope), ("event", "outer")])).event;
        assert_eq!((two.name.as_deref(), two.retry), (Some("outer"), Some(5)));
    }

    fn bulk(text: &'static str) -> Value {
        Value::Bulk(Bytes::from_static(text.as_bytes()))
    }

    fn entry(id: &'static str, data: Value) -> Value {
        Value::Array(vec![bulk(id), Value::Array(vec![bulk("data"), data])])
    }

    #[test]
    fn a_truncated_reply_is_used_up_to_the_first_skipped_entry() {
        let read = |entries: Vec<Value>, budget: &mut ReplyBudget| {
            let reply = EntriesReply::parse(Value::Array(entries), budget, 100).expect("entries");
            let ids = reply.entries.iter().map(|e| format!("{} {}", e.id, e.fields.is_some()));
            (ids.collect::<Vec<_>>().join(", "), reply.is_truncated)
        };
        let whole = || entry("1-0", bulk("x"));
        let skipped = || entry("2-0", Value::TooLarge(60));
        let huge = || entry("3-0", Value::TooLarge(101));
        assert_eq!(
            read(vec![whole(), huge(), whole()], &mut ReplyBudget::default()),
            ("1-0 true, 3-0 false, 1-0 true".into(), false)
        );
        assert_eq!(
            read(vec![whole(), skipped()], &mut ReplyBudget::default()),
            ("1-0 true".into(), true)
        );
        // All fields of the entry together are too large, which they would be in any reply.
        assert_eq!(read(vec![skipped()], &mut ReplyBudget::default()), ("2-0 false".into(), false));
        let mut used = ReplyBudget::default();
        drop(read(vec![whole()], &mut used));
        assert_eq!(read(vec![skipped()], &mut used), (String::new(), true));
    }
}
