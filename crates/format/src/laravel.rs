//! The `laravel` payload format: what Laravel's `redis` broadcast driver publishes, a JSON object
//! `{"event": …, "data": {…}, "socket": …}` (`Illuminate\Broadcasting\Broadcasters\RedisBroadcaster`).
//!
//! The event has the name of the broadcast event: its class, or what `broadcastAs()` returns. The
//! driver leaves the id of the socket that `toOthers()` excludes in `data` too; it is removed there,
//! as Laravel's other drivers do. The rest of `data` stays as written: numbers, escapes, the order of
//! keys. A payload without a string in `event` and without `data` is not Laravel's: it is the event's
//! data, unchanged.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use ssegate_sse::Event;

use super::{Decoded, data, field, raw};

#[derive(Deserialize)]
struct Broadcast<'a> {
    event: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

pub(super) fn decode(payload: &Bytes) -> Decoded {
    let Ok(broadcast) = serde_json::from_slice::<Broadcast<'_>>(payload) else {
        return raw(payload);
    };
    let mut is_malformed = false;
    let event = Event {
        name: field(Some(broadcast.event), &mut is_malformed).filter(|name| !name.is_empty()),
        data: match serde_json::from_str::<Members<'_>>(broadcast.data.get()) {
            Ok(members) => members.without_socket().into(),
            Err(_no_object) => data(broadcast.data),
        },
        ..Event::default()
    };
    Decoded { event, is_malformed }
}

/// The members of a JSON object in their order, as written.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl Members<'_> {
    fn without_socket(&self) -> String {
        let is_kept = |(key, _): &&(&RawValue, &RawValue)| key.get() != r#""socket""#;
        let members: Vec<String> =
            self.0.iter().filter(is_kept).map(|(key, value)| format!("{key}:{value}")).collect();
        format!("{{{}}}", members.join(","))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

// Not a map of the standard library: none keeps the order.
struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = object.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::decode;

    fn check(payload: &'static str, name: Option<&str>, data: &str) {
        let decoded = decode(&Bytes::from_static(payload.as_bytes()));
        assert_eq!(decoded.event.name.as_deref(), name, "{payload}");
        assert_eq!(decoded.event.data, data, "{payload}");
        assert_eq!((decoded.event.id, decoded.event.retry), (None, None), "{payload}");
        assert!(!decoded.is_malformed, "{payload}");
    }

    // Captured with PSUBSCRIBE from illuminate/broadcasting 8.83 and illuminate/redis with phpredis:
    // `RedisBroadcaster::broadcast()`.
    #[test]
    fn messages_of_the_redis_driver() {
        check(
            r#"{"event":"App\\Events\\OrderShipped","data":{"order":{"id":7,"total":12.5,"big":1.2345678901234567e+19},"note":"w\u00f6rld\/\u00e4 \"x\"","socket":null},"socket":null}"#,
            Some(r"App\Events\OrderShipped"),
            r#"{"order":{"id":7,"total":12.5,"big":1.2345678901234567e+19},"note":"w\u00f6rld\/\u00e4 \"x\""}"#,
        );
        check(
            r#"{"event":"order.shipped","data":{"socket":"123.456","order":{"socket":"kept"}},"socket":"123.456"}"#,
            Some("order.shipped"),
            r#"{"order":{"socket":"kept"}}"#,
        );
        check(r#"{"event":"Empty","data":{"socket":null},"socket":null}"#, Some("Empty"), "{}");
        check(r#"{"event":"List","data":[1,2,3],"socket":null}"#, Some("List"), "[1,2,3]");
    }

    #[test]
    fn other_payloads_are_the_data() {
        for payload in [
            "hello",
            "",
            "[]",
            r#"{"data":{"a":1}}"#,
            r#"{"event":7,"data":{}}"#,
            r#"{"event":"a"}"#,
            r#"{"event":"a","data":{"a":1}"#,
        ] {
            check(payload, None, payload);
        }
    }

    #[test]
    fn a_name_that_would_forge_a_line_is_dropped() {
        let decoded = decode(&Bytes::from_static(br#"{"event":"a\nid: 1","data":{"b":2}}"#));
        assert_eq!((decoded.event.name, &decoded.event.data[..]), (None, &br#"{"b":2}"#[..]));
        assert!(decoded.is_malformed);
    }
}
