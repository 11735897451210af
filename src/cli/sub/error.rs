//! Why `ssegate sub` failed.

use std::sync::Arc;
use std::time::Duration;

use crate::cli::CliError;

/// Why `ssegate sub` failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubError {
    /// `--for` elapsed before `--count` events were received.
    #[error("received {received} of {count} events in {time:?}{}", suffix(.never_opened))]
    TooFew {
        /// The number of events received.
        received: u64,
        /// The value of `--count`.
        count: u64,
        /// The value of `--for`.
        time: Duration,
        /// The streams that never opened.
        never_opened: Vec<NeverOpened>,
    },
    /// All servers responded 204 before `--count` events were received.
    #[error("received {received} of {count} events, then the server responded 204 No Content")]
    Stopped {
        /// The number of events received.
        received: u64,
        /// The value of `--count`.
        count: u64,
    },
    /// Streams that never opened.
    #[error("{}", join(.0))]
    NeverOpened(Vec<NeverOpened>),
    /// A response that ends an `EventSource` for good: the URL and what is wrong.
    #[error("{0}: {1}")]
    NoStream(String, String),
}

impl From<SubError> for CliError {
    fn from(error: SubError) -> Self {
        Self::Command(error.into())
    }
}

/// A stream that never opened.
#[derive(Debug, thiserror::Error)]
#[error("{name} never opened: {reason}")]
pub(crate) struct NeverOpened {
    pub(super) name: Arc<str>,
    pub(super) reason: String,
}

fn join(streams: &[NeverOpened]) -> String {
    streams.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn suffix(streams: &[NeverOpened]) -> String {
    if streams.is_empty() { String::new() } else { format!("; {}", join(streams)) }
}
