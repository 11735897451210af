//! `ssegate schema`: the JSON Schema of gateway.yaml.

use clap::Args;
use ssegate::config;

use super::{Error, output};

/// Print the JSON Schema (draft-07) of gateway.yaml, for editors
#[derive(Args, Debug)]
pub(crate) struct Schema {}

impl Schema {
    pub(super) fn execute(self) -> Result<(), Error> {
        output::line(config::schema().trim_end())
    }
}
