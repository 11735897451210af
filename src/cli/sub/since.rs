//! `--since`: the id of an event, a time, or the beginning, as the id that a stream is asked to resume after.

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use ssegate::route::EventsSource;
use ssegate_hub::EntryId;
use time::{Date, Month, OffsetDateTime, Time, UtcOffset};

use super::target::StreamTarget;
use crate::cli::{CliError, duration};

/// Where a stream begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// After the event with this id.
    Id(String),
    /// At this time, in Unix milliseconds: the ids of entries begin with theirs.
    Time(u64),
    /// With the oldest entry.
    Beginning,
}

impl Since {
    /// Parses the argument. What is neither a time nor `beginning` is an id.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text == "beginning" {
            return Ok(Self::Beginning);
        }
        if let Ok(ago) = duration::parse(text) {
            return Ok(Self::Time(milliseconds(SystemTime::now(), ago)));
        }
        if looks_like_time(text) {
            let error =
                || "write a time with its offset: 2026-05-01T12:00:00Z, or +02:00 instead of Z";
            return instant(text).map(Self::Time).ok_or_else(|| error().into());
        }
        // As an `EventSource` could send it (WHATWG HTML, section 9.2.3).
        match HeaderValue::from_bytes(text.as_bytes()) {
            Ok(_) if !text.is_empty() => Ok(Self::Id(text.to_owned())),
            _ => Err("an id has no control characters, and is not empty".into()),
        }
    }

    /// The id after which the streams begin.
    ///
    /// # Errors
    /// A stream of pub/sub has no times: Redis does not keep what it sends.
    pub(super) fn last_event_id(&self, targets: &[StreamTarget]) -> Result<String, CliError> {
        let before = match self {
            Self::Id(id) => return Ok(id.clone()),
            Self::Time(milliseconds) => {
                EntryId { milliseconds: *milliseconds, sequence: 0 }.previous()
            }
            Self::Beginning => EntryId::ZERO,
        };
        let without = targets.iter().find(|target| target.source == Some(EventsSource::PubSub));
        match without {
            None => Ok(before.to_string()),
            Some(target) => Err(CliError::Usage(format!(
                "{}: its route has source: pubsub, of which Redis keeps nothing; --since takes the id of an event \
                 there, and a time or beginning with source: stream only",
                target.name
            ))),
        }
    }
}

/// Unix time in milliseconds, so long before `now`.
fn milliseconds(now: SystemTime, ago: Duration) -> u64 {
    let then =
        now.checked_sub(ago).and_then(|then| then.duration_since(SystemTime::UNIX_EPOCH).ok());
    u64::try_from(then.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// Whether it begins with a date. No id does: that of an entry has one hyphen, that of an event begins with six
/// characters.
fn looks_like_time(text: &str) -> bool {
    let shape = |c: char| if c.is_ascii_digit() { '0' } else { c };
    text.chars().take(10).map(shape).eq("0000-00-00".chars())
}

/// The Unix time of a time as in RFC 3339, section 5.6, in milliseconds. Minutes are enough.
fn instant(text: &str) -> Option<u64> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let offset_at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, offset) = rest.split_at(offset_at);
    let number = |text: &str| text.parse::<u8>().ok().filter(|_| text.len() == 2);
    let month = Month::try_from(number(date.get(5..7)?)?).ok()?;
    let date = Date::from_calendar_date(date.get(..4)?.parse().ok()?, month, number(&date[8..])?);
    let mut parts = clock.splitn(3, ':');
    let (hour, minute) = (number(parts.next()?)?, number(parts.next()?)?);
    let (second, fraction) = match parts.next() {
        None => (0, ""),
        Some(seconds) => {
            let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
            (number(whole)?, fraction)
        }
    };
    let is_number = fraction.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths =
        format!("{fraction:0<3}").get(..3)?.parse::<u16>().ok().filter(|_| is_number)?;
    let offset = match offset {
        "Z" | "z" => UtcOffset::UTC,
        _ => {
            let (hours, minutes) = offset[1..].split_once(':')?;
            let (hours, minutes) = (number(hours)?.cast_signed(), number(minutes)?.cast_signed());
            let sign = if offset.starts_with('-') { -1 } else { 1 };
            UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()?
        }
    };
    let time = Time::from_hms_milli(hour, minute, second, thousandths).ok()?;
    let instant = OffsetDateTime::new_in_offset(date.ok()?, time, offset);
    u64::try_from(instant.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use ssegate::route::EventsSource;

    use super::super::target::StreamTarget;
    use super::{Since, milliseconds};

    fn target(source: Option<EventsSource>) -> StreamTarget {
        StreamTarget { name: "news".into(), url: "http://h/".parse().expect("a URL"), source }
    }

    #[test]
    fn an_argument_is_an_id_a_time_or_the_beginning() {
        // date -u -d 2026-05-01T12:00:00Z +%s
        const NOON: u64 = 1_777_636_800_000;
        for (text, expected) in [
            ("beginning", Since::Beginning),
            ("k3v9qa-41", Since::Id("k3v9qa-41".into())),
            ("1777636800000-7", Since::Id("1777636800000-7".into())),
            ("$", Since::Id("$".into())),
            ("ü", Since::Id("ü".into())),
            ("2026-05-01T12:00:00Z", Since::Time(NOON)),
            ("2026-05-01t12:00z", Since::Time(NOON)),
            ("2026-05-01 14:00:00+02:00", Since::Time(NOON)),
            ("2026-05-01T05:30:00-06:30", Since::Time(NOON)),
            ("2026-05-01T12:00:00.25Z", Since::Time(NOON + 250)),
            ("2026-05-01T12:00:00.123456Z", Since::Time(NOON + 123)),
        ] {
            assert_eq!(Since::parse(text), Ok(expected), "{text}");
        }
        for wrong in [
            "",
            "a\nb",
            "2026-05-01",
            "2026-05-01T12:00:00",
            "2026-13-01T12:00:00Z",
            "2026-02-30T12:00:00Z",
            "2026-05-01T25:00:00Z",
            "2026-05-01T12:00:00.xZ",
            "2026-05-01T12Z",
            "2026-05-01T12:00:00+0200",
            "2026-05-01T12:00:00Zulu",
            "1969-12-31T23:59:59Z",
        ] {
            assert!(Since::parse(wrong).is_err(), "{wrong}");
        }
        assert!(matches!(Since::parse("10m"), Ok(Since::Time(_))));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(milliseconds(now, Duration::from_secs(600)), 400_000);
        assert_eq!(milliseconds(now, Duration::from_secs(6000)), 0, "before 1970");
    }

    #[test]
    fn a_time_is_the_id_before_all_of_its_millisecond() {
        let logs = [target(Some(EventsSource::Log)), target(None)];
        for (since, expected) in [
            (Since::Time(1000), "999-18446744073709551615"),
            (Since::Time(0), "0-0"),
            (Since::Beginning, "0-0"),
            (Since::Id("x".into()), "x"),
        ] {
            assert_eq!(since.last_event_id(&logs).expect("an id"), expected);
        }
        let pubsub = [target(Some(EventsSource::PubSub))];
        assert_eq!(Since::Id("x".into()).last_event_id(&pubsub).expect("an id"), "x");
        for since in [Since::Time(1000), Since::Beginning] {
            let error = since.last_event_id(&pubsub).expect_err("nothing is kept").to_string();
            assert!(error.starts_with("news: its route has source: pubsub"), "{error}");
        }
    }
}
