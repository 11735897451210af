//! Parses the arguments, runs the command and returns its exit code.

mod cli;
#[cfg(test)]
mod generated_page;

use std::process::ExitCode;

fn main() -> ExitCode {
    let code = match cli::parse(std::env::args_os()).and_then(cli::Command::execute) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::report(&error),
    };
    cli::finish();
    code
}
