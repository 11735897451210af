//! Patterns that a route follows from the start: whether they stay within its channels, and whether they match
//! names that are not for clients.

use std::collections::VecDeque;

use ssegate_hub::ChannelName;

use super::OWN_NAMES;
use super::template::Template;

/// One element of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GlobPiece {
    Byte(u8),
    /// `?`, or a class.
    One,
    /// `*`.
    Many,
}

/// Whether one of these templates of channel names makes every name that `pattern` matches. Without templates
/// any name is one of the route.
pub fn is_within(pattern: &str, templates: &[String]) -> bool {
    let pieces = pieces(pattern);
    let makes_all =
        |template: &String| is_within_parts(&pieces, &Template::new(template).literals());
    templates.is_empty() || templates.iter().any(makes_all)
}

/// Whether `pattern` may match channels that Redis or gateways use for themselves.
pub fn may_match_reserved(pattern: &ChannelName) -> bool {
    ChannelName::RESERVED.iter().chain([&OWN_NAMES]).any(|reserved| pattern.may_match(reserved))
}

/// The pattern that matches names with this prefix before what `pattern` matches.
pub fn with_prefix(prefix: &str, pattern: &str) -> String {
    let mut text = String::new();
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text + pattern
}

/// A part of a template can only be matched by the same bytes of the pattern: whatever else stands for several
/// bytes would also match others. So it is enough to find the parts in their order.
fn is_within_parts(pieces: &[GlobPiece], parts: &[String]) -> bool {
    let literal = |part: &str| part.bytes().map(GlobPiece::Byte).collect::<Vec<_>>();
    let mut parts: VecDeque<Vec<GlobPiece>> = parts.iter().map(|part| literal(part)).collect();
    let (Some(first), last) = (parts.pop_front(), parts.pop_back()) else { return false };
    let Some(last) = last else { return pieces == first };
    let Some(mut rest) = pieces.strip_prefix(&first[..]) else { return false };
    for part in parts {
        let found = (0..=rest.len()).find(|at| rest[*at..].starts_with(&part));
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(&last)
}

/// The elements of a pattern, as Redis reads it.
fn pieces(pattern: &str) -> Vec<GlobPiece> {
    let mut bytes = pattern.bytes().peekable();
    let mut pieces = Vec::new();
    while let Some(byte) = bytes.next() {
        pieces.push(match byte {
            b'*' => GlobPiece::Many,
            b'?' => GlobPiece::One,
            b'[' => {
                while let Some(inside) = bytes.next() {
                    match inside {
                        b']' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
                GlobPiece::One
            }
            b'\\' => GlobPiece::Byte(bytes.next().unwrap_or(b'\\')),
            other => GlobPiece::Byte(other),
        });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, proptest};
    use ssegate_hub::ChannelName;

    use super::{is_within, may_match_reserved, with_prefix};

    #[test]
    fn a_pattern_is_within_the_channels_of_a_route() {
        for (pattern, templates, expected) in [
            ("orders:*", &["orders:{id}"][..], true),
            ("orders:eu:*", &["orders:{id}"], true),
            ("orders:?", &["orders:{id}"], true),
            ("orders:[ab]", &["orders:{id}"], true),
            ("orders:7", &["orders:{id}"], true),
            ("order*", &["orders:{id}"], false),
            ("[o]rders:*", &["orders:{id}"], false),
            ("*", &["orders:{id}"], false),
            ("*", &["{channel}"], true),
            ("*", &[], true),
            ("news", &["news"], true),
            ("new?", &["news"], false),
            ("n\\ews", &["news"], true),
            ("a\\*b", &["a*{x}"], true),
            ("a*b", &["a*{x}"], false),
            ("user:*:log", &["user:{auth.id}:log"], true),
            ("user:*:logs", &["user:{auth.id}:log"], false),
            ("a", &["a{x}a"], false),
            ("a*a", &["a{x}a"], true),
            ("x:*", &["news", "x:{query.x}"], true),
        ] {
            let templates: Vec<String> = templates.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(is_within(pattern, &templates), expected, "{pattern} {templates:?}");
        }
    }

    #[test]
    fn names_that_are_not_for_clients_are_found() {
        for (pattern, expected) in [
            ("*", true),
            ("?*", true),
            ("__*", true),
            ("ss*", true),
            ("orders:*", false),
            ("s:*", false),
        ] {
            let name = ChannelName::new(pattern).expect("a name");
            assert_eq!(may_match_reserved(&name), expected, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn what_a_pattern_matches_is_made_by_the_template(
            pattern in r"[ab*?\[\]\\^-]{0,6}", name in "[ab]{0,6}", first in "[ab]{0,2}", last in "[ab]{0,2}",
        ) {
            if is_within(&pattern, &[format!("{first}{{x}}{last}")])
                && ssegate_glob::matches(pattern.as_bytes(), name.as_bytes())
            {
                let rest = name.strip_prefix(&first);
                prop_assert!(rest.is_some_and(|rest| rest.ends_with(&last)), "{pattern} {name}");
            }
        }

        #[test]
        fn a_prefix_stands_for_itself(prefix in r"[ab*?\[\]\\]{0,4}", name in "[ab]{0,3}") {
            let pattern = with_prefix(&prefix, "*");
            let whole = format!("{prefix}{name}");
            prop_assert!(ssegate_glob::matches(pattern.as_bytes(), whole.as_bytes()), "{pattern}");
        }
    }
}
