//! What flows: an event, and the name of the place it is published to.
//!
//! Plain values without behaviour of their own. They know neither where they came from (Redis, the
//! embedded bus) nor where they go (an SSE frame).

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// One message of a publisher, decoded: what becomes one SSE event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The SSE `event` field; `None` reaches `onmessage` in a browser.
    pub name: Option<Box<str>>,
    /// The SSE `data` field before it is split into lines: any bytes.
    pub data: Bytes,
    /// The publisher's own id, used only where the route keeps no history; [`Self::MAX_ID_BYTES`] at
    /// most.
    pub id: Option<Box<str>>,
    /// The SSE `retry` field, in milliseconds.
    pub retry: Option<u64>,
}

impl Event {
    /// The longest id that a publisher may give, in bytes: a client brings it back in a header, beside
    /// all others.
    pub const MAX_ID_BYTES: usize = 1024;
}

/// The body of a message as it was read from a publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// All of it.
    Whole(Bytes),
    /// Over `max_event_bytes`: skipped while it was read. The number is its length in bytes.
    TooLarge(u64),
}

/// How the payloads of a channel are written by its publishers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// The payload is the event's data, byte for byte.
    #[default]
    Raw,
    /// A JSON object with `event` or `type`, `data`, `id` and `retry`.
    Envelope,
}

impl Format {
    /// The word for this format in gateway.yaml.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Envelope => "envelope",
        }
    }
}

/// A Redis channel, or a pattern over channels, that a client may ask for.
///
/// Valid because it exists: 1 to 255 bytes, no control characters, not one of the names that Redis
/// publishes its own affairs under (keyspace notifications, Sentinel's hello channel).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// Why a text is not a [`ChannelName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChannelName {
    /// Nothing at all.
    #[error("a channel name is empty")]
    Empty,
    /// Over [`ChannelName::MAX_BYTES`].
    #[error("a channel name is longer than 255 bytes")]
    TooLong,
    /// U+0000 to U+001F, U+007F to U+009F.
    #[error("a channel name has a control character")]
    ControlCharacter,
    /// Redis speaks of its keys and of its own affairs there.
    #[error("a channel name is reserved by Redis")]
    Reserved,
}

impl ChannelName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// The beginnings of names that Redis keeps for itself: keyspace notifications
    /// (<https://redis.io/docs/latest/develop/use/keyspace-notifications/>) and Sentinel.
    pub const RESERVED: [&'static str; 3] = ["__keyspace@", "__keyevent@", "__sentinel__"];

    /// Checks `name`.
    pub fn new(name: &str) -> Result<Self, InvalidChannelName> {
        if name.is_empty() {
            return Err(InvalidChannelName::Empty);
        }
        if name.len() > Self::MAX_BYTES {
            return Err(InvalidChannelName::TooLong);
        }
        if name.chars().any(char::is_control) {
            return Err(InvalidChannelName::ControlCharacter);
        }
        if Self::RESERVED.iter().any(|reserved| name.starts_with(reserved)) {
            return Err(InvalidChannelName::Reserved);
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether Redis would read the name as a pattern: it has one of `*`, `?`, `[` or `\`.
    pub fn has_glob(&self) -> bool {
        self.0.contains(['*', '?', '[', '\\'])
    }
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a source subscribes to: `SUBSCRIBE name` or `PSUBSCRIBE name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subscription {
    /// The channel, or the pattern.
    pub name: ChannelName,
    /// Whether `name` is a pattern.
    pub is_pattern: bool,
}

/// Whose id an event carries on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ids {
    /// The hub's number: the route keeps history, and a client can resume there.
    Ours,
    /// The publisher's, where it gave one: the route keeps no history.
    Publisher,
    /// The source's: the channel is a log, whose source keeps its entries and numbers them itself.
    Entries,
}

/// The id of an entry in a log: `<milliseconds>-<sequence>`, ascending within the log
/// (<https://redis.io/docs/latest/develop/data-types/streams/#entry-ids>).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Unix time as a rule, in milliseconds; a publisher may choose any number.
    pub milliseconds: u64,
    /// Tells apart the entries of one millisecond.
    pub sequence: u64,
}

impl EntryId {
    /// Before the first entry of any log.
    pub const ZERO: Self = Self { milliseconds: 0, sequence: 0 };
    /// After every entry.
    pub const MAX: Self = Self { milliseconds: u64::MAX, sequence: u64::MAX };

    /// Reads an id as it is written in full; `None` for everything else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|&byte| byte == b'-')?;
        let (milliseconds, sequence) = (&text[..dash], &text[dash + 1..]);
        Some(Self { milliseconds: decimal(milliseconds)?, sequence: decimal(sequence)? })
    }

    /// The id right before this one.
    #[must_use]
    pub fn previous(self) -> Self {
        let Self { milliseconds, sequence } = self;
        match (sequence.checked_sub(1), milliseconds.checked_sub(1)) {
            (Some(sequence), _) => Self { milliseconds, sequence },
            (None, Some(milliseconds)) => Self { milliseconds, sequence: u64::MAX },
            (None, None) => Self::ZERO,
        }
    }
}

/// Reads a number as we write it: digits, with no zero before them.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    let has_digits = (1..=20).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    let is_written_so = has_digits && (text.len() == 1 || text[0] != b'0');
    if is_written_so { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.milliseconds, self.sequence)
    }
}

/// A channel of the hub: a subscription, read in one way.
///
/// Two routes that read the same Redis channel in different ways do not meet: each has its own
/// frames.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topic {
    /// What the source listens to.
    pub subscription: Subscription,
    /// How its payloads are decoded.
    pub format: Format,
    /// Whose ids its events carry.
    pub ids: Ids,
}

#[cfg(test)]
mod tests {
    use super::{ChannelName, EntryId, InvalidChannelName};

    #[test]
    fn an_entry_id_reads_back_and_nothing_else_does() {
        for text in ["0-0", "1700000000000-7", "18446744073709551615-18446744073709551615"] {
            let id = EntryId::parse(text.as_bytes()).expect(text);
            assert_eq!(id.to_string(), text);
        }
        for text in [
            "",
            "1",
            "-",
            "1-",
            "-1",
            "1-2-3",
            "+1-2",
            "1-+2",
            " 1-2",
            "1-2 ",
            "$",
            "1-*",
            "18446744073709551616-0",
            "0-18446744073709551616",
            "000000000000000000001-0",
            "00-0",
            "1-07",
        ] {
            assert_eq!(EntryId::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(EntryId::parse(&[b'1'; 4096]), None);
        assert_eq!(EntryId::parse(b"\xff-1"), None);
    }

    #[test]
    fn an_entry_id_knows_the_one_before() {
        let id = |milliseconds, sequence| EntryId { milliseconds, sequence };
        assert_eq!(id(5, 1).previous(), id(5, 0));
        assert_eq!(id(5, 0).previous(), id(4, u64::MAX));
        assert_eq!(id(0, 0).previous(), id(0, 0));
        assert!(id(4, u64::MAX) < id(5, 0));
    }

    #[test]
    fn names_that_redis_keeps_for_itself_are_refused() {
        for name in ["__keyspace@0__:secret", "__keyevent@0__:set", "__sentinel__:hello"] {
            assert_eq!(ChannelName::new(name), Err(InvalidChannelName::Reserved), "{name}");
        }
        assert!(ChannelName::new("my__keyspace@0__").is_ok());
    }

    #[test]
    fn names_are_bounded_and_printable() {
        assert_eq!(ChannelName::new(""), Err(InvalidChannelName::Empty));
        assert_eq!(ChannelName::new(&"x".repeat(256)), Err(InvalidChannelName::TooLong));
        assert!(ChannelName::new(&"x".repeat(255)).is_ok());
        for name in ["a\nb", "a\0", "a\u{7f}", "a\u{85}"] {
            assert_eq!(ChannelName::new(name), Err(InvalidChannelName::ControlCharacter));
        }
        assert_eq!(ChannelName::new("wörld:1/ä b").expect("valid").as_str(), "wörld:1/ä b");
    }

    #[test]
    fn glob_characters_are_seen() {
        for name in ["a*", "?", "[a]", "\\x"] {
            assert!(ChannelName::new(name).expect("valid").has_glob(), "{name}");
        }
        assert!(!ChannelName::new("plain:name.1").expect("valid").has_glob());
    }
}
