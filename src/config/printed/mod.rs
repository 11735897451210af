//! The configuration as understood, as YAML: variables replaced, defaults filled in, secrets hidden.
//!
//! The defaults are those of gateway.yaml, which tests compare with those in code. What is printed is read again
//! before it is shown, and must give the same settings: a default that would not, such as one that depends on another
//! key, or that another key excludes, is left out. So what is printed is true, whatever becomes of the code.

mod complete;
mod secrets;

use std::collections::BTreeSet;

use ssegate_strict_yaml::{ConfigErrors, PlainValue};

use self::complete::Completion;
use super::purpose::ConfigPurpose;
use super::settings::Settings;
use super::text::{Text, parse};

/// How often defaults may be left out because of a mistake. Each time all of one round are.
const ROUNDS: usize = 5;

/// Whether secrets are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum SecretDisplay {
    /// As `(hidden)`.
    Hidden,
    /// As they are, for tests.
    #[cfg(test)]
    Shown,
}

/// The configuration that `text` is, which has no mistakes and is `settings`.
///
/// # Errors
/// A file that it names has changed since it was read.
pub(in crate::config) fn print(
    text: &Text,
    settings: &Settings,
    secrets: SecretDisplay,
) -> Result<String, ConfigErrors> {
    let written = text.plain()?;
    let candidates = complete::candidates(&written, settings.shards);
    let reader = PrintReader { name: text.name(), settings: shown(settings) };
    let left_out = reader.left_out(&written, &candidates)?;
    let mut value = written;
    candidates.without(&left_out).apply(&mut value);
    match secrets {
        SecretDisplay::Hidden => Ok(secrets::hidden(value, settings)),
        #[cfg(test)]
        SecretDisplay::Shown => Ok(value.to_yaml()),
    }
}

/// Reads again what is printed.
struct PrintReader<'a> {
    /// The name of the file, at whose directory relative paths start.
    name: &'a str,
    settings: String,
}

impl PrintReader<'_> {
    /// The defaults that cannot be written out.
    fn left_out(
        &self,
        written: &PlainValue,
        candidates: &Completion,
    ) -> Result<BTreeSet<String>, ConfigErrors> {
        let mut left_out = BTreeSet::new();
        // Without any default it must be the same, or a file has changed meanwhile.
        self.read(written, &Completion::default())?;
        for _ in 0..ROUNDS {
            match self.read(written, &candidates.without(&left_out)) {
                Ok(true) => return Ok(left_out),
                Ok(false) => break,
                Err(errors) => {
                    let paths = errors.mistakes().iter().map(|mistake| mistake.path());
                    let before = left_out.len();
                    left_out.extend(paths.flat_map(|path| candidates.rules_at(path)));
                    if left_out.len() == before {
                        break;
                    }
                }
            }
        }
        // One at a time: each rule alone must change nothing.
        for rule in candidates.rules() {
            let alone = candidates.only(&rule);
            if !left_out.contains(&rule) && !self.read(written, &alone).unwrap_or(false) {
                left_out.insert(rule);
            }
        }
        match self.read(written, &candidates.without(&left_out)) {
            Ok(true) => Ok(left_out),
            // They only differ together: what is written in the file is true in any case.
            _ => Ok(candidates.rules().collect()),
        }
    }

    /// Whether it gives the same settings with these defaults.
    fn read(&self, written: &PlainValue, completion: &Completion) -> Result<bool, ConfigErrors> {
        let mut value = written.clone();
        completion.apply(&mut value);
        let settings = parse(&value.to_yaml(), self.name, &|_| None)?;
        Ok(shown(&settings) == self.settings)
    }
}

/// All that the settings say, but for the lines at which secrets stand.
fn shown(settings: &Settings) -> String {
    format!("{:?}", Settings { secrets: Vec::new(), ..settings.clone() })
}

impl Text {
    /// The configuration as understood, as YAML, with secrets hidden. `settings` is what it resolved to.
    ///
    /// # Errors
    /// A file that it names has changed since it was read.
    pub fn printed(&self, settings: &Settings) -> Result<String, ConfigErrors> {
        print(self, settings, SecretDisplay::Hidden)
    }

    /// Its values, with its variables replaced.
    fn plain(&self) -> Result<PlainValue, ConfigErrors> {
        let env = |variable: &str| std::env::var(variable).ok();
        let stand_in = |path: &str| ConfigPurpose::Run.stand_in(path);
        ssegate_strict_yaml::plain(self.text(), self.name(), (&env, &stand_in))
    }
}
