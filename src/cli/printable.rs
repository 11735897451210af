//! Text from elsewhere, made safe for a terminal.

/// Escapes what [`acts_on_terminal`].
pub(super) fn printable(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if acts_on_terminal(c) {
            escaped.extend(c.escape_unicode());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// As [`printable`], for a text of several lines.
pub(super) fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// Whether it is a control character other than a tab, or one that changes the direction of text: text from elsewhere
/// must not move the cursor, change the terminal, or look like something else (<https://trojansource.codes>).
pub(super) fn acts_on_terminal(c: char) -> bool {
    c != '\t' && (c.is_control() || is_direction(c))
}

/// The formatting characters of the Unicode Bidirectional Algorithm (UAX 9, section 2).
fn is_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::{printable, printable_lines};

    #[test]
    fn what_a_terminal_would_act_upon_is_escaped() {
        for (text, expected) in [
            ("plain äöü 日本語 🙂", "plain äöü 日本語 🙂"),
            ("a\tb", "a\tb"),
            ("\u{1b}[2J", r"\u{1b}[2J"),
            ("a\r\nb\u{7}", r"a\u{d}\u{a}b\u{7}"),
            // CSI as one character of C1 (ECMA-48, section 5.3).
            ("\u{9b}2J", r"\u{9b}2J"),
            ("\u{7f}", r"\u{7f}"),
            ("a\u{202e}b", r"a\u{202e}b"),
            ("a\u{2066}b\u{2069}", r"a\u{2066}b\u{2069}"),
        ] {
            assert_eq!(printable(text), expected);
        }
        assert_eq!(printable_lines("a\u{1b}\nb\r"), "a\\u{1b}\nb\\u{d}");
    }
}
