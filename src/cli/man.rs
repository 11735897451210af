//! `ssegate man`: the manual page, generated from the arguments.

use clap::{Args, Command};

use super::{CliError, description, output};

/// Print the manual page
///
/// For example: ssegate man | man -l -
#[derive(Args, Debug)]
pub(crate) struct ManCommand {}

impl ManCommand {
    pub(super) fn execute(self) -> Result<(), CliError> {
        output::bytes(&pages(description()).map_err(CliError::Output)?)
    }
}

/// The pages of ssegate and of each command in one roff document.
pub(super) fn pages(ssegate: Command) -> std::io::Result<Vec<u8>> {
    let mut ssegate = ssegate.disable_help_subcommand(true);
    ssegate.build();
    let mut pages = Vec::new();
    clap_mangen::Man::new(ssegate.clone()).render(&mut pages)?;
    for command in ssegate.get_subcommands() {
        clap_mangen::Man::new(command.clone()).render(&mut pages)?;
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::{description, pages};

    #[test]
    fn the_manual_has_a_page_for_every_command() {
        let pages = pages(description()).expect("writing to a Vec does not fail");
        let pages = String::from_utf8(pages).expect("UTF-8");
        for name in [
            "ssegate",
            "ssegate-run",
            "ssegate-pub",
            "ssegate-sub",
            "ssegate-token",
            "ssegate-schema",
        ] {
            assert!(pages.contains(&format!(".TH {name} 1")), "{name}");
        }
    }
}
