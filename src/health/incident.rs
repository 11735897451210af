//! An ongoing problem: what, since when, and how many times.

use std::fmt;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

/// A problem without a known end is over after this.
const RECENT: Duration = Duration::from_secs(10);

/// An ongoing problem. Displays as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    kind: &'static str,
    error: String,
    since: SystemTime,
    last: SystemTime,
    times: u64,
}

impl Incident {
    /// A problem that has just occurred for the first time.
    pub fn new(kind: &'static str, error: impl Into<String>, now: SystemTime) -> Self {
        Self { kind, error: error.into(), since: now, last: now, times: 1 }
    }

    /// Records another occurrence, perhaps of another kind.
    pub fn recur(&mut self, kind: &'static str, error: impl Into<String>, now: SystemTime) {
        (self.kind, self.error, self.last) = (kind, error.into(), now);
        self.times += 1;
    }

    /// Replaces the error text, without another occurrence.
    pub fn restate(&mut self, error: impl Into<String>) {
        self.error = error.into();
    }

    /// Replaces the error text, and records that the problem continues at this time.
    pub fn go_on(&mut self, error: impl Into<String>, now: SystemTime) {
        (self.error, self.last) = (error.into(), now);
    }

    /// Whether its kind is one of these.
    pub fn is_one_of(&self, kinds: &[&str]) -> bool {
        kinds.contains(&self.kind)
    }

    /// Whether it occurred in the last ten seconds.
    pub fn is_recent(&self, now: SystemTime) -> bool {
        self.occurred_within(RECENT, now)
    }

    /// Whether it occurred within this time before now.
    pub fn occurred_within(&self, time: Duration, now: SystemTime) -> bool {
        now.duration_since(self.last).is_ok_and(|ago| ago < time)
    }

    /// The number of occurrences.
    pub fn times(&self) -> u64 {
        self.times
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, error, since, last, times } = self;
        if !names(error, kind) {
            write!(f, "{kind}: ")?;
        }
        write!(f, "{error}; since {}", date(*since))?;
        if *times > 1 {
            write!(f, ", {times} times")?;
        }
        if *times > 1 || last > since {
            write!(f, ", last {}", date(*last))?;
        }
        Ok(())
    }
}

/// Whether the error names its kind, as `cannot connect: …` names `connect`.
fn names(error: &str, kind: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_named = |words: &str| {
        error.match_indices(words).any(|(at, found)| {
            let (before, after) = (&error[..at], &error[at + found.len()..]);
            !before.ends_with(is_word) && !after.starts_with(is_word)
        })
    };
    is_named(kind) || is_named(&kind.replace('_', " "))
}

/// Formats a time as RFC 3339 in UTC with whole seconds: `2026-11-28T19:32:50Z`.
pub fn date(time: SystemTime) -> impl fmt::Display {
    let time = OffsetDateTime::from(time);
    let (date, clock) = (time.date(), time.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::Incident;

    #[test]
    fn a_kind_that_its_error_names_is_not_repeated() {
        for (kind, error, expected) in [
            ("connect", "cannot connect: refused", "cannot connect: refused"),
            ("max_connections", "max_connections reached", "max_connections reached"),
            ("invalid_response", "invalid response: no status", "invalid response: no status"),
            (
                "connect_timeout",
                "no connection within it",
                "connect_timeout: no connection within it",
            ),
            ("body", "the bodyguard left", "body: the bodyguard left"),
        ] {
            let text = Incident::new(kind, error, UNIX_EPOCH).to_string();
            assert_eq!(text, format!("{expected}; since 1970-01-01T00:00:00Z"));
        }
    }

    #[test]
    fn it_displays_its_start_and_the_number_of_occurrences() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let mut incident = Incident::new("connect", "refused", at(1_795_894_370));
        assert_eq!(incident.to_string(), "connect: refused; since 2026-11-28T19:32:50Z");
        incident.recur("timeout", "no response", at(1_795_894_381));
        assert_eq!(
            incident.to_string(),
            "timeout: no response; since 2026-11-28T19:32:50Z, 2 times, last 2026-11-28T19:33:01Z"
        );
        let mut incident = Incident::new("lagged", "3 were closed", at(1_795_894_370));
        incident.restate("4 were closed");
        assert_eq!(incident.to_string(), "lagged: 4 were closed; since 2026-11-28T19:32:50Z");
        incident.go_on("5 were closed", at(1_795_894_381));
        assert_eq!(
            incident.to_string(),
            "lagged: 5 were closed; since 2026-11-28T19:32:50Z, last 2026-11-28T19:33:01Z"
        );
    }
}
