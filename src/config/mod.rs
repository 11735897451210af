//! gateway.yaml: from the text to the settings that each stage declares.
//!
//! Owns the configuration file. The stages know neither YAML nor this module.
//!
//! [`tree`] parses the YAML and records the location of every node, [`variables`] replaces `${VAR}`,
//! [`fill`] fills the structs of [`file`](mod@file) from the tree, and [`resolve`] turns them into
//! settings. Each step records the mistakes it finds and continues, so that one run reports all of them.

mod dev;
mod error;
mod field;
mod file;
mod fill;
mod global;
mod mapping;
mod own_thread;
mod resolve;
mod schema;
mod stream_options;
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

use ssegate_hub::HubSettings;

use crate::admin::AdminSettings;
use crate::route::RouteSettings;
use crate::server::{ConnectionSettings, ListenerSettings};
use crate::service::RequestSettings;
use crate::source::{SourceLocation, SourceSettings};

pub use error::{ConfigErrors, Mistake};
pub use own_thread::on_own_thread;
pub use schema::schema;

/// The resolved configuration: gateway.yaml with every default filled in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads that serve connections; at least 1.
    pub shards: usize,
    /// The addresses that clients connect to.
    pub listeners: Vec<ListenerSettings>,
    /// Limits and timeouts of client connections.
    pub connections: ConnectionSettings,
    /// The listener for metrics and health checks; `None`: closed.
    pub admin: Option<AdminSettings>,
    /// The Redis, or embedded bus, that events come from.
    pub source: SourceSettings,
    /// Limits over all channels.
    pub hub: HubSettings,
    /// Limits of every request.
    pub requests: RequestSettings,
    /// The routes, in the order of the file.
    // One allocation each. A single block for thousands of routes would, once freed, raise glibc's
    // M_MMAP_THRESHOLD, and memory would no longer be returned to the system (mallopt(3)).
    pub routes: Vec<Arc<RouteSettings>>,
    /// Duration of a graceful shutdown: streams are closed evenly over it, and requests may finish.
    pub drain: Duration,
    /// How long before the drain new clients are still accepted, and their streams closed at once with
    /// a `retry`.
    pub drain_delay: Duration,
}

/// What a configuration is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigPurpose {
    /// To run a gateway: its certificates and keys are read too.
    Run,
    /// To contact a running gateway. Certificates and keys are not read: the user of such a command may
    /// have no permission for them.
    Contact,
}

/// The text of a configuration.
#[derive(Clone, Debug)]
pub struct Text {
    name: String,
    text: String,
}

impl Text {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigErrors> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| unreadable(&name, &error))?;
        Ok(Self { name, text })
    }

    /// Reads standard input to its end. Relative paths in it start at the working directory.
    ///
    /// # Errors
    /// Standard input cannot be read.
    pub fn from_stdin() -> Result<Self, ConfigErrors> {
        let name = "standard input".to_owned();
        match io::read_to_string(io::stdin().lock()) {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => Err(unreadable(&name, &error)),
        }
    }

    /// Parses the text, with the environment variables of this process.
    ///
    /// # Errors
    /// Every mistake in the text.
    pub fn resolve(&self, purpose: ConfigPurpose) -> Result<Settings, ConfigErrors> {
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
    ConfigErrors::for_file(name, message)
}

/// Reads the file at `path` to run a gateway, with the environment variables of this process.
///
/// # Errors
/// Every mistake in the file, or that it cannot be read.
pub fn load(path: impl AsRef<Path>) -> Result<Settings, ConfigErrors> {
    Text::from_file(path)?.resolve(ConfigPurpose::Run)
}

/// Parses `text` to run a gateway. `file` is its name in messages, and relative paths start at its
/// directory. `env` looks up variables. Reads no files but the certificates and keys that the text names.
///
/// # Errors
/// Every mistake in the text. A YAML syntax error ends the parsing, so it is the only one.
pub fn parse(
    text: &str,
    file: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, ConfigErrors> {
    parse_for(ConfigPurpose::Run, text, file, env)
}

fn parse_for(
    purpose: ConfigPurpose,
    text: &str,
    file: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, ConfigErrors> {
    let mistakes = error::Mistakes::default();
    let mut tree = tree::read(text, file)?;
    variables::replace(&mut tree, env, &mistakes);
    let directory = Path::new(file).parent().unwrap_or_else(|| Path::new(""));
    let settings = fill::fill(&tree, &mistakes)
        .and_then(|written| resolve::resolve(written, purpose, directory, &mistakes));
    let mistakes = mistakes.into_vec();
    debug_assert!(
        settings.is_some() || !mistakes.is_empty(),
        "without settings there is a mistake"
    );
    match settings {
        Some(settings) if mistakes.is_empty() => Ok(settings),
        _ => Err(ConfigErrors::new(file, mistakes)),
    }
}

/// Parses the address of a backend, `http://host[:port]`, as a route's `proxy.upstream`.
///
/// # Errors
/// A message that says what is wrong and how to fix it.
pub fn upstream(text: &str) -> Result<crate::route::UpstreamAddress, String> {
    resolve::upstream(text)
}

/// Parses the URL of a source, as `redis.url`.
///
/// # Errors
/// A message that says what is wrong and how to fix it. It never contains a secret.
pub fn source(url: &str) -> Result<SourceLocation, String> {
    resolve::location(url)
}
