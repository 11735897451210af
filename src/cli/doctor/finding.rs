//! What `ssegate doctor` found: one line each, with the mend.

use serde::Serialize;

use crate::cli::printable::printable;
use crate::cli::{CliError, output};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FindingLevel {
    /// As it should be.
    Ok,
    /// It works, or works for now, or could not be tested.
    Warning,
    /// What the configuration promises does not work.
    Error,
}

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: FindingLevel,
    /// What was tried: `redis`, `upstream http://127.0.0.1:8000`.
    pub(super) about: String,
    /// What was found.
    pub(super) found: String,
    /// What to do about it; empty where nothing is to be done.
    pub(super) mend: String,
}

impl Finding {
    /// All is well.
    pub(super) fn ok(about: impl Into<String>, found: impl Into<String>) -> Self {
        let (about, found) = (about.into(), found.into());
        Self { level: FindingLevel::Ok, about, found, mend: String::new() }
    }

    /// It works for now, or could not be tested.
    pub(super) fn warning(
        about: impl Into<String>,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let (about, found, mend) = (about.into(), found.into(), mend.into());
        Self { level: FindingLevel::Warning, about, found, mend }
    }

    /// It does not work.
    pub(super) fn error(
        about: impl Into<String>,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { level: FindingLevel::Error, ..Self::warning(about, found, mend) }
    }

    /// Prints it on stdout, as a line of text or of JSON.
    pub(super) fn print(&self, as_json: bool) -> Result<(), CliError> {
        if as_json {
            return output::line(serde_json::to_string(self).expect("strings are JSON"));
        }
        output::line(printable(&self.text()))
    }

    fn text(&self) -> String {
        let Self { level, about, found, mend } = self;
        let level = match level {
            FindingLevel::Ok => "ok",
            FindingLevel::Warning => "warning",
            FindingLevel::Error => "error",
        };
        let mend = if mend.is_empty() { String::new() } else { format!("; {mend}") };
        format!("{level:<8}{about}: {found}{mend}")
    }
}

#[cfg(test)]
mod tests {
    use super::Finding;

    #[test]
    fn a_finding_is_one_line() {
        assert_eq!(Finding::ok("redis", "fine").text(), "ok      redis: fine");
        assert_eq!(
            Finding::warning("clock", "off by 9 s", "run NTP").text(),
            "warning clock: off by 9 s; run NTP"
        );
        let error = Finding::error("ports", "taken", "stop it");
        assert_eq!(error.text(), "error   ports: taken; stop it");
        assert_eq!(
            serde_json::to_string(&error).expect("JSON"),
            r#"{"level":"error","about":"ports","found":"taken","mend":"stop it"}"#
        );
    }
}
