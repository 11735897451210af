//! The argument `-c FILE`: which configuration a command loads.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use ssegate::config::{self, ConfigPurpose, Settings, Text};
use ssegate::gateway::ConfigLoader;

use super::CliError;

/// Read if there is no `-c`.
const DEFAULT_FILE: &str = "gateway.yaml";
/// Stands for standard input.
const STDIN: &str = "-";

/// The argument `-c FILE`.
#[derive(Args, Debug)]
pub(super) struct ConfigFile {
    /// The configuration; - reads standard input [default: ./gateway.yaml]
    #[arg(short = 'c', long = "config", value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,
}

impl ConfigFile {
    /// Whether a file is named.
    pub(super) fn is_given(&self) -> bool {
        self.file.is_some()
    }

    /// Takes the file that was named before the command, if any.
    ///
    /// # Errors
    /// Both are given.
    pub(super) fn or_before(&mut self, before: Self) -> Result<(), CliError> {
        match (&self.file, before.file) {
            (Some(_), Some(_)) => {
                Err(CliError::Usage("-c is given twice, before the command and after it".into()))
            }
            (None, Some(file)) => {
                self.file = Some(file);
                Ok(())
            }
            (_, None) => Ok(()),
        }
    }

    /// The path of the file, for messages.
    pub(super) fn path(&self) -> &Path {
        self.file.as_deref().unwrap_or_else(|| Path::new(DEFAULT_FILE))
    }

    /// Loads the file, which has to exist, and returns its text, too: for `ssegate check`.
    pub(super) fn load(&self) -> Result<(Settings, Text), CliError> {
        let text = self.text()?;
        Ok((text.resolve(ConfigPurpose::Run)?, text))
    }

    /// Whether others than the owner of the file can read it.
    pub(super) fn is_readable_by_others(&self) -> bool {
        let mode = std::fs::metadata(self.path()).map(|file| file.permissions().mode());
        !self.is_stdin() && mode.is_ok_and(|mode| mode & 0o044 != 0)
    }

    /// Loads the file, and returns a loader for reloads. Standard input can be read only once, so a
    /// reload resolves the same text again, with the certificates and variables of that moment.
    pub(super) fn load_with_reloader(&self) -> Result<(Settings, ConfigLoader), CliError> {
        let text = self.text()?;
        let settings = config::on_own_thread(|| text.resolve(ConfigPurpose::Run))?;
        let file = self.path().to_owned();
        let load = match self.is_stdin() {
            true => ConfigLoader::new(None, move || {
                config::on_own_thread(|| text.resolve(ConfigPurpose::Run))
            }),
            false => ConfigLoader::new(Some(file.clone()), move || {
                config::on_own_thread(|| config::load(&file))
            }),
        };
        Ok((settings, load))
    }

    /// Loads the file, or returns the settings of `ssegate dev` if there is no file: for commands
    /// that connect to a running gateway.
    pub(super) fn load_or_dev(&self) -> Result<Settings, CliError> {
        self.load_or_dev_for(ConfigPurpose::Contact)
    }

    /// As [`Self::load_or_dev`], for a command with this purpose.
    pub(super) fn load_or_dev_for(&self, purpose: ConfigPurpose) -> Result<Settings, CliError> {
        if self.is_missing() {
            return Ok(Settings::dev(None));
        }
        Ok(self.text()?.resolve(purpose)?)
    }

    /// Where the file is, with symbolic links followed; `None`: there is none, or it is standard input.
    pub(super) fn real_path(&self) -> Option<PathBuf> {
        self.path().canonicalize().ok().filter(|_| !self.is_stdin())
    }

    /// The arguments with which another command loads the same file. `None` for standard input,
    /// which another command cannot read.
    pub(super) fn argument(&self) -> Option<String> {
        match &self.file {
            None => Some(String::new()),
            Some(_) if self.is_stdin() => None,
            Some(file) => Some(format!("-c {}", file.display())),
        }
    }

    fn text(&self) -> Result<Text, CliError> {
        if self.is_missing() {
            return Err(CliError::Usage(
                "gateway.yaml: no such file in this directory; name a file with -c, or run \
                 without a configuration: ssegate dev"
                    .into(),
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

    fn is_missing(&self) -> bool {
        self.file.is_none() && !Path::new(DEFAULT_FILE).exists()
    }
}
