//! Which gateway.yaml a command reads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueHint};
use ssegate::config::{self, ConfigPurpose, Settings, Text};
use ssegate::gateway::Load;

use super::Error;

/// The file that is read where none is named.
const DEFAULT_FILE: &str = "gateway.yaml";
/// Names standard input.
const STDIN: &str = "-";

/// The argument `-c FILE`.
#[derive(Args, Debug)]
pub(super) struct ConfigFile {
    /// The configuration; - reads standard input [default: ./gateway.yaml]
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
        Ok(self.text()?.resolve(ConfigPurpose::Run)?)
    }

    /// The settings of the file, and how to load it again. Standard input is read once: what changes
    /// are the variables and the certificates that it names.
    pub(super) fn load_to_run(&self) -> Result<(Settings, Load), Error> {
        let text = self.text()?;
        let settings = config::on_own_thread(|| text.resolve(ConfigPurpose::Run))?;
        let file = self.path().to_owned();
        let load: Load = match self.is_stdin() {
            true => Arc::new(move || config::on_own_thread(|| text.resolve(ConfigPurpose::Run))),
            false => Arc::new(move || config::on_own_thread(|| config::load(&file))),
        };
        Ok((settings, load))
    }

    /// The settings of the file, or those of `ssegate dev` where there is none: for commands that
    /// speak to a gateway that runs.
    pub(super) fn load_or_dev(&self) -> Result<Settings, Error> {
        if self.is_nowhere() {
            return Ok(Settings::dev(None));
        }
        Ok(self.text()?.resolve(ConfigPurpose::Contact)?)
    }

    /// What another command needs to read the same file; `None`: it cannot.
    pub(super) fn argument(&self) -> Option<String> {
        match &self.file {
            None => Some(String::new()),
            Some(_) if self.is_stdin() => None,
            Some(file) => Some(format!("-c {}", file.display())),
        }
    }

    fn text(&self) -> Result<Text, Error> {
        if self.is_nowhere() {
            return Err(Error::Usage(
                "no gateway.yaml here: name a file with -c, or run without one: ssegate dev".into(),
            ));
        }
        if self.is_stdin() {
            return Ok(Text::from_stdin()?);
        }
        Ok(Text::from_file(self.path())?)
    }

    fn is_stdin(&self) -> bool {
        self.path() == Path::new(STDIN)
    }

    fn is_nowhere(&self) -> bool {
        self.file.is_none() && !Path::new(DEFAULT_FILE).exists()
    }
}
