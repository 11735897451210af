//! The commands: from arguments to a result.
//!
//! Owns what is said on stdout and stderr, one short file for each command. Knows how to load a
//! configuration and how to speak to a gateway, but not how a gateway works.

mod banner;
mod check;
mod completions;
mod config;
mod connect;
mod dev;
mod error;
mod healthcheck;
mod http_client;
mod logging;
mod man;
mod output;
mod publish;
mod run;
mod schema;
mod sub;
mod time;
mod trust;

use std::ffi::OsString;
use std::future::Future;

use clap::{CommandFactory, Parser, Subcommand};

pub(crate) use error::Error;
pub(crate) use output::finish;

/// A reverse-proxy gateway for Server-Sent Events.
///
/// Stands in front of backends that already exist, listens to Redis channels that they publish to,
/// and relays each message to browsers as a Server-Sent Event. Everything else it forwards to the
/// backend. Without a command it runs the gateway.
#[derive(Debug, Parser)]
#[command(name = "ssegate", version, after_long_help = AFTER_HELP)]
#[command(args_conflicts_with_subcommands = true, subcommand_value_name = "COMMAND")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::Run,
}

const AFTER_HELP: &str = "\
Exit status: 0 success; 1 failure; 64 a mistake in the arguments or the configuration.

Files: ./gateway.yaml is read where no other file is named. The local certificate lies in \
$STATE_DIRECTORY, else $XDG_STATE_HOME/ssegate, else ~/.local/state/ssegate.

Environment: SSEGATE_LOG says what is logged (error, warn, info, debug, trace; default info).";

/// What ssegate is asked to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(run::Run),
    Dev(dev::Dev),
    Check(check::Check),
    #[command(name = "pub")]
    Publish(publish::Publish),
    Sub(sub::Sub),
    Healthcheck(healthcheck::Healthcheck),
    Completions(completions::Completions),
    Man(man::Man),
    Schema(schema::Schema),
}

/// Reads the arguments, the program's own name first.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Error> {
    let Arguments { command, run } = Arguments::try_parse_from(arguments)?;
    Ok(command.unwrap_or(Command::Run(run)))
}

impl Command {
    /// Does it; returns when it is done or was interrupted.
    pub(crate) fn execute(self) -> Result<(), Error> {
        match self {
            Self::Run(command) => command.execute(),
            Self::Dev(command) => command.execute(),
            Self::Check(command) => command.execute(),
            Self::Publish(command) => command.execute(),
            Self::Sub(command) => command.execute(),
            Self::Healthcheck(command) => command.execute(),
            Self::Completions(command) => command.execute(),
            Self::Man(command) => command.execute(),
            Self::Schema(command) => command.execute(),
        }
    }
}

/// The arguments as clap describes them: for completions and the manual.
fn description() -> clap::Command {
    Arguments::command()
}

/// Runs `work` on this thread, with timers and sockets.
fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    runtime.block_on(work)
}

#[cfg(test)]
mod tests {
    use std::process::ExitCode;

    use super::{Command, Error, description, parse};

    fn command(arguments: &str) -> Result<Command, Error> {
        parse(format!("ssegate {arguments}").split_whitespace().map(Into::into))
    }

    #[test]
    fn the_arguments_agree_with_themselves() {
        description().debug_assert();
    }

    #[test]
    fn no_command_means_run() {
        assert!(matches!(command(""), Ok(Command::Run(_))));
        assert!(matches!(command("-c other.yaml"), Ok(Command::Run(_))));
        assert!(matches!(command("run --config other.yaml"), Ok(Command::Run(_))));
    }

    #[test]
    fn a_wrong_argument_is_a_usage_error_and_a_question_is_none() {
        for wrong in ["--nonsense", "nonsense", "pub news", "sub", "completions tcsh9"] {
            let error = command(wrong).expect_err(wrong);
            assert_eq!(error.exit_code(), ExitCode::from(64), "{wrong}");
        }
        for question in ["--help", "--version", "pub --help"] {
            let error = command(question).expect_err(question);
            assert_eq!(error.exit_code(), ExitCode::SUCCESS, "{question}");
        }
    }
}
