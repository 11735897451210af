//! How a command fails: what is said, and the exit code.
//!
//! Owns the choice between 1 (it did not work) and 64 (it was asked wrongly: `EX_USAGE` of
//! sysexits.h). The texts belong to the commands.

use std::io;
use std::process::ExitCode;

use ssegate::config::ConfigErrors;
use ssegate::gateway;

use super::{connect, healthcheck, http_client, output, publish, sub};

/// Why a command ended without success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Not arguments of ours, or a question for help.
    #[error("{0}")]
    Arguments(#[from] clap::Error),
    /// Arguments that clap could take, but that mean nothing.
    #[error("{0}")]
    Usage(String),
    /// All the mistakes of gateway.yaml, a line each.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// The gateway could not start or go on.
    #[error("{0}")]
    Gateway(#[from] gateway::Error),
    /// `ssegate check --connect` has found what is wrong.
    #[error("{0}")]
    Connect(#[from] connect::ConnectError),
    /// A port is taken, and an option chooses another one.
    #[error("{0}: {1} PORT")]
    Port(Box<Self>, &'static str),
    /// `ssegate pub` published nothing.
    #[error("{0}")]
    Publish(#[from] publish::PublishError),
    /// A request failed.
    #[error("{0}")]
    Http(#[from] http_client::HttpError),
    /// `ssegate sub` did not hear what it was to hear.
    #[error("{0}")]
    Sub(#[from] sub::SubError),
    /// Not alive, or not ready.
    #[error("{0}")]
    Unhealthy(#[from] healthcheck::Unhealthy),
    /// stdin could not be read.
    #[error("stdin: {0}")]
    Input(io::Error),
    /// stdout could not be written.
    #[error("stdout: {0}")]
    Output(io::Error),
    /// The system gave no event loop: file descriptors, as a rule.
    #[error("cannot wait for events: {0}")]
    Runtime(io::Error),
}

impl Error {
    /// What the process ends with.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Arguments(error) if !error.use_stderr() => ExitCode::SUCCESS,
            Self::Arguments(_) | Self::Usage(_) | Self::Config(_) => ExitCode::from(64),
            Self::Gateway(error) if error.is_of_configuration() => ExitCode::from(64),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }

    /// Tells the user; says nothing to one who closed stdout. Returns the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match &self {
            // A question for help or for the version: this prints the response.
            Self::Arguments(error) if !error.use_stderr() => {
                if let Err(error) = output::clap(error) {
                    return Self::Output(error).report();
                }
            }
            // A failure to write to stderr cannot be reported anywhere.
            Self::Arguments(error) => output::clap(error).ok().unwrap_or_default(),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Self::Config(mistakes) => output::to_stderr(mistakes),
            other => output::to_stderr(format_args!("ssegate: {other}")),
        }
        self.exit_code()
    }
}
