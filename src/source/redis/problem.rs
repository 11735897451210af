//! What does not work at a Redis server, in words for an operator.

use std::fmt;

use super::error::{SourceError, SourceErrorKind};

/// Something that does not work at a Redis server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisProblem {
    /// The kind of the error; `None`: it is not the error of a command or a connection.
    pub kind: Option<SourceErrorKind>,
    /// What is wrong, with the error reply of Redis where there is one. No secret is in it.
    pub text: String,
}

impl fmt::Display for RedisProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<SourceError> for RedisProblem {
    fn from(error: SourceError) -> Self {
        Self { kind: Some(error.kind()), text: error.to_string() }
    }
}
