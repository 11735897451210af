//! Laravel's `/broadcasting/auth`: what it is asked, and what its response means.
//!
//! Channels named `private-…` and `presence-…` need a permission each; others are public
//! (<https://laravel.com/docs/broadcasting#authorizing-channels>). The body of a permission is `true` for a
//! private channel, and an object with `channel_data` for a presence channel. A status alone proves nothing:
//! with the broadcasters `null` and `log` it is 200 for everybody.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// Whether a channel needs a permission.
pub fn needs_permission(channel: &str) -> bool {
    channel.starts_with("private-") || channel.starts_with("presence-")
}

/// The target that asks for a channel: `target` with `channel_name`.
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
    use super::{is_permission, needs_permission, target};

    #[test]
    fn only_private_and_presence_channels_need_a_permission() {
        for (channel, expected) in [
            ("private-orders.7", true),
            ("private-encrypted-orders.7", true),
            ("presence-room", true),
            ("orders.7", false),
            ("Private-x", false),
            ("privately", false),
        ] {
            assert_eq!(needs_permission(channel), expected, "{channel}");
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
