//! gateway.yaml: from the text to the settings that each stage declares.
//!
//! The way of a text: [`tree`] reads YAML and keeps every place, [`variables`] replaces `${VAR}`,
//! [`fill`] puts the tree into the structs of [`file`](mod@file), [`resolve`] makes settings of them. Each
//! notes the mistakes that it meets and goes on, so that all are told at once. The stages have not
//! heard of YAML.

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
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use crate::admin::AdminSettings;
use crate::hub::HubSettings;
use crate::route::RouteSettings;
use crate::server::{ConnectionSettings, ListenerSettings};
use crate::service::RequestSettings;
use crate::source::SourceSettings;

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
    pub routes: Vec<RouteSettings>,
    /// The streams end evenly over this in an orderly stop, and running requests have as long.
    pub drain: Duration,
    /// Before that, new clients are still let in and sent away for so long.
    pub drain_delay: Duration,
}

/// Reads the file at `path`, with the variables of this process's environment.
///
/// # Errors
/// Every mistake in the file, or the one that it cannot be read.
pub fn load(path: impl AsRef<Path>) -> Result<Settings, ConfigErrors> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| {
        let message = match error.kind() {
            ErrorKind::NotFound => "no such file".to_owned(),
            ErrorKind::InvalidData => "not a text file in UTF-8".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        ConfigErrors::of_file(&name, message)
    })?;
    parse(&text, &name, &|variable| std::env::var(variable).ok())
}

/// Reads `text`; `file` is its name in messages, and its folder is where relative paths start.
/// `env` knows the variables. Looks at the disk only for the certificates that the text names.
///
/// # Errors
/// Every mistake in the text; a mistake of YAML itself comes alone.
pub fn parse(
    text: &str,
    file: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, ConfigErrors> {
    let mistakes = error::Mistakes::default();
    let mut tree = tree::read(text, file)?;
    variables::replace(&mut tree, env, &mistakes);
    let folder = Path::new(file).parent().unwrap_or_else(|| Path::new(""));
    let settings = fill::fill(&tree, &mistakes)
        .and_then(|written| resolve::resolve(written, folder, &mistakes));
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
