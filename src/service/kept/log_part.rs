//! A part of what a kept stream has sent, on its way from one gateway's log to those of others.
//!
//! All places in it are absolute, in bytes and events of the stream: a log that has some of it already takes the rest,
//! and a log that misses something before it can tell how much.

use bytes::Bytes;

use crate::hex::{hex, unhex};

/// The largest number of bytes or events: counting on from it does not overflow.
const MOST: u64 = u64::MAX / 2;

/// Up to where a log was read in parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::service) struct LogCursor {
    /// The next byte.
    pub(in crate::service) offset: u64,
    /// The number of events that end before it.
    pub(in crate::service) events: u64,
}

/// Some bytes of a stream, and the events that end in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::service) struct LogPart {
    /// The offset of its first byte.
    pub(in crate::service) offset: u64,
    /// The number of the last event that ends before it.
    pub(in crate::service) before: u64,
    /// The end of that event: one byte later than before, if the first byte of the part is the LF after its CR.
    pub(in crate::service) before_end: u64,
    /// Whether the part may begin in the middle of an event.
    pub(in crate::service) is_torn: bool,
    /// The offsets at which the next events end.
    pub(in crate::service) ends: Vec<u64>,
    /// Ids of the backend, each with the number of the event behind which its client is.
    pub(in crate::service) ids: Vec<(u64, Box<[u8]>)>,
    pub(in crate::service) bytes: Bytes,
}

impl LogPart {
    /// The cursor behind it.
    pub(in crate::service) fn after(&self) -> LogCursor {
        let offset = self.offset + self.bytes.len() as u64;
        LogCursor { offset, events: self.before + self.ends.len() as u64 }
    }

    /// Its place in the stream as text: everything except its bytes.
    pub(in crate::service) fn place(&self) -> String {
        let Self { offset, before, before_end, is_torn, .. } = self;
        let mut text = format!("{offset} {before} {before_end} {}|", u8::from(*is_torn));
        for end in &self.ends {
            // Relative to the start of the part, which is shorter.
            text.push_str(&format!("{} ", end.saturating_sub(*offset)));
        }
        text.push('|');
        for (number, id) in &self.ids {
            text.push_str(&format!("{number}={} ", hex(id)));
        }
        text
    }

    /// Parses a part with these bytes; `None` if the place is invalid.
    pub(in crate::service) fn parse(place: &[u8], bytes: Bytes) -> Option<Self> {
        let mut sections = str::from_utf8(place).ok()?.split('|');
        let mut words = sections.next()?.split(' ').map(str::parse::<u64>);
        let mut word = || words.next()?.ok();
        let (offset, before, before_end, is_torn) = (word()?, word()?, word()?, word()? != 0);
        let ends = sections.next()?.split_terminator(' ');
        let end = |end: &str| offset.checked_add(end.parse().ok()?);
        let ends: Vec<u64> = ends.map(end).collect::<Option<_>>()?;
        let ids = sections.next()?.split_terminator(' ').map(|id| {
            let (number, id) = id.split_once('=')?;
            Some((number.parse().ok()?, unhex(id.as_bytes())?.into()))
        });
        let ids = ids.collect::<Option<_>>()?;
        let last = offset.checked_add(bytes.len() as u64)?;
        let is_ascending = ends.is_sorted() && ends.last().is_none_or(|end| *end <= last);
        // The event before it ends where the part begins, or behind the LF that is its first byte.
        let is_before = before_end <= last.min(offset.saturating_add(1));
        let is_countable = last <= MOST && before <= MOST;
        let part = Self { offset, before, before_end, is_torn, ends, ids, bytes };
        (is_ascending && is_before && is_countable).then_some(part)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{LogCursor, LogPart};

    #[test]
    fn a_part_is_the_same_behind_its_way() {
        let part = LogPart {
            offset: 100,
            before: 3,
            before_end: 101,
            is_torn: true,
            ends: vec![105, 110],
            ids: vec![(3, b"a =|".as_slice().into()), (5, b"\xff".as_slice().into())],
            bytes: Bytes::from_static(b"\ndata\ndata\n\n"),
        };
        let place = part.place();
        assert_eq!(LogPart::parse(place.as_bytes(), part.bytes.clone()), Some(part.clone()));
        assert_eq!(part.after(), LogCursor { offset: 112, events: 5 });
        let empty = LogPart::default();
        assert_eq!(LogPart::parse(empty.place().as_bytes(), Bytes::new()), Some(empty));
        for wrong in
            ["", "1 2 2", "1 2 2 0|", "1 2 2 0|x ||", "1 2 2 0||a", "1 2 2 0|5 4 |", "1 2 2 0|99 |"]
        {
            let parsed = LogPart::parse(wrong.as_bytes(), Bytes::from_static(b"abcdef"));
            assert_eq!(parsed, None, "{wrong}");
        }
    }

    #[test]
    fn what_nobody_can_have_sent_is_no_part() {
        let parse = |place: &str, bytes: &'static str| {
            LogPart::parse(place.as_bytes(), Bytes::from_static(bytes.as_bytes()))
        };
        // The event before it ends at the part, or behind the LF that is its first byte.
        assert!(parse("5 2 5 0|1 |", "ab").is_some());
        assert!(parse("5 2 6 0|1 |", "\nb").is_some());
        assert_eq!(parse("5 2 7 0|1 |", "abc"), None, "it ends in the middle of the part");
        assert_eq!(parse("5 2 6 0||", ""), None, "it ends behind all bytes");
        let most = u64::MAX;
        assert_eq!(parse(&format!("5 {most} 5 0|1 |"), "ab"), None, "numbers that overflow");
        assert_eq!(parse(&format!("{most} 2 5 0||"), ""), None, "offsets that overflow");
    }
}
