//! The mistakes in gateway.yaml: one message each, with its location.
//!
//! Owns what all messages share: the location, quoting, and suggestions for misspelt words. Knows no key
//! of the file.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

/// Everything that is wrong in one file, in the order of the file.
///
/// Displays as one line per mistake:
/// `routes[0].events.history.age: "5 parsecs" is not a duration; … (gateway.yaml:19:33)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    file: String,
    mistakes: Vec<Mistake>,
}

impl ConfigErrors {
    /// Sorts the mistakes by their location in the file.
    pub(super) fn new(file: &str, mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by_key(|mistake| (mistake.location.line, mistake.location.column));
        Self { file: file.to_owned(), mistakes }
    }

    /// One mistake that concerns the file as a whole.
    pub(super) fn for_file(file: &str, message: String) -> Self {
        Self::new(file, vec![Mistake { location: KeyLocation::default(), message }])
    }

    /// The name of the file, as it was given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The mistakes; at least one.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Mistake { location, message }) in self.mistakes.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            if !location.path.is_empty() {
                write!(f, "{}: ", printable(&location.path))?;
            }
            write!(f, "{} ({}", printable(message), self.file)?;
            if location.line > 0 {
                write!(f, ":{}:{}", location.line, location.column)?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A mistake in the file: what is wrong, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    location: KeyLocation,
    message: String,
}

impl Mistake {
    /// The path of the key, `routes[0].path`; empty when the mistake concerns the whole file.
    pub fn path(&self) -> &str {
        &self.location.path
    }

    /// What is wrong, and how to fix it.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Line and column, both from 1; `None` when the mistake concerns the whole file.
    pub fn position(&self) -> Option<(u32, u32)> {
        (self.location.line > 0).then_some((self.location.line, self.location.column))
    }
}

/// The location of a key or value: its key path, line and column. Line 0: it is not in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyLocation {
    pub(super) path: String,
    pub(super) line: u32,
    pub(super) column: u32,
}

impl KeyLocation {
    /// The location of a missing key of the mapping here.
    pub(super) fn child(&self, key: &str) -> Self {
        Self { path: join(&self.path, key), ..*self }
    }
}

/// The path of `key` in the mapping at `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Takes down mistakes while the work goes on, so that one run finds them all.
#[derive(Debug, Default)]
pub(super) struct Mistakes(RefCell<Vec<Mistake>>);

impl Mistakes {
    /// Adds a mistake.
    pub(super) fn note(&self, location: &KeyLocation, message: impl Into<String>) {
        let mistake = Mistake { location: location.clone(), message: message.into() };
        self.0.borrow_mut().push(mistake);
    }

    /// All that was noted.
    pub(super) fn into_vec(self) -> Vec<Mistake> {
        self.0.into_inner()
    }
}

/// Quotes `text` for a terminal or a log: escaped, of bounded length, and without the user and password
/// of a URL.
pub(super) fn quoted(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    let safe = without_credentials(text);
    match safe.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{:?}…", &safe[..end]),
        None => format!("{safe:?}"),
    }
}

/// `scheme://user:password@host` as `scheme://…@host`.
fn without_credentials(text: &str) -> String {
    // The last `@`: a password that is not percent-encoded may contain others.
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://…{}", &text[..scheme], &text[at..])
        }
        _ => text.to_owned(),
    }
}

/// Escapes control characters in `text`: keys come from the file, and are printed to a terminal.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(escaped).collect::<String>().into()
}

/// Returns the word of `known` that `written` is probably a misspelling of.
pub(super) fn suggestion<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    // keepAlive and keep-alive are keep_alive in another style.
    let plain = |word: &str| word.replace(['_', '-'], "").to_lowercase();
    let written = plain(written);
    // One letter of a very short word is most of it.
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
pub(super) fn one_of(words: &[&str]) -> String {
    listed(words, "or")
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn all_of(words: &[&str]) -> String {
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
        assert_eq!(quoted("redis://me:se@cret@host/1"), r#""redis://…@host/1""#);
        assert_eq!(quoted("a\u{1b}[31m\n"), r#""a\u{1b}[31m\n""#);
        assert_eq!(quoted(&"ä".repeat(100)).chars().count(), 83);
    }

    #[test]
    fn words_are_listed_as_in_a_sentence() {
        assert_eq!(one_of(&["a"]), "a");
        assert_eq!(one_of(&["a", "b", "c"]), "a, b or c");
    }
}
