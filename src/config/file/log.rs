//! `log`: the log, and the access log.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use ssegate_strict_yaml::{Count, mapping, quoted, sets};

use crate::log::{AccessMode, IdentityForm, LogFormat, LogLevel, LogSettings};

mapping! {
    /// The log, on stderr, and the access log, on stdout.
    #[schemars(rename = "Log")]
    pub(crate) struct LogFile sets LogSettings {
        /// The form of the lines: `json`, `text`, which is the combined log format for the access log, or `auto`: text
        /// in a terminal, JSON elsewhere.
        format: LogFormatFile => format,
        /// The least important lines that are written. `SSEGATE_LOG` in the environment takes precedence.
        level: LogLevelFile => level,
        /// Which requests have a line in the access log: `off`, `all`, `errors`, or a share such as `1%`.
        access: AccessFile => access,
        /// The most lines of the access log in a second. Further ones are left out, and counted.
        access_rate: Count => access_rate,
        /// How the access log says who it was: `hash`, the same for one person as long as the process runs;
        /// `plain`, the name in the credential; or `off`.
        identity: IdentityFormFile => identity,
    }
}

/// The form of the lines.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "LogFormat")]
pub(crate) enum LogFormatFile {
    /// Text in a terminal, JSON elsewhere.
    Auto,
    /// JSON.
    Json,
    /// Text, and the combined log format.
    Text,
}

/// The level of the log.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "LogLevel")]
pub(crate) enum LogLevelFile {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How the access log says who it was.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "LogIdentity")]
pub(crate) enum IdentityFormFile {
    /// A hash.
    Hash,
    /// The name in the credential.
    Plain,
    /// Not at all.
    Off,
}

/// Which requests have a line in the access log.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct AccessFile(AccessMode);

impl TryFrom<String> for AccessFile {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        AccessMode::parse(&text).map(Self).ok_or_else(|| {
            format!(
                "expected off, all, errors or a share from 0.0001% to 100%; this is {}",
                quoted(&text)
            )
        })
    }
}

impl JsonSchema for AccessFile {
    fn schema_name() -> Cow<'static, str> {
        "Access".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "pattern": r"^(off|all|errors|[0-9]+(\.[0-9]{1,4})?\s*%)$|\$\{" },
                { "enum": [false] },
            ],
            "examples": ["off", "all", "errors", "1%"],
        })
    }
}

sets! {
    LogFormatFile => LogFormat = |word| match word {
        LogFormatFile::Auto => LogFormat::Auto,
        LogFormatFile::Json => LogFormat::Json,
        LogFormatFile::Text => LogFormat::Text,
    };
    LogLevelFile => LogLevel = |word| match word {
        LogLevelFile::Error => LogLevel::Error,
        LogLevelFile::Warn => LogLevel::Warn,
        LogLevelFile::Info => LogLevel::Info,
        LogLevelFile::Debug => LogLevel::Debug,
        LogLevelFile::Trace => LogLevel::Trace,
    };
    AccessFile => AccessMode = |mode| mode.0;
    IdentityFormFile => IdentityForm = |word| match word {
        IdentityFormFile::Hash => IdentityForm::Hash,
        IdentityFormFile::Plain => IdentityForm::Plain,
        IdentityFormFile::Off => IdentityForm::Off,
    };
}
