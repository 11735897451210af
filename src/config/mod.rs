//! gateway.yaml: from the text to the settings that each stage declares.
//!
//! The way of a text: [`tree`] reads YAML and keeps every place, [`variables`] replaces `${VAR}`,
//! [`fill`] puts the tree into the structs of [`file`](mod@file), [`resolve`] makes settings of them. Each
//! notes the mistakes that it meets and goes on, so that all are told at once. The stages have not
//! heard of YAML.

mod apart;
mod dev;
mod error;
mod field;
mod file;
mod fill;
mod resolve;
mod schema;
#[cfg(test)]
mod tests;
mod tree;
mod units;
mod variables;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::AdminSettings;
use crate::hub::HubSettings;
use crate::route::RouteSettings;
use crate::server::{ConnectionSettings, ListenerSettings};
use crate::service::RequestSettings;
use crate::source::{SourceLocation, SourceSettings};

pub use apart::apart;
pub use error::{ConfigErrors, Mistake};
pub use schema::schema;

/// Everything that gateway.yaml says, resolved.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads that serve connections; at least 1.
    pub shards: usize,
    /// Where clients connect.
    pub listeners: Vec<ListenerSettings>,
    /// Bounds and waits of their connections.
    pub connections: ConnectionSettings,
    /// Where operators look.
    pub admin: Option<AdminSettings>,
    /// Where events come from.
    pub source: SourceSettings,
    /// Bounds over all channels.
    pub hub: HubSettings,
    /// Bounds of every request.
    pub requests: RequestSettings,
    /// Which request leads where, in the order of the file.
    // Each by itself: one piece of memory for thousands of them, once it is freed, teaches glibc to give
    // nothing back (M_MMAP_THRESHOLD in mallopt(3)).
    pub routes: Vec<Arc<RouteSettings>>,
    /// The streams end evenly over this in an orderly stop, and running requests have as long.
    pub drain: Duration,
    /// Before that, new clients are still let in and sent away for so long.
    pub drain_delay: Duration,
}

/// What a configuration is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To run: the certificates and keys that it names are read too.
    Run,
    /// To find a gateway that runs: whoever asks it need not be allowed to read its key.
    Ask,
}

/// A configuration as it was written.
#[derive(Clone, Debug)]
pub struct Text {
    name: String,
    text: String,
}

impl Text {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// That it cannot be read.
    pub fn of_file(path: impl AsRef<Path>) -> Result<Self, ConfigErrors> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| unreadable(&name, &error))?;
        Ok(Self { name, text })
    }

    /// Reads standard input to its end; relative paths start at the working directory.
    ///
    /// # Errors
    /// That it cannot be read.
    pub fn of_stdin() -> Result<Self, ConfigErrors> {
        let name = "standard input".to_owned();
        match io::read_to_string(io::stdin().lock()) {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => Err(unreadable(&name, &error)),
        }
    }

    /// The settings that it describes, with the variables of this process's environment.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn resolve(&self, purpose: Purpose) -> Result<Settings, ConfigErrors> {
        let env = |variable: &str| std::env::var(variable).ok();
        parse_for(purpose, &self.text, &self.name, &env)
    }
}

fn unreadable(name: &str, error: &io::Error) -> ConfigErrors {
    let message = match error.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::InvalidData => "not a text file in UTF-8".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    ConfigErrors::of_file(name, message)
}

/// Reads the file at `path` to run, with the variables of this process's environment.
///
/// # Errors
/// Every mistake in the file, or the one that it cannot be read.
pub fn load(path: impl AsRef<Path>) -> Result<Settings, ConfigErrors> {
    Text::of_file(path)?.resolve(Purpose::Run)
}

/// Reads `text` to run; `file` is its name in messages, and its folder is where relative paths start.
/// `env` knows the variables. Looks at the disk only for the certificates and keys that the text names.
///
/// # Errors
/// Every mistake in the text; a mistake of YAML itself comes alone.
pub fn parse(
    text: &str,
    file: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, ConfigErrors> {
    parse_for(Purpose::Run, text, file, env)
}

fn parse_for(
    purpose: Purpose,
    text: &str,
    file: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, ConfigErrors> {
    let mistakes = error::Mistakes::default();
    let mut tree = tree::read(text, file)?;
    variables::replace(&mut tree, env, &mistakes);
    let folder = Path::new(file).parent().unwrap_or_else(|| Path::new(""));
    let settings = fill::fill(&tree, &mistakes)
        .and_then(|written| resolve::resolve(written, purpose, folder, &mistakes));
    let mistakes = mistakes.into_vec();
    debug_assert!(settings.is_some() || !mistakes.is_empty(), "what is missing was noted");
    match settings {
        Some(settings) if mistakes.is_empty() => Ok(settings),
        _ => Err(ConfigErrors::new(file, mistakes)),
    }
}

/// Reads the address of a backend, `http://host[:port]`, as a route's `proxy.upstream` does.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn upstream(text: &str) -> Result<crate::route::UpstreamAddress, String> {
    resolve::upstream(text)
}

/// Reads where events come from, as `redis.url` does.
///
/// # Errors
/// A sentence that says what is wrong with it, without anything that may be secret.
pub fn source(url: &str) -> Result<SourceLocation, String> {
    resolve::location(url)
}
