//! `ssegate completions`: shell completions, generated from the arguments.

use clap::Args;
use clap_complete::Shell;

use super::{CliError, description, output};

/// Print completions for a shell
///
/// For example: ssegate completions bash > /etc/bash_completion.d/ssegate
#[derive(Args, Debug)]
pub(crate) struct CompletionsCommand {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl CompletionsCommand {
    pub(super) fn execute(self) -> Result<(), CliError> {
        output::bytes(&script(self.shell))
    }
}

/// What a shell reads to complete the arguments.
pub(super) fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut description(), "ssegate", &mut script);
    script
}
