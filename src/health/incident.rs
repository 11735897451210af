//! An ongoing problem: what, since when, and how many times.

use std::fmt;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

/// A problem that has no end of its own counts as over after this.
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

    /// Whether it occurred in the last ten seconds.
    pub fn is_recent(&self, now: SystemTime) -> bool {
        now.duration_since(self.last).is_ok_and(|ago| ago < RECENT)
    }

    /// The number of occurrences.
    pub fn times(&self) -> u64 {
        self.times
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, error, since, last, times } = self;
        write!(f, "{kind}: {error}; since {}", date(*since))?;
        if *times > 1 {
            write!(f, ", {times} times, last {}", date(*last))?;
        }
        Ok(())
    }
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
    fn it_displays_its_start_and_the_number_of_occurrences() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let mut incident = Incident::new("connect", "refused", at(1_795_894_370));
        assert_eq!(incident.to_string(), "connect: refused; since 2026-11-28T19:32:50Z");
        incident.recur("timeout", "no response", at(1_795_894_381));
        assert_eq!(
            incident.to_string(),
            "timeout: no response; since 2026-11-28T19:32:50Z, 2 times, last 2026-11-28T19:33:01Z"
        );
    }
}
