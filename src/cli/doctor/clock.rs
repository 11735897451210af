//! Whether this machine's clock is right, as the servers around it see it.

use std::time::{Duration, SystemTime};

use http::HeaderValue;

use super::finding::Finding;

const ABOUT: &str = "clock";
/// `Date` has whole seconds; the rest allows for the time of the response on its way.
const TOLERANCE: Duration = Duration::from_secs(5);

/// How far another clock is from this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClockSample {
    who: String,
    apart: Duration,
    is_ahead: bool,
}

impl ClockSample {
    /// Reads the clock of a server from the `Date` of its response to a request that was sent at `sent`, and whose
    /// header came at `received`. The server may have written it at any time in between.
    pub(super) fn new(
        who: &str,
        date: Option<&HeaderValue>,
        (sent, received): (SystemTime, SystemTime),
    ) -> Option<Self> {
        let theirs = httpdate::parse_http_date(date?.to_str().ok()?).ok()?;
        let (apart, is_ahead) = match sent.duration_since(theirs) {
            Ok(apart) => (apart, true),
            // Zero where it was written while this side waited.
            Err(_later) => (theirs.duration_since(received).unwrap_or_default(), false),
        };
        Some(Self { who: who.to_owned(), apart, is_ahead })
    }
}

/// What the samples say together.
pub(super) fn finding(samples: &[ClockSample]) -> Finding {
    const MEND: &str = "run NTP (systemd-timesyncd, chrony) on the machine that is wrong: tokens are judged by the \
                        clock, and signed messages between gateways";
    let Some(furthest) = samples.iter().max_by_key(|sample| sample.apart) else {
        return Finding::ok(ABOUT, "nothing to compare it with: no server has sent a Date");
    };
    let ClockSample { who, apart, is_ahead } = furthest;
    if *apart <= TOLERANCE {
        let servers = if samples.len() == 1 { "that of" } else { "those of all servers, such as" };
        return Finding::ok(ABOUT, format!("agrees with {servers} {who}"));
    }
    let direction = if *is_ahead { "ahead of" } else { "behind" };
    Finding::warning(ABOUT, format!("{} s {direction} that of {who}", apart.as_secs()), MEND)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::HeaderValue;

    use super::super::finding::FindingLevel;
    use super::{ClockSample, finding};

    #[test]
    fn a_clock_that_differs_by_more_than_a_moment_is_said() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_777_636_800);
        let sample = |seconds: i64| {
            let theirs = SystemTime::UNIX_EPOCH
                + Duration::from_secs(1_777_636_800_u64.saturating_add_signed(seconds));
            let date = HeaderValue::from_str(&httpdate::fmt_http_date(theirs)).expect("a date");
            ClockSample::new("a", Some(&date), (now, now)).expect("a sample")
        };
        for (seconds, level, said) in [
            (&[0][..], FindingLevel::Ok, "agrees with that of a"),
            (&[4, -4], FindingLevel::Ok, "agrees with those of all servers"),
            (&[0, 90], FindingLevel::Warning, "90 s behind that of a"),
            (&[-3600], FindingLevel::Warning, "3600 s ahead of that of a"),
            (&[], FindingLevel::Ok, "nothing to compare it with"),
        ] {
            let samples: Vec<_> = seconds.iter().map(|seconds| sample(*seconds)).collect();
            let finding = finding(&samples);
            assert_eq!(finding.level, level, "{seconds:?}");
            assert!(finding.found.starts_with(said), "{finding:?}");
        }
        let nonsense = HeaderValue::from_static("yesterday");
        assert_eq!(ClockSample::new("a", Some(&nonsense), (now, now)), None);
        assert_eq!(ClockSample::new("a", None, (now, now)), None);
    }

    #[test]
    fn a_clock_is_right_if_it_was_so_at_any_time_of_a_slow_request() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_777_636_800);
        let at = |seconds| start + Duration::from_secs(seconds);
        // A server may write `Date` when it begins, or when it has its response 30 s later.
        for (date, level, said) in [
            (60, FindingLevel::Ok, "agrees"),
            (75, FindingLevel::Ok, "agrees"),
            (94, FindingLevel::Ok, "agrees"),
            (100, FindingLevel::Warning, "10 s behind that of a"),
            (50, FindingLevel::Warning, "10 s ahead of that of a"),
        ] {
            let header = HeaderValue::from_str(&httpdate::fmt_http_date(at(date))).expect("a date");
            let sample = ClockSample::new("a", Some(&header), (at(60), at(90))).expect("a sample");
            let finding = finding(&[sample]);
            assert_eq!(finding.level, level, "{date}");
            assert!(finding.found.starts_with(said), "{finding:?}");
        }
    }
}
