//! The error of a command: its message and its exit code.
//!
//! Owns the choice between exit code 1 (failure) and 64 (wrong arguments or configuration:
//! `EX_USAGE` in sysexits.h). The messages belong to the commands.

use std::io;
use std::process::ExitCode;

use ssegate::config::ConfigErrors;
use ssegate::gateway;

use super::{connect, healthcheck, http_client, output, publish, sub};

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
    /// `ssegate check --connect` failed.
    #[error("{0}")]
    Connect(#[from] connect::ConnectError),
    /// A port is in use, and an option chooses another.
    #[error("{0}: {1} PORT")]
    PortInUse(Box<Self>, &'static str),
    /// `ssegate pub` failed.
    #[error("{0}")]
    Publish(#[from] publish::PublishError),
    /// An HTTP request failed.
    #[error("{0}")]
    Http(#[from] http_client::HttpError),
    /// `ssegate sub` failed: no stream, or too few events.
    #[error("{0}")]
    Sub(#[from] sub::SubError),
    /// `ssegate healthcheck` failed: not alive, or not ready.
    #[error("{0}")]
    Unhealthy(#[from] healthcheck::Unhealthy),
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

    /// Prints the error and returns the exit code. A closed stdout (`EPIPE`) is not reported.
    pub(crate) fn report(self) -> ExitCode {
        match &self {
            // `--help` or `--version`: the "error" is the text to print on stdout.
            Self::Arguments(error) if !error.use_stderr() => {
                if let Err(error) = output::clap(error) {
                    return Self::Output(error).report();
                }
            }
            // Nothing is left to report a failed write to stderr on.
            Self::Arguments(error) => output::clap(error).ok().unwrap_or_default(),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Self::Config(mistakes) => output::to_stderr(mistakes),
            other => output::to_stderr(format_args!("ssegate: {other}")),
        }
        self.exit_code()
    }
}
