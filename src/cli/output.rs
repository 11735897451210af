//! Writes to stdout and stderr.
//!
//! Everything except log lines is written here. Each write is flushed, so that a reader on a pipe
//! gets a line at once. `println!` is not used, since it panics when the reader has closed the
//! pipe.

use std::fmt::Display;
use std::io::{self, Write};

use super::{CliError, logging};

/// Writes a line to stdout.
pub(super) fn line(text: impl Display) -> Result<(), CliError> {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes bytes to stdout.
pub(super) fn bytes(text: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).map_err(CliError::Output)
}

/// Writes a line to stderr. In a running gateway it goes through the log's buffer, so that it does
/// not block on a slow reader.
pub(super) fn to_stderr(text: impl Display) {
    let line = format!("{text}\n");
    match logging::sink() {
        Some(sink) => sink.put(line.as_bytes()),
        // Nothing is left to report a failed write to stderr on.
        None => io::stderr().lock().write_all(line.as_bytes()).ok().unwrap_or_default(),
    }
}

/// Flushes the log, for a few seconds at most. Called last.
pub(crate) fn finish() {
    logging::flush();
}

/// Prints clap's message: help to stdout, an error to stderr.
pub(super) fn clap(error: &clap::Error) -> io::Result<()> {
    error.print()?;
    io::stdout().flush()
}
