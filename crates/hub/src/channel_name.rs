//! Names of channels.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

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

    /// Prefix of the names that gateways use among themselves. Clients do not receive what is published
    /// there, and it is not kept.
    pub const OF_GATEWAYS: &str = "ssegate:";

    /// Prefix of the names that the hub gives sharded channels: in Redis, a sharded channel and a plain one
    /// of the same name are different channels. Clients cannot use such a name, since it begins with
    /// [`Self::OF_GATEWAYS`].
    pub const SHARDED: &str = "ssegate:sharded:";

    /// The hub's name of the sharded channel that is called `name` in Redis.
    ///
    /// # Errors
    /// `name` is not valid, or too long with [`Self::SHARDED`] before it.
    pub fn sharded(name: &str) -> Result<Self, InvalidChannelName> {
        Self::new(name)?;
        Self::new(&format!("{}{name}", Self::SHARDED))
    }

    /// The name in Redis, if it is a sharded channel.
    pub fn as_sharded(&self) -> Option<&str> {
        self.0.strip_prefix(Self::SHARDED)
    }

    /// The name in Redis.
    pub fn in_redis(&self) -> &str {
        self.as_sharded().unwrap_or(&self.0)
    }

    /// Prefix of the channels on which gateways publish who joins and leaves another channel. Of the names of
    /// gateways only these may be followed by a stream, where its route says so.
    pub const OF_PRESENCE: &str = "ssegate:presence:";

    /// Returns the channel on which gateways publish who joins and leaves this one; `None` if its name would be too
    /// long.
    #[must_use]
    pub fn of_presence(&self) -> Option<Self> {
        Self::new(&format!("{}{}", Self::OF_PRESENCE, self.0)).ok()
    }

    /// Whether the name is one that gateways use and that no stream may follow.
    pub fn is_hidden(name: &str) -> bool {
        name.starts_with(Self::OF_GATEWAYS) && !name.starts_with(Self::OF_PRESENCE)
    }

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

    /// Whether the name, as a pattern, could match a name that starts with `reserved`: compares them up to the
    /// first glob character.
    pub fn may_match(&self, reserved: &str) -> bool {
        let pattern = self.as_str();
        let literal = pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len());
        let known = literal.min(reserved.len());
        pattern.as_bytes()[..known] == reserved.as_bytes()[..known]
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

#[cfg(test)]
mod tests {
    use super::{ChannelName, InvalidChannelName};

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
    fn a_sharded_channel_is_another_with_the_same_name_in_redis() {
        let sharded = ChannelName::sharded("news").expect("valid");
        let plain = ChannelName::new("news").expect("valid");
        assert_ne!(sharded, plain);
        assert_eq!((sharded.as_sharded(), plain.as_sharded()), (Some("news"), None));
        assert_eq!((sharded.in_redis(), plain.in_redis()), ("news", "news"));
        for (name, error) in [
            ("", InvalidChannelName::Empty),
            ("__keyspace@0__:x", InvalidChannelName::Reserved),
            (&*"x".repeat(250), InvalidChannelName::TooLong),
        ] {
            assert_eq!(ChannelName::sharded(name), Err(error), "{name}");
        }
    }

    #[test]
    fn glob_characters_are_detected() {
        for name in ["a*", "?", "[a]", "\\x"] {
            assert!(ChannelName::new(name).expect("valid").has_glob(), "{name}");
        }
        assert!(!ChannelName::new("plain:name.1").expect("valid").has_glob());
    }
}
