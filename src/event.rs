//! The values that flow through the gateway: events, channel names, subscriptions, entry ids.
//!
//! Plain values without behavior. They know neither their source (Redis, the embedded bus) nor
//! their destination (an SSE frame).

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// The payload of a message, as read from a publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The complete payload.
    Whole(Bytes),
    /// Longer than `max_event_bytes`: discarded while it was read. The value is its length in
    /// bytes.
    TooLarge(u64),
}

/// The name of a Redis channel, or a channel pattern, that a client may subscribe to.
///
/// Validated by construction: 1 to 255 bytes, no control characters, none of the prefixes that
/// Redis reserves for its own messages (keyspace notifications, Sentinel).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// Why a string is not a valid [`ChannelName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChannelName {
    /// The name is empty.
    #[error("the channel name is empty")]
    Empty,
    /// Over [`ChannelName::MAX_BYTES`].
    #[error("the channel name is longer than 255 bytes")]
    TooLong,
    /// U+0000 to U+001F, U+007F to U+009F.
    #[error("the channel name contains a control character")]
    ControlCharacter,
    /// The name starts with one of [`ChannelName::RESERVED`].
    #[error(
        "channel names that start with __keyspace@, __keyevent@ or __sentinel__ are reserved by \
         Redis"
    )]
    Reserved,
}

impl ChannelName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Prefixes that Redis reserves: keyspace notifications
    /// (<https://redis.io/docs/latest/develop/use/keyspace-notifications/>) and Sentinel.
    pub const RESERVED: [&'static str; 3] = ["__keyspace@", "__keyevent@", "__sentinel__"];

    /// Validates `name`.
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

    /// The name as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether Redis would treat the name as a pattern: it contains `*`, `?`, `[` or `\`.
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

/// A subscription of the source: `SUBSCRIBE name` or `PSUBSCRIBE name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subscription {
    /// The channel, or the pattern.
    pub name: ChannelName,
    /// Whether `name` is a pattern.
    pub is_pattern: bool,
}

/// Where the SSE ids of a channel's events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ids {
    /// The hub numbers the events: the route keeps history, from which a client can resume.
    Ours,
    /// The publisher may set them: the route keeps no history.
    Publisher,
    /// The source assigns them: the channel is a log, whose source stores and numbers its entries.
    Entries,
}

/// The id of an entry in a log: `<milliseconds>-<sequence>`, ascending within the log
/// (<https://redis.io/docs/latest/develop/data-types/streams/#entry-ids>).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Unix time in milliseconds by default; a publisher may choose any number.
    pub milliseconds: u64,
    /// Distinguishes the entries of one millisecond.
    pub sequence: u64,
}

impl EntryId {
    /// Lower than the id of any entry.
    pub const ZERO: Self = Self { milliseconds: 0, sequence: 0 };
    /// The highest possible id.
    pub const MAX: Self = Self { milliseconds: u64::MAX, sequence: u64::MAX };

    /// Parses an id in canonical form, `<milliseconds>-<sequence>`; returns `None` for anything
    /// else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|&byte| byte == b'-')?;
        let (milliseconds, sequence) = (&text[..dash], &text[dash + 1..]);
        Some(Self { milliseconds: decimal(milliseconds)?, sequence: decimal(sequence)? })
    }

    /// The next lower id; [`Self::ZERO`] if there is none.
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

/// Parses a decimal number in canonical form: digits only, without leading zeros.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    let has_digits = (1..=20).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    let is_canonical = has_digits && (text.len() == 1 || text[0] != b'0');
    if is_canonical { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.milliseconds, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::{ChannelName, EntryId, InvalidChannelName};

    #[test]
    fn only_a_canonical_entry_id_is_parsed() {
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
    fn previous_is_the_next_lower_entry_id() {
        let id = |milliseconds, sequence| EntryId { milliseconds, sequence };
        assert_eq!(id(5, 1).previous(), id(5, 0));
        assert_eq!(id(5, 0).previous(), id(4, u64::MAX));
        assert_eq!(id(0, 0).previous(), id(0, 0));
        assert!(id(4, u64::MAX) < id(5, 0));
    }

    #[test]
    fn names_reserved_by_redis_are_rejected() {
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
    fn glob_characters_are_detected() {
        for name in ["a*", "?", "[a]", "\\x"] {
            assert!(ChannelName::new(name).expect("valid").has_glob(), "{name}");
        }
        assert!(!ChannelName::new("plain:name.1").expect("valid").has_glob());
    }
}
