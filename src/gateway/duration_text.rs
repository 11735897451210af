//! Durations in log lines, in the form of gateway.yaml.

use std::fmt;
use std::time::Duration;

/// Displays a duration as gateway.yaml has it, in its largest whole unit: `250ms`, `0s`, `30s`, `5m`, `1h`.
#[derive(Clone, Copy, Debug)]
pub(super) struct DurationText(pub(super) Duration);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            _ if self.0.subsec_nanos() > 0 => write!(f, "{}ms", self.0.as_millis()),
            0 => f.write_str("0s"),
            _ if seconds.is_multiple_of(3600) => write!(f, "{}h", seconds / 3600),
            _ if seconds.is_multiple_of(60) => write!(f, "{}m", seconds / 60),
            _ => write!(f, "{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::DurationText;

    #[test]
    fn a_duration_is_printed_as_it_is_configured() {
        for (millis, expected) in [
            (0, "0s"),
            (250, "250ms"),
            (1_500, "1500ms"),
            (25_000, "25s"),
            (90_000, "90s"),
            (300_000, "5m"),
            (7_200_000, "2h"),
        ] {
            assert_eq!(DurationText(Duration::from_millis(millis)).to_string(), expected);
        }
    }
}
