//! `ssegate schema`: the JSON Schema of gateway.yaml.

use clap::Args;
use ssegate::config;

use super::{CliError, output};

/// Print the JSON Schema (draft-07) of gateway.yaml, for editors
#[derive(Args, Debug)]
pub(crate) struct SchemaCommand {}

impl SchemaCommand {
    pub(super) fn execute(self) -> Result<(), CliError> {
        output::line(config::schema().trim_end())
    }
}
