//! Which gateway.yaml a command reads.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use ssegate::config::{self, Settings};

use super::Error;

/// The file that is read where none is named.
const DEFAULT_FILE: &str = "gateway.yaml";

/// The argument `-c FILE`.
#[derive(Args, Debug)]
pub(super) struct ConfigFile {
    /// The configuration [default: ./gateway.yaml]
    #[arg(short = 'c', long = "config", value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,
}

impl ConfigFile {
    /// The file's name.
    pub(super) fn path(&self) -> &Path {
        self.file.as_deref().unwrap_or_else(|| Path::new(DEFAULT_FILE))
    }

    /// The settings of the file, for commands that are about it.
    pub(super) fn load(&self) -> Result<Settings, Error> {
        if self.is_nowhere() {
            return Err(Error::Usage(
                "no gateway.yaml here: name a file with -c, or run without one: ssegate dev".into(),
            ));
        }
        Ok(config::load(self.path())?)
    }

    /// The settings of the file, or those of `ssegate dev` where there is none: for commands that
    /// speak to a gateway that runs.
    pub(super) fn load_or_dev(&self) -> Result<Settings, Error> {
        if self.is_nowhere() {
            return Ok(Settings::dev(None));
        }
        self.load()
    }

    fn is_nowhere(&self) -> bool {
        self.file.is_none() && !Path::new(DEFAULT_FILE).exists()
    }
}
