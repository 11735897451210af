//! Durations, sizes and counts as they are written in a configuration: `15s`, `5m`, `64KiB`, `100`.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor};

use crate::markers::COUNT;
use crate::wording::quoted;

/// Returns a message if `value` is out of `range`.
pub(crate) fn check_range<T>(value: &T, range: &RangeInclusive<T>) -> Result<(), String>
where
    T: PartialOrd + fmt::Display,
{
    let (least, most) = (range.start(), range.end());
    if value < least {
        return Err(format!("must be at least {least}; this is {value}"));
    }
    if value > most {
        return Err(format!("must be at most {most}; this is {value}"));
    }
    Ok(())
}

/// A number of at least 1.
#[derive(Clone, Copy, Debug)]
pub struct Count(
    /// The number.
    pub usize,
);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(COUNT, CountVisitor)
    }
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, number: D) -> Result<Count, D::Error> {
        let number = usize::deserialize(number)?;
        check_range(&number, &(1..=usize::MAX)).map(|()| Count(number)).map_err(D::Error::custom)
    }
}

impl JsonSchema for Count {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "format": "uint", "minimum": 1 })
    }
}

/// A duration of at least 1 ms: `250ms`, `15s`, `1m30s`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Deserialize)]
#[serde(try_from = "String")]
pub struct Time(
    /// The duration.
    pub Duration,
);

impl Time {
    const ZERO: Self = Self(Duration::ZERO);
    const MIN: Self = Self(Duration::from_millis(1));
    /// A year. Much longer durations would overflow `Instant`.
    const MAX: Self = Self(Duration::from_secs(365 * 86_400));

    /// Units in milliseconds, longest first.
    const UNITS: [(&str, u64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

    fn parse(text: &str) -> Option<Self> {
        let mut total: u64 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let (number, after) = rest.split_at(digits(rest));
            let (unit, after) =
                after.split_at(after.len() - after.trim_start_matches(is_letter).len());
            let (_, millis) = Self::UNITS.iter().find(|(name, _)| *name == unit)?;
            total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*millis)?)?;
            rest = after;
        }
        (!text.is_empty()).then(|| Self(Duration::from_millis(total)))
    }

    fn parse_within(text: &str, range: &RangeInclusive<Self>) -> Result<Self, String> {
        let time = Self::parse(text).ok_or_else(|| match Self::meant(text) {
            Some(meant) => format!("{} is not a duration; did you mean {meant}?", quoted(text)),
            None => format!("{} is not a duration; use forms like 30s or 5m", quoted(text)),
        })?;
        check_range(&time, range).map(|()| time)
    }

    /// The duration that was probably meant: `10s` for `10`, `10 s` and `10 seconds`.
    fn meant(text: &str) -> Option<String> {
        let (number, unit) = text.split_at(digits(text));
        let unit = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "s" | "sec" | "secs" | "second" | "seconds" => "s",
            "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => "ms",
            "m" | "min" | "mins" | "minute" | "minutes" => "m",
            "h" | "hr" | "hrs" | "hour" | "hours" => "h",
            "d" | "day" | "days" => "d",
            _ => return None,
        };
        Some(format!("{number}{unit}")).filter(|meant| Self::parse(meant).is_some())
    }
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse_within(&text, &(Self::MIN..=Self::MAX))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let (unit, scale) = Self::UNITS
            .iter()
            .find(|(_, scale)| millis.is_multiple_of(u128::from(*scale)))
            .filter(|_| millis > 0)
            .unwrap_or(&("s", 1000));
        write!(f, "{}{unit}", millis / u128::from(*scale))
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^([0-9]+(ms|s|m|h|d))+$|\$\{",
            "examples": ["250ms", "15s", "5m", "1h"],
        })
    }
}

/// A duration that may be zero.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct TimeOrZero(
    /// The duration.
    pub Duration,
);

impl TryFrom<String> for TimeOrZero {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Time::parse_within(&text, &(Time::ZERO..=Time::MAX)).map(|time| Self(time.0))
    }
}

impl JsonSchema for TimeOrZero {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Time::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Time::json_schema(generator)
    }
}

/// A number of bytes: `64KiB`, `4MiB`, `1GiB`, or without a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(
    /// The number of bytes.
    pub usize,
);

impl Size {
    /// No bytes.
    pub const ZERO: Self = Self(0);
    /// One byte.
    pub const BYTE: Self = Self(1);
    /// The maximum of a signed 32-bit length, as socket options and HTTP/2 windows have it.
    pub const MAX_LENGTH: Self = Self(i32::MAX as usize);
    /// The largest size.
    pub const MAX: Self = Self(usize::MAX);

    /// This many KiB.
    pub const fn kib(number: usize) -> Self {
        Self(number << 10)
    }

    const UNITS: [(&str, usize); 5] =
        [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1), ("", 1)];

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = text.split_at(digits(text));
        let (_, scale) = Self::UNITS.iter().find(|(name, _)| *name == unit)?;
        number.parse::<usize>().ok()?.checked_mul(*scale).map(Self)
    }

    /// The size that was probably meant: `64KiB` for `64KB`, `64k` and `64 KiB`.
    fn meant(text: &str) -> Option<String> {
        let (number, unit) = text.split_at(digits(text));
        let unit = match unit.trim().to_ascii_lowercase().as_str() {
            "k" | "kb" | "kib" => "KiB",
            "m" | "mb" | "mib" => "MiB",
            "g" | "gb" | "gib" => "GiB",
            _ => return None,
        };
        Some(format!("{number}{unit}")).filter(|meant| Self::parse(meant).is_some())
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| match Self::meant(&text) {
            Some(meant) => format!("{} is not a size; did you mean {meant}?", quoted(&text)),
            None => format!("{} is not a size; use forms like 64KiB or 4MiB", quoted(&text)),
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, scale) = Self::UNITS
            .iter()
            .find(|(_, scale)| self.0 > 0 && self.0.is_multiple_of(*scale))
            .unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / scale)
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "pattern": r"^[0-9]+(B|KiB|MiB|GiB)?$|\$\{",
            "minimum": 0,
            "examples": ["64KiB", "4MiB", "1GiB", 1500],
        })
    }
}

fn digits(text: &str) -> usize {
    text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len()
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Size, Time};

    #[test]
    fn durations_are_parsed_and_printed() {
        for (text, millis, shown) in [
            ("15s", 15_000, "15s"),
            ("5m", 300_000, "5m"),
            ("1h", 3_600_000, "1h"),
            ("250ms", 250, "250ms"),
            ("1m30s", 90_000, "90s"),
            ("0s", 0, "0s"),
            ("365d", 31_536_000_000, "365d"),
        ] {
            let time = Time::parse(text).expect(text);
            assert_eq!(time.0, Duration::from_millis(millis), "{text}");
            assert_eq!(time.to_string(), shown, "{text}");
        }
    }

    #[test]
    fn an_invalid_duration_is_rejected() {
        for (text, hint) in [
            ("", "use forms like 30s or 5m"),
            ("s", "use forms like 30s or 5m"),
            ("1.5s", "use forms like 30s or 5m"),
            ("-1s", "use forms like 30s or 5m"),
            ("5parsecs", "use forms like 30s or 5m"),
            ("99999999999999999h", "use forms like 30s or 5m"),
            ("99999999999999999999", "use forms like 30s or 5m"),
            ("10", "did you mean 10s?"),
            ("5 s", "did you mean 5s?"),
            ("5 Minutes", "did you mean 5m?"),
            ("2hours", "did you mean 2h?"),
            ("250 msec", "did you mean 250ms?"),
        ] {
            assert_eq!(
                Time::try_from(text.to_owned()),
                Err(format!("{text:?} is not a duration; {hint}")),
            );
        }
    }

    #[test]
    fn sizes_are_parsed_and_printed() {
        for (text, bytes, shown) in [
            ("64KiB", 65_536, "64KiB"),
            ("4MiB", 4 << 20, "4MiB"),
            ("1GiB", 1 << 30, "1GiB"),
            ("1500", 1500, "1500B"),
            ("10B", 10, "10B"),
            ("0", 0, "0B"),
        ] {
            let size = Size::parse(text).expect(text);
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(size.to_string(), shown, "{text}");
        }
    }

    #[test]
    fn an_invalid_size_is_rejected_with_a_suggestion() {
        for (text, hint) in [
            ("64KB", "did you mean 64KiB?"),
            ("4 MiB", "did you mean 4MiB?"),
            ("1g", "did you mean 1GiB?"),
            ("", "use forms like 64KiB or 4MiB"),
            ("MiB", "use forms like 64KiB or 4MiB"),
            ("many", "use forms like 64KiB or 4MiB"),
            ("99999999999GiB", "use forms like 64KiB or 4MiB"),
        ] {
            assert_eq!(
                Size::try_from(text.to_owned()),
                Err(format!("{text:?} is not a size; {hint}")),
            );
        }
    }
}
