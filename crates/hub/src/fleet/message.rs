//! What gateways of a fleet publish for each other: JSON, so that an operator can read along with
//! `redis-cli SUBSCRIBE ssegate:mark`.
//!
//! Anyone who may publish on these channels can forge a message, so every text that no gateway would write is
//! ignored.

use serde::{Deserialize, Serialize};
use ssegate_format::Format;

use super::name::MarkId;
use super::order_id::OrderId;
use crate::position::event_id::RunTag;
use crate::{ChannelName, Ids, Subscription, Topic};

/// Subscriptions in one question, at most.
// Even with the longest names, every byte escaped, they are shorter than any limit of a message.
pub(crate) const MAX_ASKED: usize = 96;
/// Topics in one message of [`ForOne::Follows`], at most.
pub(crate) const MAX_FOLLOWED: usize = 96;

/// What is published for all gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum ForAll {
    /// How far have these channels come at this mark?
    Question {
        mark: HexId,
        /// Where the answers go.
        ask: RunTag,
        of: Vec<SubscriptionText>,
    },
    /// A mark.
    Mark { mark: HexId },
    /// A gateway has started: what do the others follow?
    List { list: RunTag },
    /// A gateway drains: some of what it follows, for the others to follow, too.
    Leaving { leaves: RunTag, follows: Vec<TopicText> },
}

/// What is published for one gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum ForOne {
    /// The answer to a question.
    Answer(AnswerText),
    /// Some of what a gateway follows.
    Follows { run: RunTag, follows: Vec<TopicText> },
}

/// An answer, as of the place of the question in the order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerText {
    pub(crate) to: HexId,
    pub(crate) run: RunTag,
    /// The newest number of the gateway at the question.
    pub(crate) number: u64,
    /// The newest marks, each with the number at which it stood.
    pub(crate) marks: Vec<(HexId, u64)>,
    /// Of the channels that were asked for, those that the gateway has followed without a hole since the
    /// number beside them.
    pub(crate) channels: Vec<ChannelText>,
}

/// How far a channel has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChannelText {
    /// The index of the channel in the question.
    pub(crate) at: usize,
    /// The number of its newest message; if there is none, that of its confirmation.
    pub(crate) number: u64,
    /// The place behind its newest message, if that has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) newest: Option<String>,
}

/// A mark in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct HexId(pub(crate) MarkId);

/// `("c", channel)` or `("p", pattern)`.
pub(crate) type SubscriptionText = (KindText, String);

/// A subscription, and the format of its events.
pub(crate) type TopicText = (KindText, String, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KindText {
    #[serde(rename = "c")]
    Channel,
    #[serde(rename = "p")]
    Pattern,
}

impl From<HexId> for String {
    fn from(HexId(mark): HexId) -> Self {
        format!("{mark:016x}")
    }
}

impl TryFrom<String> for HexId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const ERROR: &str = "not 16 hexadecimal digits";
        let is_hex = text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let mark = u64::from_str_radix(&text, 16).map_err(|_| ERROR)?;
        if is_hex { Ok(Self(mark)) } else { Err(ERROR) }
    }
}

impl KindText {
    fn of(subscription: &Subscription) -> Self {
        if subscription.is_pattern { Self::Pattern } else { Self::Channel }
    }
}

/// Writes a subscription.
pub(crate) fn subscription_text(subscription: &Subscription) -> SubscriptionText {
    (KindText::of(subscription), subscription.name.as_str().to_owned())
}

/// Reads a subscription; `None` for a name that no client can subscribe to.
pub(crate) fn subscription((kind, name): &SubscriptionText) -> Option<Subscription> {
    let name = ChannelName::new(name).ok()?;
    Some(Subscription { name, is_pattern: *kind == KindText::Pattern })
}

/// Writes a topic whose events the hub numbers.
pub(crate) fn topic_text(Topic { subscription, format, .. }: &Topic) -> TopicText {
    let (kind, name) = subscription_text(subscription);
    (kind, name, format.as_str().to_owned())
}

/// Reads such a topic. `None` for one that this gateway does not know, that no client may have, or that does
/// not belong to the order in which the message came.
pub(crate) fn topic((kind, name, format): TopicText, order: OrderId) -> Option<Topic> {
    let format = Format::ALL.iter().copied().find(|known| known.as_str() == format)?;
    let subscription = subscription(&(kind, name))?;
    let name = &subscription.name;
    if let Some(name) = name.as_sharded() {
        let is_taken = order != OrderId::PLAIN
            && !subscription.is_pattern
            && !ChannelName::is_hidden(name)
            && ChannelName::new(name).is_ok();
        return is_taken.then_some(Topic { subscription, format, ids: Ids::Ours });
    }
    if order != OrderId::PLAIN {
        return None;
    }
    let is_reserved = match subscription.is_pattern {
        true => ChannelName::RESERVED.iter().any(|reserved| name.may_match(reserved)),
        false => ChannelName::is_hidden(name.as_str()),
    };
    (!is_reserved).then_some(Topic { subscription, format, ids: Ids::Ours })
}

/// Reads a topic that this gateway has written itself, of any order.
pub(crate) fn own_topic(text: TopicText) -> Option<Topic> {
    let order = match text.1.starts_with(ChannelName::SHARDED) {
        true => OrderId::NONE,
        false => OrderId::PLAIN,
    };
    topic(text, order)
}

/// The bytes of a message.
pub(crate) fn encode(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("maps with text as keys are always JSON")
}

#[cfg(test)]
mod tests {
    use super::{AnswerText, ChannelText, ForAll, ForOne, HexId, KindText, OrderId, encode};
    use crate::position::event_id::RunTag;

    fn text(message: &impl serde::Serialize) -> String {
        String::from_utf8(encode(message)).expect("text")
    }

    #[test]
    fn messages_read_back_as_they_were_written() {
        let of = vec![(KindText::Channel, "a\"b".to_owned()), (KindText::Pattern, "c*".to_owned())];
        let run = RunTag::try_from("abc123".to_owned()).expect("a run");
        let ask = run;
        for (message, expected) in [
            (ForAll::Mark { mark: HexId(255) }, r#"{"mark":"00000000000000ff"}"#),
            (
                ForAll::Question { mark: HexId(1), ask, of },
                r#"{"mark":"0000000000000001","ask":"abc123","of":[["c","a\"b"],["p","c*"]]}"#,
            ),
            (ForAll::List { list: run }, r#"{"list":"abc123"}"#),
            (
                ForAll::Leaving {
                    leaves: run,
                    follows: vec![(KindText::Channel, "a".to_owned(), "raw".to_owned())],
                },
                r#"{"leaves":"abc123","follows":[["c","a","raw"]]}"#,
            ),
        ] {
            assert_eq!(text(&message), expected);
            assert_eq!(serde_json::from_str::<ForAll>(expected).expect("written so"), message);
        }
        let answer = ForOne::Answer(AnswerText {
            to: HexId(1),
            run,
            number: u64::MAX,
            marks: vec![(HexId(2), 7)],
            channels: vec![ChannelText { at: 0, number: 3, newest: None }],
        });
        let expected = r#"{"to":"0000000000000001","run":"abc123","number":18446744073709551615,"marks":[["0000000000000002",7]],"channels":[{"at":0,"number":3}]}"#;
        assert_eq!(text(&answer), expected);
        assert_eq!(serde_json::from_str::<ForOne>(expected).expect("written so"), answer);
    }

    #[test]
    fn nobody_makes_a_gateway_follow_what_no_client_may_have() {
        for (kind, name, is_taken) in [
            (KindText::Channel, "news", true),
            (KindText::Pattern, "news:*", true),
            (KindText::Channel, "ssegate:revoke", false),
            (KindText::Pattern, "*", false),
            (KindText::Pattern, "__key*", false),
            (KindText::Channel, "__keyevent@0__:set", false),
        ] {
            let text = (kind, name.to_owned(), "raw".to_owned());
            let topic = super::topic(text.clone(), OrderId::PLAIN);
            assert_eq!(topic.is_some(), is_taken, "{name}");
            assert_eq!(super::topic(text, OrderId::NONE), None, "{name} is not sharded");
        }
        for (kind, name, is_taken) in [
            (KindText::Channel, "ssegate:sharded:news", true),
            (KindText::Channel, "ssegate:sharded:", false),
            (KindText::Channel, "ssegate:sharded:ssegate:mark", false),
            (KindText::Channel, "ssegate:sharded:__keyevent@0__:set", false),
            (KindText::Pattern, "ssegate:sharded:*", false),
        ] {
            let text = (kind, name.to_owned(), "raw".to_owned());
            assert_eq!(super::topic(text.clone(), OrderId::PLAIN), None, "{name}");
            assert_eq!(super::topic(text, OrderId::NONE).is_some(), is_taken, "{name}");
        }
    }

    #[test]
    fn what_no_gateway_writes_is_refused() {
        for text in [
            "",
            "1",
            "{}",
            r#"{"mark":"ff"}"#,
            r#"{"mark":"+00000000000000f"}"#,
            r#"{"mark":1}"#,
            r#"{"mark":"00000000000000ff","more":1}"#,
            r#"{"mark":"00000000000000ff","ask":"abc123"}"#,
            r#"{"list":7}"#,
            r#"{"list":"abc1234"}"#,
            r#"{"list":"ABC123"}"#,
            r#"{"follows":[]}"#,
            r#"{"to":"0000000000000001","run":"abc123","number":-1,"marks":[],"channels":[]}"#,
        ] {
            assert!(serde_json::from_str::<ForAll>(text).is_err(), "{text}");
            assert!(serde_json::from_str::<ForOne>(text).is_err(), "{text}");
        }
    }
}
