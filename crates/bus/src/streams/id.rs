//! The id of a stream's entry, parsed as Redis parses it.
//!
//! Redis reads each of the two numbers strictly first and then with `strtoull`, which also accepts white
//! space before the digits, a sign and leading zeros. What a client sends to Redis works here too, so this
//! is the same.

use std::fmt;

/// The id of an entry (<https://redis.io/docs/latest/develop/data-types/streams/#entry-ids>).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId {
    /// Milliseconds since 1970, unless a client chose something else.
    pub(crate) ms: u64,
    /// Distinguishes the entries of one millisecond.
    pub(crate) seq: u64,
}

/// The id that a client asks for an entry to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WantedId {
    /// `*`: of the present time.
    Auto,
    /// `ms-*`: the next one in this millisecond.
    AutoSeq(u64),
    /// All of it.
    Explicit(StreamId),
}

impl StreamId {
    pub(crate) const MIN: Self = Self { ms: 0, seq: 0 };
    pub(crate) const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };

    /// Longer ones are not parsed by Redis, in bytes.
    const MAX_BYTES: usize = 127;

    /// Parses `ms-seq`, or `ms` with `missing_seq`.
    pub(crate) fn parse(text: &[u8], missing_seq: u64) -> Option<Self> {
        match parts(text)? {
            (ms, None) => Some(Self { ms: unsigned(ms)?, seq: missing_seq }),
            (ms, Some(seq)) => Some(Self { ms: unsigned(ms)?, seq: unsigned(seq)? }),
        }
    }

    /// Parses a bound of a range: an id, `-` or `+`.
    pub(crate) fn parse_bound(text: &[u8], missing_seq: u64) -> Option<Self> {
        match text {
            b"-" => Some(Self::MIN),
            b"+" => Some(Self::MAX),
            _ => Self::parse(text, missing_seq),
        }
    }

    /// The id after this one; `None` after the last.
    pub(crate) fn next(self) -> Option<Self> {
        match (self.seq.checked_add(1), self.ms.checked_add(1)) {
            (Some(seq), _) => Some(Self { seq, ..self }),
            (None, Some(ms)) => Some(Self { ms, seq: 0 }),
            (None, None) => None,
        }
    }

    /// The id before this one; `None` before the first.
    pub(crate) fn previous(self) -> Option<Self> {
        match (self.seq.checked_sub(1), self.ms.checked_sub(1)) {
            (Some(seq), _) => Some(Self { seq, ..self }),
            (None, Some(ms)) => Some(Self { ms, seq: u64::MAX }),
            (None, None) => None,
        }
    }
}

impl WantedId {
    /// Parses `*`, `ms-*` or an id.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        if text == b"*" {
            return Some(Self::Auto);
        }
        match parts(text)? {
            (ms, Some(b"*")) => unsigned(ms).map(Self::AutoSeq),
            _ => StreamId::parse(text, 0).map(Self::Explicit),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// What is before and after the first `-`. Ends with the first zero byte, as a string in C does.
fn parts(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    if text.len() > StreamId::MAX_BYTES || matches!(text, b"-" | b"+") {
        return None;
    }
    let text = text.split(|byte| *byte == 0).next()?;
    match text.iter().position(|byte| *byte == b'-') {
        Some(dash) => Some((&text[..dash], Some(&text[dash + 1..]))),
        None => Some((text, None)),
    }
}

/// Parses a number as `string2ull` of Redis does.
fn unsigned(text: &[u8]) -> Option<u64> {
    if let Some(number) = strict_integer(text) {
        return u64::try_from(number).ok();
    }
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().position(|byte| !is_space(byte))?;
    let (is_negative, digits) = match &text[start..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if is_negative { number.wrapping_neg() } else { number })
}

/// Parses a number as `string2ll` of Redis does: without a plus, leading zeros or white space.
pub(crate) fn strict_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_plain =
        matches!(digits, [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit));
    if !is_plain && text != b"0" {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{StreamId, WantedId, strict_integer};

    fn id(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// tests/bus_streams.rs compares many more with a real Redis.
    #[test]
    fn ids_are_parsed_as_in_redis() {
        for (text, expected) in [
            ("5", Some(id(5, 9))),
            ("5-3", Some(id(5, 3))),
            ("05-003", Some(id(5, 3))),
            (" 5-+3", Some(id(5, 3))),
            ("5--03", Some(id(5, 3_u64.wrapping_neg()))),
            ("5--3", None),
            ("18446744073709551615-18446744073709551615", Some(StreamId::MAX)),
            ("18446744073709551616-0", None),
            ("5-3\0x", Some(id(5, 3))),
            ("", None),
            ("-", None),
            ("+", None),
            ("5-", None),
            ("-5", None),
            ("5-*", None),
            ("5-3-1", None),
            ("x", None),
        ] {
            assert_eq!(StreamId::parse(text.as_bytes(), 9), expected, "{text:?}");
        }
        assert_eq!(StreamId::parse(&[b'0'; 128], 0), None);
        assert_eq!(StreamId::parse_bound(b"-", 9), Some(StreamId::MIN));
        assert_eq!(StreamId::parse_bound(b"+", 9), Some(StreamId::MAX));
    }

    #[test]
    fn a_wanted_id_may_have_stars() {
        for (text, expected) in [
            ("*", Some(WantedId::Auto)),
            ("5-*", Some(WantedId::AutoSeq(5))),
            ("5", Some(WantedId::Explicit(id(5, 0)))),
            ("5-*x", None),
            ("*-5", None),
            ("+", None),
        ] {
            assert_eq!(WantedId::parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn ids_have_neighbours_but_for_the_first_and_the_last() {
        assert_eq!(id(1, 1).next(), Some(id(1, 2)));
        assert_eq!(id(1, u64::MAX).next(), Some(id(2, 0)));
        assert_eq!(StreamId::MAX.next(), None);
        assert_eq!(id(1, 0).previous(), Some(id(0, u64::MAX)));
        assert_eq!(StreamId::MIN.previous(), None);
        assert_eq!(id(7, 8).to_string(), "7-8");
    }

    #[test]
    fn a_strict_integer_has_one_way_to_be_written() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-7", Some(-7)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(i64::MIN)),
            ("-0", None),
            ("+1", None),
            ("01", None),
            (" 1", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(strict_integer(text.as_bytes()), expected, "{text:?}");
        }
    }
}
