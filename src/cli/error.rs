//! The error of a command: its message and its exit code.
//!
//! Owns the choice between exit code 1 (failure) and 64 (wrong arguments or configuration:
//! `EX_USAGE` in sysexits.h). The messages belong to the commands, each of which turns its own error into
//! [`CliError::Command`].

use std::io;
use std::process::ExitCode;

use ssegate::config::ConfigErrors;
use ssegate::gateway;
use ssegate::http_client::HttpError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The arguments do not parse, or ask for help or the version.
    #[error("{0}")]
    Arguments(#[from] clap::Error),
    /// The arguments parse, but are not valid.
    #[error("{0}")]
    Usage(String),
    /// All errors in gateway.yaml, one a line.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// The gateway could not start, or had to stop.
    #[error("{0}")]
    Gateway(#[from] gateway::Error),
    /// A port is in use, and an option chooses another.
    #[error("{0}: {1} PORT")]
    PortInUse(Box<Self>, &'static str),
    /// An HTTP request failed.
    #[error("{0}{hint}", hint = trust_hint(.0))]
    Http(#[from] HttpError),
    /// A command failed, as the error beside it says.
    #[error("{0}")]
    Command(Box<dyn std::error::Error + Send + Sync>),
    /// stdin could not be read.
    #[error("stdin: {0}")]
    Input(io::Error),
    /// stdout could not be written.
    #[error("stdout: {0}")]
    Output(io::Error),
    /// The runtime or a thread could not be created: usually out of file descriptors.
    #[error("cannot start the event loop: {0}")]
    Runtime(io::Error),
}

fn trust_hint(error: &HttpError) -> &'static str {
    if error.is_distrust() { "; --insecure accepts any certificate" } else { "" }
}

impl CliError {
    /// The exit code of the process.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Arguments(error) if !error.use_stderr() => ExitCode::SUCCESS,
            Self::Arguments(_) | Self::Usage(_) | Self::Config(_) => ExitCode::from(64),
            Self::Gateway(error) if error.is_config_error() => ExitCode::from(64),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}
