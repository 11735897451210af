//! What is wrong with a configuration, as the caller receives it: mistakes, each with its location.

use std::borrow::Cow;
use std::fmt;

use crate::wording::without_credentials;

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
    pub(crate) fn new(file: &str, mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by_key(|mistake| (mistake.location.line, mistake.location.column));
        Self { file: file.to_owned(), mistakes }
    }

    /// One mistake that concerns the file as a whole, such as that it cannot be read.
    pub fn for_file(file: &str, message: String) -> Self {
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
    pub(crate) location: KeyLocation,
    pub(crate) message: String,
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
pub struct KeyLocation {
    /// The path of the key, `routes[0].path`; empty for the whole file.
    pub path: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl KeyLocation {
    /// The location of a missing key of the mapping here.
    pub fn child(&self, key: &str) -> Self {
        Self { path: join(&self.path, key), ..*self }
    }
}

/// The path of `key` in the mapping at `path`, without the password if the key is a URL: `redis: {redis://…: }`
/// is a mistake that people make.
pub(crate) fn join(path: &str, key: &str) -> String {
    let key = without_credentials(key);
    if path.is_empty() { key.into_owned() } else { format!("{path}.{key}") }
}

/// Escapes control characters in `text`: keys come from the file, and are printed to a terminal.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(escaped).collect::<String>().into()
}
