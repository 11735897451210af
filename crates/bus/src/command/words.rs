//! The words of a command: its name and its arguments.

use bytes::Bytes;
use ssegate_resp::{Payload, Value};

use super::error::CommandError;
use crate::streams::id::strict_integer;

/// A command as it was sent; each word is a string, or the length of one that was too long.
pub(super) struct Words(Vec<Value>);

impl Words {
    /// Bytes of a client's word that an error quotes, at most.
    const MAX_QUOTED: usize = 128;

    pub(super) fn new(words: Vec<Value>) -> Self {
        debug_assert!(!words.is_empty(), "the decoder skips empty commands");
        Self(words)
    }

    /// The number of words, including the name.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn name(&self) -> Result<&[u8], CommandError> {
        self.bytes(0).map(|name| &name[..])
    }

    /// The word at `index`; the name is at 0.
    pub(super) fn bytes(&self, index: usize) -> Result<&Bytes, CommandError> {
        match self.0.get(index) {
            Some(Value::Bulk(bytes)) => Ok(bytes),
            Some(Value::TooLarge(len)) => Err(CommandError::ArgumentTooLong(*len)),
            _ => Err(CommandError::Syntax),
        }
    }

    /// The word at `index` as a message payload.
    pub(super) fn payload(&self, index: usize) -> Result<Payload, CommandError> {
        match self.0.get(index) {
            Some(Value::TooLarge(len)) => Ok(Payload::TooLarge(*len)),
            _ => self.bytes(index).cloned().map(Payload::Whole),
        }
    }

    /// The word at `index` in lower case, to be compared with keywords. Invalid UTF-8 equals no
    /// keyword.
    pub(super) fn keyword(&self, index: usize) -> Result<String, CommandError> {
        Ok(String::from_utf8_lossy(self.bytes(index)?).to_ascii_lowercase())
    }

    /// The word at `index` as a number.
    pub(super) fn number(&self, index: usize) -> Result<usize, CommandError> {
        let text = std::str::from_utf8(self.bytes(index)?).ok();
        text.and_then(|text| text.parse().ok()).ok_or(CommandError::NotANumber)
    }

    /// The word at `index` as a number with a sign, written as Redis requires it.
    pub(super) fn integer(&self, index: usize) -> Result<i64, CommandError> {
        strict_integer(self.bytes(index)?).ok_or(CommandError::NotANumber)
    }

    /// Whether the word at `index` is this keyword, without regard to case.
    pub(super) fn is(&self, index: usize, keyword: &str) -> bool {
        self.bytes(index).is_ok_and(|word| word.eq_ignore_ascii_case(keyword.as_bytes()))
    }

    /// The length of the first word that was too long to be kept.
    pub(super) fn too_long(&self) -> Option<u64> {
        self.0.iter().find_map(|word| match word {
            Value::TooLarge(len) => Some(*len),
            _ => None,
        })
    }

    /// The words from `index` on.
    pub(super) fn from(&self, index: usize) -> impl Iterator<Item = Result<&Bytes, CommandError>> {
        (index..self.len()).map(|index| self.bytes(index))
    }

    /// The error for a command that is not in the table.
    pub(super) fn unknown_command(&self) -> CommandError {
        let arguments: Vec<_> =
            (1..self.len()).take(5).map(|index| format!("'{}'", self.quoted(index))).collect();
        CommandError::UnknownCommand { name: self.quoted(0), arguments: arguments.join(" ") }
    }

    /// The error for a subcommand that `command` does not have.
    pub(super) fn unknown_subcommand(&self, command: &'static str) -> CommandError {
        CommandError::UnknownSubcommand { command, subcommand: self.quoted(1) }
    }

    /// The word at `index`, with control characters escaped, for an error.
    fn quoted(&self, index: usize) -> String {
        self.bytes(index).map_or_else(
            |_too_long| "…".to_owned(),
            |word| word[..word.len().min(Self::MAX_QUOTED)].escape_ascii().to_string(),
        )
    }

    /// Copies the words into memory of their own, so that they do not keep the read buffer alive.
    pub(super) fn to_owned(&self) -> Self {
        let own = |word: &Value| match word {
            Value::Bulk(bytes) => Value::Bulk(Bytes::copy_from_slice(bytes)),
            other => other.clone(),
        };
        Self(self.0.iter().map(own).collect())
    }

    /// Bytes held by these words.
    pub(super) fn held_bytes(&self) -> usize {
        let held = |word: &Value| word.as_bytes().map_or(0, Bytes::len) + size_of::<Value>();
        self.0.iter().map(held).sum()
    }
}
