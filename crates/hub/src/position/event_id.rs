//! The id of an event of pub/sub: `<run>-<number>`.
//!
//! The run is drawn at each start, so that an id of another run, or of another gateway, is known to be
//! unknown. The number grows over all channels, in the order in which the source delivered them, so one
//! id is a position in any set of channels.

use std::fmt;

use crate::entry_id::decimal;

/// The tag of one run of the hub: six digits of base 36.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunTag([u8; RUN_BYTES]);

const RUN_BYTES: usize = 6;

impl RunTag {
    const DIGITS: &'static [u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

    /// Draws a tag, one of about 2.2 billion (36^6): the id of another run is not taken for ours.
    pub fn draw() -> Self {
        Self(std::array::from_fn(|_| Self::DIGITS[fastrand::usize(..Self::DIGITS.len())]))
    }

    /// The id of the event `number` of this run.
    pub fn at(self, number: u64) -> EventId {
        EventId { run: self, number }
    }
}

impl fmt::Display for RunTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&digit| fmt::Write::write_char(f, char::from(digit)))
    }
}

impl fmt::Debug for RunTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The id of an event. A client that has it has seen everything up to that event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// The run that gave the number.
    pub run: RunTag,
    /// The number of the event; 0 before the first.
    pub number: u64,
}

impl EventId {
    /// Reads an id that a client sent. `None` for every text that no hub has written.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (run, rest) = text.split_first_chunk::<RUN_BYTES>()?;
        let digits = rest.strip_prefix(b"-")?;
        let is_tag = run.iter().all(|digit| RunTag::DIGITS.contains(digit));
        let number = decimal(digits).filter(|_| is_tag)?;
        Some(Self { run: RunTag(*run), number })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.run, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::{EventId, RunTag};

    #[test]
    fn an_id_reads_back_as_it_was_written() {
        for number in [0, 1, 42, u64::MAX] {
            let id = RunTag::draw().at(number);
            assert_eq!(EventId::parse(id.to_string().as_bytes()), Some(id));
        }
    }

    #[test]
    fn every_other_text_is_unknown() {
        let long = [b'1'; 4096];
        for text in [
            &b""[..],
            b"abc",
            b"abcdef",
            b"abcdef-",
            b"abcdef-x",
            b"ABCDEF-1",
            b"abcdef-+1",
            b"abcdef--1",
            b"abcdef-1 ",
            b"abcdef-01",
            b"abcdef-00",
            b"abcdef-18446744073709551616",
            b"abcdef-99999999999999999999999999",
            b"\xff\xff\xff\xff\xff\xff-1",
            b"1-0",
            &long,
        ] {
            assert_eq!(EventId::parse(text), None, "{}", String::from_utf8_lossy(text));
        }
    }
}
