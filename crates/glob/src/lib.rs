#![doc = include_str!("../README.md")]
//!
//! # The rules
//!
//! The rules are those of `PSUBSCRIBE` (<https://redis.io/docs/latest/commands/psubscribe/>),
//! including the edge cases of Redis's own matcher: an unclosed class is valid, a range may be
//! reversed, and a trailing backslash matches itself.

/// Whether the whole of `text` matches `pattern`.
///
/// Takes at most the product of both lengths: after a mismatch only the last `*` is extended,
/// because extending an earlier one cannot match anything more.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (pattern, text);
    // Where to continue after a mismatch: after the last `*`, which then matches one more byte.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = p {
            (p, retry) = (rest, Some((rest, t)));
            continue;
        }
        let Some((byte, text_rest)) = t.split_first() else { return p.is_empty() };
        if let Some(pattern_rest) = step(p, *byte) {
            (p, t) = (pattern_rest, text_rest);
            continue;
        }
        let Some((after_star, [_, widened @ ..])) = retry else { return false };
        (p, t, retry) = (after_star, widened, Some((after_star, widened)));
    }
}

/// Matches one byte against the first element of `pattern`, which is not `*`; returns the rest.
fn step(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', b'^', class @ ..] => class_end(class, byte, false),
        [b'[', class @ ..] => class_end(class, byte, true),
        [b'\\', escaped, rest @ ..] => (*escaped == byte).then_some(rest),
        [literal, rest @ ..] => (*literal == byte).then_some(rest),
    }
}

/// Reads a class up to its `]`, or to the end. Returns the rest if `byte` is in the class, or, if
/// `wanted` is false, if it is not.
fn class_end(mut class: &[u8], byte: u8, wanted: bool) -> Option<&[u8]> {
    let mut is_in = false;
    loop {
        let (hit, rest) = match class {
            [b'\\', escaped, rest @ ..] => (*escaped == byte, rest),
            [b']', rest @ ..] => return (is_in == wanted).then_some(rest),
            [] => return (is_in == wanted).then_some(class),
            [from, b'-', to, rest @ ..] => ((*from.min(to)..=*from.max(to)).contains(&byte), rest),
            [literal, rest @ ..] => (*literal == byte, rest),
        };
        is_in |= hit;
        class = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    /// tests/bus_redis_cli.rs compares many more patterns with a real Redis.
    #[test]
    fn patterns_match_as_in_redis() {
        let table = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "abc", true),
            ("news.*", "news.", true),
            ("news.*", "news", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[^e]llo", "hbllo", true),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("[\\]]", "]", true),
            ("[]", "]", false),
            ("[^]", "x", true),
            ("[abc", "b", true),
            ("[", "[", false),
            ("[^", "x", true),
            ("[a-]", "]", true),
            ("[a-]", "b", false),
            ("a\\", "a\\", true),
            ("*a*b", "xaxbxb", true),
            ("*a*b", "xaxbxc", false),
            ("*ab", "aab", true),
            ("*?", "", false),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        let pattern = b"a*".repeat(200);
        assert!(!matches(&[&pattern[..], b"b"].concat(), &[b'a'; 1000]));
    }
}
