//! Reports the error of a command, at the end of the process.

use std::io;
use std::process::ExitCode;

use super::error::CliError;
use super::output;
use super::printable::printable_lines;

/// Prints the error and returns the exit code. A closed stdout (`EPIPE`) is not reported.
pub(crate) fn report(error: &CliError) -> ExitCode {
    match error {
        // `--help` or `--version`: the "error" is the text to print on stdout.
        CliError::Arguments(text) if !text.use_stderr() => {
            if let Err(failed) = output::clap(text) {
                return report(&CliError::Output(failed));
            }
        }
        // Nothing is left to report a failed write to stderr on.
        CliError::Arguments(text) => output::clap(text).ok().unwrap_or_default(),
        CliError::Output(failed) if failed.kind() == io::ErrorKind::BrokenPipe => {}
        CliError::Config(mistakes) => output::to_stderr(mistakes),
        // Some errors quote a server.
        other => {
            output::to_stderr(format_args!("ssegate: {}", printable_lines(&other.to_string())))
        }
    }
    error.exit_code()
}
