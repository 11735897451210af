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
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut description(), "ssegate", &mut script);
        output::bytes(&script)
    }
}
