//! The id of an event of pub/sub: `<run>-<number>`, or `<run>-<number>-<place>`.
//!
//! The run is drawn at each start. The number grows over all channels, in the order in which the source
//! delivered them, so one id is a position in any set of channels, for the gateway that knows the run. The
//! place is the same position as other gateways know it ([`fleet::name`](crate::fleet)). An id is at most 51
//! bytes long.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::entry_id::decimal;
use crate::fleet::name::FleetPosition;

/// The tag of one run of the hub: six digits of base 36.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RunTag([u8; RUN_BYTES]);

const RUN_BYTES: usize = 6;
/// The decimal digits of the greatest number.
const MAX_DIGITS: usize = 20;

impl RunTag {
    const DIGITS: &'static [u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

    /// Draws a tag, one of about 2.2 billion (36^6), so that the ids of two runs differ.
    pub fn draw() -> Self {
        Self(std::array::from_fn(|_| Self::DIGITS[fastrand::usize(..Self::DIGITS.len())]))
    }

    /// The id of the event `number` of this run, which other gateways do not know.
    pub fn at(self, number: u64) -> EventId {
        EventId { run: self, number, place: None }
    }
}

impl From<RunTag> for String {
    fn from(tag: RunTag) -> Self {
        tag.to_string()
    }
}

impl TryFrom<String> for RunTag {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits: Result<[u8; RUN_BYTES], _> = text.as_bytes().try_into();
        let is_tag = |digits: &[u8; RUN_BYTES]| digits.iter().all(|d| Self::DIGITS.contains(d));
        digits.ok().filter(is_tag).map(Self).ok_or("not six digits of base 36")
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
    /// The same position for other gateways, where it is known.
    pub(crate) place: Option<FleetPosition>,
}

impl EventId {
    /// Reads an id that a client sent. `None` for a text that no hub writes.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (run, rest) = text.split_first_chunk::<RUN_BYTES>()?;
        let rest = rest.strip_prefix(b"-")?;
        let is_tag = run.iter().all(|digit| RunTag::DIGITS.contains(digit));
        // The place may have hyphens, too.
        let (digits, place) = match rest.iter().position(|byte| *byte == b'-') {
            Some(end) => (&rest[..end], Some(FleetPosition::parse(&rest[end + 1..])?)),
            None => (rest, None),
        };
        let number = decimal(digits).filter(|_| is_tag)?;
        Some(Self { run: RunTag(*run), number, place })
    }
}

impl EventId {
    /// The longest text, in bytes.
    const MAX_BYTES: usize = RUN_BYTES + 1 + MAX_DIGITS + 1 + FleetPosition::CHARACTERS;

    /// Its text. Each event of a channel with numbers needs it, so it is written by hand, with one allocation.
    pub(crate) fn text(&self) -> String {
        let mut bytes = Vec::with_capacity(Self::MAX_BYTES);
        bytes.extend_from_slice(&self.run.0);
        bytes.push(b'-');
        let mut digits = [0; MAX_DIGITS];
        let (mut left, mut rest) = (MAX_DIGITS, self.number);
        loop {
            left -= 1;
            digits[left] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        bytes.extend_from_slice(&digits[left..]);
        if let Some(place) = self.place {
            bytes.push(b'-');
            bytes.extend_from_slice(&place.text());
        }
        String::from_utf8(bytes).expect("each part is ASCII")
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::{EventId, RunTag};
    use crate::fleet::name::{FleetPosition, SubscriptionTag};
    use crate::{ChannelName, Subscription};

    #[test]
    fn an_id_reads_back_as_it_was_written() {
        assert_eq!(EventId::MAX_BYTES, 51);
        for number in [0, 1, 9, 10, 42, u64::MAX] {
            let id = RunTag::draw().at(number);
            assert_eq!(EventId::parse(id.to_string().as_bytes()), Some(id));
            let name = ChannelName::new("a").expect("a name");
            let tag = SubscriptionTag::of(&Subscription { name, is_pattern: false });
            for mark in [0, u64::MAX, 0xfbef_be00_0000_0000] {
                let id = EventId { place: Some(FleetPosition::of_mark(mark, tag)), ..id };
                let text = id.to_string();
                assert!(text.len() <= EventId::MAX_BYTES, "{text}");
                assert_eq!(EventId::parse(text.as_bytes()), Some(id));
            }
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
            b"abcdef-1-",
            b"abcdef-1-short",
            b"abcdef-1-AAAAAAAAAAAAAAAAAAAAAA=",
            b"abcdef-1-AAAAAAAAAAAAAAAAAAAAAAAA",
            b"abcdef-1-AAAAAAAAAAAAAAAAAAAAAAB",
            b"abcdef--AAAAAAAAAAAAAAAAAAAAAAA",
            &long,
        ] {
            assert_eq!(EventId::parse(text), None, "{}", String::from_utf8_lossy(text));
        }
    }
}
