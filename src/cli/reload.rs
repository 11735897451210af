//! `ssegate reload`: a running gateway reads its configuration again, and the command prints the result.

use std::time::Duration;

use clap::Args;
use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::admin_listener::{AdminError, AdminListener, one_line};
use super::printable::printable;
use super::{CliError, output};

/// The gateway gives up after 30 s; a reload that was requested before this one may take as long.
const LIMIT: Duration = Duration::from_secs(50);

/// What is read where there is no file.
const STDIN: &str = "standard input";

/// Said when the file has a mistake, or cannot be read, after the mistakes.
const KEPT: &str = "nothing was reloaded: the old configuration stays in use";

/// Reload the configuration of the running gateway
///
/// As SIGHUP does, and says how it ended: routes, limits, certificates and keys change, and no stream is closed. Checks
/// the file first; if it has a mistake or cannot be read, prints what `ssegate check` prints, and the old configuration
/// stays in use. Keys that hold only after a restart are named.
///
/// The request goes to the admin listener, which must be on loopback or have auth. The gateway there must read the
/// same file, unless --url names the listener. With admin: off, send SIGHUP: systemctl reload ssegate.
#[derive(Args, Debug)]
pub(crate) struct ReloadCommand {
    #[command(flatten)]
    pub(super) admin: AdminListener,
}

/// Why nothing was reloaded, with exit code 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadFailure {
    /// The gateway that was reached reads another file.
    #[error(
        "the gateway at this admin listener reads {read}, not {meant}; name its file with -c, or its admin listener \
         with --url"
    )]
    OtherFile {
        /// The file that it reads, or standard input.
        read: String,
        /// The file of this command.
        meant: String,
    },
    /// The gateway could not read the whole file: its disk does not respond.
    #[error("{0}; the old configuration stays in use")]
    Unreadable(String),
    /// `admin: off`.
    #[error(
        "the configuration has no admin listener (admin: off): send SIGHUP to the gateway instead, as \
         `systemctl reload ssegate` does; its log says how it ended"
    )]
    NoAdminListener,
    /// A response that is not one of a gateway.
    #[error("{0}: this is not a response of ssegate's admin listener")]
    Foreign(StatusCode),
}

impl From<ReloadFailure> for CliError {
    fn from(error: ReloadFailure) -> Self {
        Self::Command(error.into())
    }
}

/// What the gateway responds, as JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GatewayReply {
    file: Option<String>,
    restart: Vec<String>,
    warnings: Vec<String>,
    errors: Vec<String>,
    error: String,
}

impl ReloadCommand {
    pub(super) fn execute(self) -> Result<(), CliError> {
        let file = self.checked_file()?;
        let path = match &file {
            Some(file) => format!("/reload?file={}", utf8_percent_encode(file, NON_ALPHANUMERIC)),
            None => "/reload".to_owned(),
        };
        let (status, body) = self.admin.post(&path, LIMIT)?;
        let reply = || serde_json::from_str(&body).map_err(|_| ReloadFailure::Foreign(status));
        match status {
            StatusCode::OK => reloaded(&reply()?),
            StatusCode::UNPROCESSABLE_ENTITY => {
                let GatewayReply { errors, .. } = reply()?;
                errors.iter().for_each(|error| output::to_stderr(printable(error)));
                Err(CliError::Usage(KEPT.into()))
            }
            StatusCode::CONFLICT => {
                let read = printable(reply()?.file.as_deref().unwrap_or(STDIN));
                Err(ReloadFailure::OtherFile { read, meant: file.unwrap_or_default() }.into())
            }
            // JSON says why the gateway could not read the file; text says that it is stopping.
            StatusCode::SERVICE_UNAVAILABLE if body.starts_with('{') => {
                Err(ReloadFailure::Unreadable(printable(&reply()?.error)).into())
            }
            _ => Err(AdminError::Status(status, one_line(&body)).into()),
        }
    }

    /// Checks the file as far as this user can: only the gateway has its certificates, keys and variables of secrets.
    /// Returns the path, which the gateway compares with its own; `None` where any file will do.
    fn checked_file(&self) -> Result<Option<String>, CliError> {
        let config = &self.admin.config;
        if self.admin.is_given() && !config.is_given() {
            return Ok(None);
        }
        match config.load_or_dev() {
            Ok(settings) if settings.admin.is_none() && !self.admin.is_given() => {
                Err(ReloadFailure::NoAdminListener.into())
            }
            Ok(_) => Ok(config.real_path().map(|path| path.display().to_string())),
            Err(CliError::Config(mistakes)) => {
                output::to_stderr(mistakes);
                Err(CliError::Usage(KEPT.into()))
            }
            Err(error) => Err(error),
        }
    }
}

fn reloaded(reply: &GatewayReply) -> Result<(), CliError> {
    for warning in &reply.warnings {
        output::to_stderr(format_args!("ssegate: warning: {}", printable(warning)));
    }
    for key in &reply.restart {
        let key = printable(key);
        output::to_stderr(format_args!("ssegate: {key}: the change takes effect after a restart"));
    }
    let file = reply.file.as_deref().unwrap_or(STDIN);
    output::line(format_args!("{}: reloaded", printable(file)))
}
