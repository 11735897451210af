//! The id that a publisher has given an event, on a channel where it may ([`Ids::Mixed`](crate::Ids)).

use ssegate_sse::encode::is_field_value;

/// The longest id of a publisher that clients are sent, in bytes. It comes back as a header field, and
/// servers limit the length of those.
/// servers bound the length.
pub const MAX_FOREIGN_ID: usize = 1024;

/// Whether an event is sent with this id of its publisher. An empty one means no id, one with a control
/// character cannot be a header field, and spaces around one do not come back (RFC 9110, section 5.5).
pub fn is_foreign_id(id: &str) -> bool {
    let has_space_around = id.starts_with(' ') || id.ends_with(' ');
    !id.is_empty() && id.len() <= MAX_FOREIGN_ID && is_field_value(id) && !has_space_around
}

#[cfg(test)]
mod tests {
    use super::{MAX_FOREIGN_ID, is_foreign_id};

    #[test]
    fn an_id_that_cannot_come_back_is_none() {
        for (id, expected) in [
            ("7", true),
            ("order 7, \u{fc}", true),
            (&"x".repeat(MAX_FOREIGN_ID), true),
            (&"x".repeat(MAX_FOREIGN_ID + 1), false),
            ("", false),
            ("a\0b", false),
            ("a\rb", false),
            ("a\nb", false),
            ("a\tb", false),
            (" a", false),
            ("a ", false),
            (" ", false),
            ("\u{a0}a", true),
        ] {
            assert_eq!(is_foreign_id(id), expected, "{id:?}");
        }
    }
}
