//! Escapes text of clients for a line: it cannot end the line or the field, or control a terminal.
//!
//! Only printable ASCII is written as it is. So no byte of a client forges a line, moves the cursor of a terminal or
//! turns the direction of its text. A text that is longer than its bound is cut.

use std::fmt::Write as _;

/// Marks a text that was cut.
const CUT: &str = "...";

/// Appends `bytes` as the inside of a JSON string (RFC 8259, section 7), within `most` bytes. What is not UTF-8
/// becomes U+FFFD.
pub(super) fn json(line: &mut String, bytes: &[u8], most: usize) {
    let end = line.len() + most - CUT.len();
    for character in String::from_utf8_lossy(bytes).chars() {
        let before = line.len();
        match character {
            '"' | '\\' => line.extend(['\\', character]),
            ' '..='~' => line.push(character),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    put(line, format_args!("\\u{unit:04x}"));
                }
            }
        }
        if line.len() > end {
            line.truncate(before);
            return line.push_str(CUT);
        }
    }
}

/// Appends `bytes` as Apache and nginx escape them in the combined log format, within `most` bytes: `\xHH`. A space
/// is escaped where `is_word`.
pub(super) fn combined(line: &mut String, bytes: &[u8], most: usize, is_word: bool) {
    let end = line.len() + most - CUT.len();
    for &byte in bytes {
        let before = line.len();
        match byte {
            b'"' | b'\\' => put(line, format_args!("\\x{byte:02X}")),
            b' ' if is_word => line.push_str("\\x20"),
            b' '..=b'~' => line.push(char::from(byte)),
            _ => put(line, format_args!("\\x{byte:02X}")),
        }
        if line.len() > end {
            line.truncate(before);
            return line.push_str(CUT);
        }
    }
}

/// Appends text that needs no escaping.
pub(super) fn put(line: &mut String, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text).expect("a string takes any text");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{combined, json};

    #[test]
    fn text_is_escaped_and_cut() {
        for (bytes, in_json, in_combined) in [
            (&b"/a b?c=%20"[..], "/a b?c=%20", "/a b?c=%20"),
            (b"\"\\", "\\\"\\\\", "\\x22\\x5C"),
            (
                b"\r\n\t\x1b[2J\x7f",
                "\\u000d\\u000a\\u0009\\u001b[2J\\u007f",
                "\\x0D\\x0A\\x09\\x1B[2J\\x7F",
            ),
            (
                "\u{e4}\u{202e}\u{1f600}".as_bytes(),
                "\\u00e4\\u202e\\ud83d\\ude00",
                "\\xC3\\xA4\\xE2\\x80\\xAE\\xF0\\x9F\\x98\\x80",
            ),
            (b"\xff", "\\ufffd", "\\xFF"),
        ] {
            let (mut one, mut other) = (String::new(), String::new());
            json(&mut one, bytes, 100);
            combined(&mut other, bytes, 100, false);
            assert_eq!((&*one, &*other), (in_json, in_combined), "{bytes:?}");
        }
        let mut word = String::new();
        combined(&mut word, b"a b", 100, true);
        assert_eq!(word, "a\\x20b");
        let mut long = String::from("x");
        json(&mut long, b"abcdefgh\n", 10);
        assert_eq!(long, "xabcdefg...");
    }

    proptest! {
        #[test]
        fn any_bytes_stay_on_one_line_within_the_bound(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut line = String::from("\"");
            json(&mut line, &bytes, 60);
            prop_assert!(line.len() <= 61);
            line.push('"');
            let back: String = serde_json::from_str(&line).expect("a JSON string");
            if !line.ends_with("...\"") {
                prop_assert_eq!(back, String::from_utf8_lossy(&bytes));
            }
            let mut line = String::new();
            combined(&mut line, &bytes, 60, true);
            prop_assert!(line.len() <= 60 && line.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'));
        }
    }
}
