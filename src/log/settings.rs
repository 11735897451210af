//! The settings of the log.

use std::fmt;

/// The settings of the log and of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The form of the lines. Fixed at the start.
    pub format: LogFormat,
    /// The least important lines of the log that are written.
    pub level: LogLevel,
    /// Which requests have a line in the access log.
    pub access: AccessMode,
    /// The most lines of the access log in a second; further ones are left out, and counted.
    pub access_rate: usize,
    /// How the access log shows identities.
    pub identity: IdentityForm,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            level: LogLevel::Info,
            access: AccessMode::Off,
            access_rate: 1000,
            identity: IdentityForm::Hash,
        }
    }
}

/// The form of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text in a terminal, JSON elsewhere.
    Auto,
    /// JSON.
    Json,
    /// Text; that of the access log is the combined log format.
    Text,
}

/// The level of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What an operator must act upon.
    Error,
    /// What an operator should look at.
    Warn,
    /// What changes: starts, stops, reloads, recoveries.
    Info,
    /// What happened to a single request or connection.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// All levels, the quietest first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// Returns the level of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == word)
    }
}

/// Which requests have a line in the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessMode {
    /// None.
    Off,
    /// Those that were refused or have failed.
    Errors,
    /// A share of them, in millionths.
    Share(u32),
}

impl AccessMode {
    /// Every request.
    pub const ALL: Self = Self::Share(Self::WHOLE);
    /// The share of all requests, in millionths.
    pub const WHOLE: u32 = 1_000_000;
    // A share has at most as many digits behind the point as millionths have.
    const DECIMALS: usize = 4;

    /// Reads `off`, `all`, `errors` or a share such as `1%` or `0.5%`. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            // YAML 1.1 reads `off` as `false`.
            "off" | "false" => Some(Self::Off),
            "all" => Some(Self::ALL),
            "errors" => Some(Self::Errors),
            _ => {
                let number = text.strip_suffix('%')?.trim_end();
                let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
                let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
                if whole.is_empty() || fraction.len() > Self::DECIMALS || !is_digits(fraction) {
                    return None;
                }
                let whole = Some(whole).filter(|whole| is_digits(whole))?.parse::<u32>().ok()?;
                let fraction: u32 =
                    format!("{fraction:0<width$}", width = Self::DECIMALS).parse().ok()?;
                let share = whole.checked_mul(10_000)?.checked_add(fraction)?;
                (1..=Self::WHOLE).contains(&share).then_some(Self::Share(share))
            }
        }
    }
}

impl fmt::Display for AccessMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Errors => f.write_str("errors"),
            &Self::ALL => f.write_str("all"),
            Self::Share(share) => write!(f, "{}%", f64::from(*share) / 10_000.0),
        }
    }
}

/// How the access log shows identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityForm {
    /// A hash: the same for the same person as long as the process runs.
    Hash,
    /// The name that the credential has.
    Plain,
    /// Not at all.
    Off,
}

#[cfg(test)]
mod tests {
    use super::AccessMode;

    #[test]
    fn a_mode_is_read_and_printed() {
        for (text, mode, shown) in [
            ("off", AccessMode::Off, "off"),
            ("false", AccessMode::Off, "off"),
            ("errors", AccessMode::Errors, "errors"),
            ("all", AccessMode::ALL, "all"),
            ("100%", AccessMode::ALL, "all"),
            ("1%", AccessMode::Share(10_000), "1%"),
            ("12.5%", AccessMode::Share(125_000), "12.5%"),
            ("0.0001%", AccessMode::Share(1), "0.0001%"),
            ("1 %", AccessMode::Share(10_000), "1%"),
        ] {
            assert_eq!(AccessMode::parse(text), Some(mode), "{text}");
            assert_eq!(mode.to_string(), shown);
        }
        let wrong = ["", "on", "%", ".5%", "0%", "0.00001%", "100.1%", "101%", "-1%", "1e2%", "1"];
        for wrong in wrong {
            assert_eq!(AccessMode::parse(wrong), None, "{wrong}");
        }
    }
}
