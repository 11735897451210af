//! stdout and stderr of the commands.
//!
//! The one place that writes there, beside the log. Each line is flushed, so that a reader on a pipe
//! has it at once. No `println!`: it panics when the reader is gone.

use std::fmt::Display;
use std::io::{self, Write};

use super::{Error, logging};

/// A line on stdout.
pub(super) fn line(text: impl Display) -> Result<(), Error> {
    bytes(format!("{text}\n").as_bytes())
}

/// Text on stdout as it is.
pub(super) fn bytes(text: &[u8]) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).map_err(Error::Output)
}

/// A line on stderr. Of a gateway, among its log lines: it does not wait for a reader either.
pub(super) fn to_stderr(text: impl Display) {
    let line = format!("{text}\n");
    match logging::sink() {
        Some(sink) => sink.put(line.as_bytes()),
        // A failure to write to stderr cannot be reported anywhere.
        None => io::stderr().lock().write_all(line.as_bytes()).ok().unwrap_or_default(),
    }
}

/// Waits a moment for what has not been written yet: called last.
pub(crate) fn finish() {
    if let Some(sink) = logging::sink() {
        sink.flush();
    }
}

/// What clap has to say: help on stdout, or a mistake on stderr.
pub(super) fn clap(error: &clap::Error) -> io::Result<()> {
    error.print()?;
    io::stdout().flush()
}
