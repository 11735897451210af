//! Laravel's `/broadcasting/auth`: the target of the request to it, and what its response means.
//!
//! Channels named `private-…` and `presence-…` need a permission each; others are public
//! (<https://laravel.com/docs/broadcasting#authorizing-channels>). The body of a permission is `true` for a
//! private channel, and an object with `channel_data` for a presence channel. A status alone proves nothing:
//! with the broadcasters `null` and `log` it is 200 for everybody.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// What a channel needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// Nothing: everybody may have it.
    Public,
    /// A permission.
    Private,
    /// Refused: the name has a prefix before `private-` or `presence-` that the route does not strip.
    Prefixed,
}

/// What a channel needs, by its name.
pub fn kind_of(channel: &str) -> ChannelKind {
    const PRIVATE: [&str; 2] = ["private-", "presence-"];
    if PRIVATE.iter().any(|private| channel.starts_with(private)) {
        ChannelKind::Private
    } else if PRIVATE.iter().any(|private| channel.contains(private)) {
        ChannelKind::Prefixed
    } else {
        ChannelKind::Public
    }
}

/// The target of the request for a channel: `target` with `channel_name`.
pub fn target(target: &str, channel: &str) -> String {
    let separator = if target.contains('?') { '&' } else { '?' };
    let channel = utf8_percent_encode(channel, NON_ALPHANUMERIC);
    format!("{target}{separator}channel_name={channel}")
}

/// Whether the body of a 2xx response is a permission.
pub fn is_permission(body: &[u8]) -> bool {
    match serde_json::from_slice(body) {
        Ok(Value::Bool(allowed)) => allowed,
        Ok(Value::Object(object)) => object.contains_key("channel_data"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::ChannelKind::{Prefixed, Private, Public};
    use super::{is_permission, kind_of, target};

    #[test]
    fn only_private_and_presence_channels_need_a_permission() {
        for (channel, expected) in [
            ("private-orders.7", Private),
            ("private-encrypted-orders.7", Private),
            ("presence-room", Private),
            ("orders.7", Public),
            ("Private-x", Public),
            ("privately", Public),
            ("laravel_database_private-orders.7", Prefixed),
        ] {
            assert_eq!(kind_of(channel), expected, "{channel}");
        }
    }

    #[test]
    fn a_channel_is_asked_for_by_name() {
        let asked = "/broadcasting/auth?channel_name=private%2Dorders%2E7%26x";
        assert_eq!(target("/broadcasting/auth", "private-orders.7&x"), asked);
        assert_eq!(target("/a?b=c", "x"), "/a?b=c&channel_name=x");
    }

    #[test]
    fn the_body_decides() {
        for (body, expected) in [
            ("true", true),
            ("true\n", true),
            ("{\"channel_data\":{\"user_id\":\"1\",\"user_info\":[]}}", true),
            ("", false),
            ("false", false),
            ("\"true\"", false),
            ("truer", false),
            ("{}", false),
            ("{\"auth\":\"key:signature\"}", false),
            ("<html>true</html>", false),
        ] {
            assert_eq!(is_permission(body.as_bytes()), expected, "{body}");
        }
    }
}
