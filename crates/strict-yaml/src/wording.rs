//! What all messages share: quoting, suggestions for misspelt words, and lists of words.

use std::borrow::Cow;

/// Quotes `text` for a terminal or a log: escaped, of bounded length, and without the user, the password and
/// the query of a URL.
pub fn quoted(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    let safe = without_credentials(text);
    match safe.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{:?}…", &safe[..end]),
        None => format!("{safe:?}"),
    }
}

/// `scheme://user:password@host/?pass=secret` as `scheme://…@host/?…`, and `user:password@host`, whose scheme was
/// forgotten, as `…@host`.
pub(crate) fn without_credentials(text: &str) -> Cow<'_, str> {
    let scheme = text.find("://").map_or(0, |at| at + 3);
    let (front, rest) = text.split_at(scheme);
    // The last `@`: a password that is not percent-encoded may contain others, and `?`.
    let at = rest.rfind('@').filter(|at| scheme > 0 || rest[..*at].contains(':'));
    let host = &rest[at.unwrap_or(0)..];
    // Redis takes `?user=…&pass=…` in the URL of a unix socket.
    let query = host.find('?').filter(|_| scheme > 0);
    if at.is_none() && query.is_none() {
        return Cow::Borrowed(text);
    }
    let user = if at.is_some() { "…" } else { "" };
    let host = match query {
        Some(query) => &host[..=query],
        None => host,
    };
    let query = if query.is_some() { "…" } else { "" };
    Cow::Owned(format!("{front}{user}{host}{query}"))
}

/// A message without the users and passwords of the URLs in it: not all of its words are [`quoted`].
pub(crate) fn without_passwords(message: &str) -> String {
    let words = message.split(' ').map(|word| match word.contains("://") && word.contains('@') {
        true => without_credentials(word),
        false => Cow::Borrowed(word),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Returns the word of `known` that `written` is probably a misspelling of.
pub fn suggestion<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    // keepAlive and keep-alive are keep_alive in another style.
    let plain = |word: &str| word.replace(['_', '-'], "").to_lowercase();
    let written = plain(written);
    // In a very short word, one letter is most of it.
    let allowed = match written.chars().count() {
        0..=2 => 0,
        length => length / 3,
    };
    known
        .iter()
        .map(|word| (strsim::osa_distance(&written, &plain(word)), *word))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// `a`, `a or b`, `a, b or c`.
pub(crate) fn one_of(words: &[&str]) -> String {
    listed(words, "or")
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn all_of(words: &[&str]) -> String {
    listed(words, "and")
}

fn listed(words: &[&str], last: &str) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{one_of, quoted, suggestion};

    #[test]
    fn a_misspelt_word_has_a_suggestion() {
        let known = ["keep_alive", "retry", "linger", "max_channels"];
        for (written, meant) in [
            ("keepalive", Some("keep_alive")),
            ("keepAlive", Some("keep_alive")),
            ("keep-alive", Some("keep_alive")),
            ("rerty", Some("retry")),
            ("max_chanels", Some("max_channels")),
            ("replay", None),
            ("x", None),
        ] {
            assert_eq!(suggestion(written, &known), meant, "{written}");
        }
    }

    #[test]
    fn quoted_text_is_safe_to_print() {
        for (text, expected) in [
            ("redis://me:se@cret@host/1", r#""redis://…@host/1""#),
            ("redis://:s?cret@host", r#""redis://…@host""#),
            ("redis+unix:///run/s?pass=secret&db=1", r#""redis+unix:///run/s?…""#),
            ("redis://me:secret@host?x=secret", r#""redis://…@host?…""#),
            ("me:secret@host:6379", r#""…@host:6379""#),
            ("me@app.example", r#""me@app.example""#),
            ("/search?q", r#""/search?q""#),
        ] {
            assert_eq!(quoted(text), expected);
        }
        assert_eq!(quoted("a\u{1b}[31m\n"), r#""a\u{1b}[31m\n""#);
        assert_eq!(quoted(&"ä".repeat(100)).chars().count(), 83);
    }

    #[test]
    fn words_are_listed_as_in_a_sentence() {
        assert_eq!(one_of(&["a"]), "a");
        assert_eq!(one_of(&["a", "b", "c"]), "a, b or c");
    }
}
