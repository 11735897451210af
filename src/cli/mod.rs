//! The command line: parses the arguments and runs the command.
//!
//! Owns stdout, stderr and the exit code, with one file for each command. Does not know how a
//! gateway works: it loads the configuration, and starts or queries a gateway.

mod admin_listener;
mod banner;
mod check;
mod completions;
mod config;
mod connect;
mod count;
mod dev;
mod doctor;
mod duration;
mod error;
mod followers;
mod healthcheck;
mod logging;
mod man;
mod metrics;
mod number;
mod output;
mod printable;
mod publish;
mod redis_mends;
#[cfg(test)]
mod reference;
mod reload;
mod report;
mod revoke;
mod run;
mod schema;
mod secret;
mod sign;
mod sub;
mod token;
mod trust;

use std::ffi::OsString;
use std::future::Future;

use clap::{CommandFactory, Parser, Subcommand};

pub(crate) use error::CliError;
pub(crate) use output::finish;
pub(crate) use report::report;

/// A reverse-proxy gateway for Server-Sent Events.
///
/// Sits in front of an existing backend, subscribes to the Redis channels that it publishes to, and
/// sends each message to browsers as a Server-Sent Event. All other requests are forwarded to the
/// backend. Without a command, ssegate runs the gateway.
#[derive(Debug, Parser)]
#[command(name = "ssegate", version = env!("SSEGATE_VERSION"), after_long_help = AFTER_HELP)]
#[command(subcommand_value_name = "COMMAND")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunCommand,
}

const AFTER_HELP: &str = "\
Exit status: 0 success; 1 failure; 64 invalid arguments or configuration.

Files: the configuration is ./gateway.yaml unless -c names another file. The self-signed \
certificate is kept in $STATE_DIRECTORY, $XDG_STATE_HOME/ssegate or ~/.local/state/ssegate.

Environment: SSEGATE_LOG sets the log level (error, warn, info, debug, trace), in place of log.level. \
SSEGATE_TOKEN, SSEGATE_TOKEN_KEY, SSEGATE_URL_KEY and SSEGATE_REVOCATION_KEY are secrets of sub, token, sign \
and revoke. SSEGATE_ADMIN_TOKEN is the token with which metrics, healthcheck and reload \
request the admin listener.";

/// A command with its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(run::RunCommand),
    Dev(dev::DevCommand),
    Check(check::CheckCommand),
    Doctor(Box<doctor::DoctorCommand>),
    Reload(reload::ReloadCommand),
    #[command(name = "pub")]
    Publish(publish::PublishCommand),
    Sub(sub::SubscribeCommand),
    Revoke(revoke::RevokeCommand),
    Token(token::TokenCommand),
    Sign(sign::SignCommand),
    Healthcheck(healthcheck::HealthcheckCommand),
    Metrics(metrics::MetricsCommand),
    Completions(completions::CompletionsCommand),
    Man(man::ManCommand),
    Schema(schema::SchemaCommand),
}

/// Parses the arguments, of which the first is the program name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, CliError> {
    match Arguments::try_parse_from(arguments)? {
        Arguments { command: None, run } => Ok(Command::Run(run)),
        Arguments { command: Some(mut command), run } => {
            command.take_options_before(run)?;
            Ok(command)
        }
    }
}

impl Command {
    /// Takes the options that stand before the command: `ssegate -c file check`.
    fn take_options_before(&mut self, before: run::RunCommand) -> Result<(), CliError> {
        let config = before.options_before_command()?;
        match self.config() {
            Some(own) => own.or_before(config),
            None if config.is_given() => Err(CliError::Usage(
                "-c is for commands that read a configuration; this one reads none".into(),
            )),
            None => Ok(()),
        }
    }

    /// Its `-c FILE`, if it has one.
    fn config(&mut self) -> Option<&mut config::ConfigFile> {
        match self {
            Self::Run(command) => Some(&mut command.config),
            Self::Check(command) => Some(&mut command.config),
            Self::Doctor(command) => Some(&mut command.config),
            Self::Reload(command) => Some(&mut command.admin.config),
            Self::Publish(command) => Some(&mut command.config),
            Self::Sub(command) => Some(&mut command.config),
            Self::Revoke(command) => Some(&mut command.config),
            Self::Token(command) => Some(&mut command.config),
            Self::Healthcheck(command) => Some(&mut command.admin.config),
            Self::Metrics(command) => Some(&mut command.admin.config),
            Self::Dev(_)
            | Self::Sign(_)
            | Self::Completions(_)
            | Self::Man(_)
            | Self::Schema(_) => None,
        }
    }

    /// Runs the command to its end, or until a signal.
    pub(crate) fn execute(self) -> Result<(), CliError> {
        match self {
            Self::Run(command) => command.execute(),
            Self::Dev(command) => command.execute(),
            Self::Check(command) => command.execute(),
            Self::Doctor(command) => command.execute(),
            Self::Reload(command) => command.execute(),
            Self::Publish(command) => command.execute(),
            Self::Sub(command) => command.execute(),
            Self::Revoke(command) => command.execute(),
            Self::Token(command) => command.execute(),
            Self::Sign(command) => command.execute(),
            Self::Healthcheck(command) => command.execute(),
            Self::Metrics(command) => command.execute(),
            Self::Completions(command) => command.execute(),
            Self::Man(command) => command.execute(),
            Self::Schema(command) => command.execute(),
        }
    }
}

/// The clap definition of all arguments, for completions and the manual page.
fn description() -> clap::Command {
    Arguments::command()
}

/// Runs `work` on a runtime on this thread.
fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    let result = runtime.block_on(work);
    // Does not wait for a thread that still resolves a name: the command is done.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use std::process::ExitCode;

    use super::{CliError, Command, description, parse};

    fn command(arguments: &str) -> Result<Command, CliError> {
        parse(format!("ssegate {arguments}").split_whitespace().map(Into::into))
    }

    #[test]
    fn the_argument_definitions_are_consistent() {
        description().debug_assert();
    }

    #[test]
    fn run_is_the_default_command() {
        assert!(matches!(command(""), Ok(Command::Run(_))));
        assert!(matches!(command("-c other.yaml"), Ok(Command::Run(_))));
        assert!(matches!(command("run --config other.yaml"), Ok(Command::Run(_))));
    }

    #[test]
    fn the_configuration_may_be_named_before_the_command_or_after_it() {
        for arguments in ["check -c a.yaml", "-c a.yaml check", "--config a.yaml sub news"] {
            let mut command = command(arguments).expect(arguments);
            let file = command.config().expect("it reads a configuration").path();
            assert_eq!(file, std::path::Path::new("a.yaml"), "{arguments}");
        }
        for (wrong, expected) in [
            ("-c a.yaml check -c b.yaml", "-c is given twice"),
            ("-c a.yaml dev", "-c is for commands that read a configuration"),
            ("--takeover check", "--takeover is an option of `ssegate run`"),
            ("-c a.yaml pub news hello --redis redis://h", "-c and --redis exclude each other"),
        ] {
            let error = match command(wrong) {
                Ok(Command::Publish(command)) => command.execute().expect_err(wrong),
                other => other.expect_err(wrong),
            };
            assert!(error.to_string().contains(expected), "{wrong}: {error}");
            assert_eq!(error.exit_code(), ExitCode::from(64), "{wrong}");
        }
    }

    #[test]
    fn an_error_for_a_number_names_the_option_and_the_range() {
        for (wrong, option, range) in [
            ("sub news -n 0", "--count <N>", "use a whole number of at least 1"),
            ("sub news -n many", "--count <N>", "use a whole number of at least 1"),
            ("sub news -n 99999999999999999999", "--count <N>", "use a whole number of at least 1"),
            ("dev --http-port 65536", "--http-port <PORT>", "use a number from 0 to 65535"),
            ("dev --bus-port x", "--bus-port <PORT>", "use a number from 0 to 65535"),
        ] {
            let error = command(wrong).expect_err(wrong).to_string();
            assert!(error.contains(option) && error.contains(range), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_wrong_argument_exits_with_64_and_help_with_0() {
        for wrong in ["--nonsense", "nonsense", "pub news", "sub", "completions tcsh9"] {
            let error = command(wrong).expect_err(wrong);
            assert_eq!(error.exit_code(), ExitCode::from(64), "{wrong}");
        }
        for help in ["--help", "--version", "pub --help"] {
            let error = command(help).expect_err(help);
            assert_eq!(error.exit_code(), ExitCode::SUCCESS, "{help}");
        }
    }
}
