//! The messages in the body of a request.
//!
//! `application/x-ndjson` has one on each line, and an `application/json` whose first character is `[` has one
//! for each item. There a message is an object with `data` and, if wanted, `event`, `id` and `channel`; any
//! other value is the data itself. A string in either place stands for its text, and everything else for its
//! JSON as it is written. Every other body is the data of one message, byte for byte.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::Deserializer as _;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use ssegate_sse::{Event, encode};

use super::refusal::PublishRefusal;
use crate::query;

/// The most messages of one request, each counted once for each of its channels.
pub(super) const MAX_MESSAGES: usize = 1000;

const KEYS: [&str; 4] = ["data", "event", "id", "channel"];

/// A message as a client has sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct IncomingMessage {
    pub(super) data: Bytes,
    pub(super) event: Option<String>,
    pub(super) id: Option<String>,
    /// `None`: it goes to the channels of the request.
    pub(super) channel: Option<String>,
}

/// The messages of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IncomingMessages {
    pub(super) messages: Vec<IncomingMessage>,
    /// Whether the body may have several, so that the response is a list.
    pub(super) is_list: bool,
}

/// How a body holds messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyKind {
    Data,
    Lines,
    Array,
}

/// Parses the messages of a request. `?event=` is the name of every message without one, and `?id=` the id of a
/// single message.
///
/// # Errors
/// The body is not what its `Content-Type` says, has no message or too many, or a name or an id that no event
/// can have.
pub(super) fn parse(
    headers: &HeaderMap,
    query: &str,
    body: &Bytes,
) -> Result<IncomingMessages, PublishRefusal> {
    let (event, id) = named_in(query)?;
    let kind = kind_of(headers, body);
    let mut messages = match kind {
        BodyKind::Data => {
            vec![IncomingMessage { data: body.clone(), ..IncomingMessage::default() }]
        }
        BodyKind::Lines => lines(body)?,
        BodyKind::Array => array(body)?,
    };
    if messages.is_empty() {
        return Err(invalid("the body has no message"));
    }
    let is_list = kind != BodyKind::Data;
    if id.is_some() && is_list {
        return Err(invalid("?id= is for a single message; write an id into each of several"));
    }
    for (index, message) in messages.iter_mut().enumerate() {
        message.event =
            message.event.take().or_else(|| event.clone()).filter(|name| !name.is_empty());
        message.id = message.id.take().or_else(|| id.clone());
        check(message).map_err(|why| match is_list {
            true => invalid(format!("message {}: {why}", index + 1)),
            false => invalid(why),
        })?;
    }
    Ok(IncomingMessages { messages, is_list })
}

fn invalid(why: impl Into<String>) -> PublishRefusal {
    PublishRefusal::Invalid(why.into())
}

type EventAndId = (Option<String>, Option<String>);

fn named_in(query: &str) -> Result<EventAndId, PublishRefusal> {
    let query = query::parse_strictly(query);
    let value = |key: &str| match query.iter().find(|(name, _)| name == key) {
        Some((_, None)) => Err(invalid(format!("?{key}= is not valid UTF-8"))),
        Some((_, Some(value))) if !value.is_empty() => Ok(Some(value.clone())),
        _ => Ok(None),
    };
    Ok((value("event")?, value("id")?))
}

fn kind_of(headers: &HeaderMap, body: &[u8]) -> BodyKind {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => BodyKind::Lines,
        "application/json" if body.trim_ascii_start().starts_with(b"[") => BodyKind::Array,
        _ => BodyKind::Data,
    }
}

fn lines(body: &Bytes) -> Result<Vec<IncomingMessage>, PublishRefusal> {
    let lines = body.split(|&byte| byte == b'\n').enumerate();
    let mut messages = Vec::new();
    for (index, line) in lines.filter(|(_, line)| !line.trim_ascii().is_empty()) {
        if messages.len() == MAX_MESSAGES {
            return Err(too_many());
        }
        let at = |why: String| invalid(format!("line {}: {why}", index + 1));
        let json: &RawValue =
            serde_json::from_slice(line).map_err(|error| at(format!("not JSON: {error}")))?;
        messages.push(message(json).map_err(at)?);
    }
    Ok(messages)
}

fn array(body: &Bytes) -> Result<Vec<IncomingMessage>, PublishRefusal> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let items = json.deserialize_seq(ItemsVisitor).and_then(|items| json.end().map(|()| items));
    let items = items.map_err(|error| invalid(format!("the body is not a JSON array: {error}")))?;
    let at = |index: usize, why: String| invalid(format!("message {}: {why}", index + 1));
    let items = items.into_iter().enumerate();
    items.map(|(index, item)| message(item).map_err(|why| at(index, why))).collect()
}

fn too_many() -> PublishRefusal {
    invalid(format!("more than {MAX_MESSAGES} messages in one request"))
}

/// Collects the items of an array, unless there are too many.
struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = array.next_element()? {
            if items.len() == MAX_MESSAGES {
                return Err(A::Error::custom(format!("more than {MAX_MESSAGES} messages")));
            }
            items.push(item);
        }
        Ok(items)
    }
}

fn message(json: &RawValue) -> Result<IncomingMessage, String> {
    // Of equal keys the last wins, as in most parsers.
    let object: Option<BTreeMap<String, &RawValue>> = serde_json::from_str(json.get()).ok();
    let Some((object, value)) = object.as_ref().and_then(|all| Some((all, all.get("data")?)))
    else {
        return Ok(IncomingMessage { data: data(json)?, ..IncomingMessage::default() });
    };
    if let Some(unknown) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!(
            "unknown key {unknown:?} beside data; a message has data, event, id and channel. To publish the \
             object as it is, write it as the value of data"
        ));
    }
    let text = |key: &str| match object.get(key) {
        Some(value) => serde_json::from_str::<Option<String>>(value.get())
            .map_err(|_not_text| format!("{key} is not a string")),
        None => Ok(None),
    };
    Ok(IncomingMessage {
        data: data(value)?,
        event: text("event")?,
        id: text("id")?,
        channel: text("channel")?,
    })
}

fn data(json: &RawValue) -> Result<Bytes, String> {
    let json = json.get();
    if json.starts_with('"') {
        let text = serde_json::from_str::<String>(json);
        return text.map(Bytes::from).map_err(|error| format!("the data is no text: {error}"));
    }
    Ok(Bytes::copy_from_slice(json.as_bytes()))
}

fn check(IncomingMessage { event, id, .. }: &IncomingMessage) -> Result<(), String> {
    for (what, value) in [("the event name", event), ("the id", id)] {
        if value.as_ref().is_some_and(|value| !encode::is_field_value(value)) {
            return Err(format!("{what} has a control character, such as a line break"));
        }
        if value.as_ref().is_some_and(|value| value.len() > Event::MAX_ID_BYTES) {
            return Err(format!("{what} is longer than {} bytes", Event::MAX_ID_BYTES));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::{IncomingMessage, MAX_MESSAGES, parse};

    type Parsed = Vec<(String, Option<String>, Option<String>, Option<String>)>;

    fn parsed(kind: &'static str, query: &str, body: &str) -> Result<(Parsed, bool), String> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(kind));
        let body = Bytes::copy_from_slice(body.as_bytes());
        let all = parse(&headers, query, &body).map_err(|refusal| refusal.to_string())?;
        let parts = |IncomingMessage { data, event, id, channel }| {
            (String::from_utf8_lossy(&data).into_owned(), event, id, channel)
        };
        Ok((all.messages.into_iter().map(parts).collect(), all.is_list))
    }

    fn data(kind: &'static str, body: &str) -> Result<Vec<String>, String> {
        let (messages, _) = parsed(kind, "", body)?;
        Ok(messages.into_iter().map(|(data, ..)| data).collect())
    }

    const LINES: &str = "application/x-ndjson";
    const JSON: &str = "application/json; charset=utf-8";

    #[test]
    fn a_body_of_any_other_kind_is_the_data() {
        for (kind, body) in [
            ("text/plain", "[1,2]"),
            ("application/octet-stream", ""),
            ("", "{\"data\":1}\n{\"data\":2}"),
            (JSON, "{\"data\":1}"),
            (JSON, "\"text\""),
            (JSON, "not json"),
            ("application/x-www-form-urlencoded", "a=1"),
        ] {
            let (messages, is_list) = parsed(kind, "", body).expect("a message");
            assert_eq!((messages, is_list), (vec![(body.to_owned(), None, None, None)], false));
        }
    }

    #[test]
    fn lines_and_arrays_have_messages_or_plain_values() {
        let items = [
            r#"{"data":"a\nb"}"#,
            r#"{"data":{"x":1.50}}"#,
            r#""text""#,
            "42",
            "null",
            r#"{"data":null}"#,
            r#"{"other":"x"}"#,
            "[1]",
        ];
        let expected =
            ["a\nb", r#"{"x":1.50}"#, "text", "42", "null", "null", r#"{"other":"x"}"#, "[1]"];
        assert_eq!(data(LINES, &items.join("\r\n")).expect("messages"), expected);
        assert_eq!(
            data(LINES, &format!("{}\n\n", items.join("\n\n"))).expect("messages"),
            expected
        );
        assert_eq!(
            data(JSON, &format!(" [ {} ] ", items.join(" , "))).expect("messages"),
            expected
        );
    }

    #[test]
    fn a_message_has_a_name_an_id_and_a_channel_or_those_of_the_request() {
        let text = |text: &str| Some(text.to_owned());
        let all = parsed(
            LINES,
            "event=a%20b",
            r#"{"data":"x","event":"e","id":"1","channel":"c"}
{"data":"y"}
{"data":"z","event":""}"#,
        );
        let expected = vec![
            ("x".to_owned(), text("e"), text("1"), text("c")),
            ("y".to_owned(), text("a b"), None, None),
            ("z".to_owned(), None, None, None),
        ];
        assert_eq!(all, Ok((expected, true)));
        let one = parsed("text/plain", "event=e&id=7", "x").expect("a message").0;
        assert_eq!(one, [("x".to_owned(), text("e"), text("7"), None)]);
    }

    #[test]
    fn what_is_not_valid_is_refused_with_its_place() {
        let many = "1\n".repeat(MAX_MESSAGES + 1);
        let array = format!("[{}1]", "1,".repeat(MAX_MESSAGES));
        for (kind, query, body, expected) in [
            (LINES, "", "1\n{x}\n", "line 2: not JSON"),
            (LINES, "", "\n\n", "no message"),
            (LINES, "", r#"{"data":1,"evnt":"x"}"#, "unknown key \"evnt\""),
            (LINES, "", r#"{"data":1,"event":7}"#, "event is not a string"),
            (
                LINES,
                "",
                "1\n{\"data\":1,\"event\":\"a\\nb\"}",
                "message 2: the event name has a control",
            ),
            (LINES, "id=7", "1", "?id= is for a single message"),
            (LINES, "", &many, "more than 1000 messages"),
            (JSON, "", "[]", "no message"),
            (JSON, "", "[1,", "not a JSON array"),
            (JSON, "", "[1] 2", "not a JSON array"),
            (JSON, "", &array, "more than 1000 messages"),
            (JSON, "", r#"[1,{"data":"\ud800"}]"#, "message 2: the data is no text"),
            ("text/plain", "event=a%0Ab", "x", "the event name has a control character"),
            ("text/plain", "event=%ff", "x", "?event= is not valid UTF-8"),
            ("text/plain", "id=a%00", "x", "the id has a control character"),
        ] {
            let refused = parsed(kind, query, body).expect_err(body);
            assert!(refused.contains(expected), "{refused:?} {expected:?}");
        }
        assert!(data(LINES, &"1\n".repeat(MAX_MESSAGES)).is_ok());
    }
}
