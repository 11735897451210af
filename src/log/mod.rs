//! What is logged: the level of the log, and the access log, with one line for each request and two for each
//! stream.
//!
//! Decides what a line contains, what must not be in it, how many lines there may be, and what changes at run time.
//! The binary writes the lines, through [`LogOutput`].
//!
//! [`access`](mod@access) decides which requests are logged. [`entry`] makes the lines, as JSON or in the combined
//! log format; both escape with [`escape`]. [`target`] removes secrets from the URL, [`kept_address`] those in its
//! path, and [`pseudonym`] replaces names. [`line_budget`] bounds the lines of a second. [`level`] is the level of
//! the log.

pub mod access;
pub mod entry;
mod escape;
mod kept_address;
mod level;
mod line_budget;
mod pseudonym;
mod settings;
mod target;

pub use self::access::AccessLog;
pub use self::level::LevelControl;
pub use self::settings::{AccessMode, IdentityForm, LogFormat, LogLevel, LogSettings};
pub use self::target::SecretParameters;

use std::fmt;
use std::sync::Arc;

/// The form of the lines of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineForm {
    /// The combined log format of Apache and nginx.
    Combined,
    /// One JSON object.
    Json,
}

/// Takes an access line with its newline. Never waits.
pub type WriteLine = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// Changes the level of the log; `None`: back to the level of the start.
pub type SetLevel = Arc<dyn Fn(Option<LogLevel>) + Send + Sync>;

/// Where lines are written, and how the level of the log is changed.
#[derive(Clone)]
pub struct LogOutput {
    /// The form of access lines.
    pub form: LineForm,
    /// Writes an access line.
    pub write: WriteLine,
    /// Changes the level.
    pub set_level: SetLevel,
    /// The filter that the environment sets in place of `log.level`, if it does.
    pub filter: Option<String>,
}

impl LogOutput {
    /// Writes nothing.
    pub fn none() -> Self {
        Self {
            form: LineForm::Json,
            write: Arc::new(|_line| {}),
            set_level: Arc::new(|_level| {}),
            filter: None,
        }
    }
}

impl fmt::Debug for LogOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogOutput").field("form", &self.form).finish_non_exhaustive()
    }
}
