//! Ids of entries in logs.

use std::fmt;

/// The id of an entry in a log: `<milliseconds>-<sequence>`, ascending within the log
/// (<https://redis.io/docs/latest/develop/data-types/streams/#entry-ids>).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Unix time in milliseconds by default; a publisher may choose any number.
    pub milliseconds: u64,
    /// Distinguishes the entries of one millisecond.
    pub sequence: u64,
}

impl EntryId {
    /// Lower than the id of any entry.
    pub const ZERO: Self = Self { milliseconds: 0, sequence: 0 };
    /// The highest possible id.
    pub const MAX: Self = Self { milliseconds: u64::MAX, sequence: u64::MAX };

    /// Parses an id in canonical form, `<milliseconds>-<sequence>`; returns `None` for anything
    /// else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|&byte| byte == b'-')?;
        let (milliseconds, sequence) = (&text[..dash], &text[dash + 1..]);
        Some(Self { milliseconds: decimal(milliseconds)?, sequence: decimal(sequence)? })
    }

    /// The next lower id; [`Self::ZERO`] if there is none.
    #[must_use]
    pub fn previous(self) -> Self {
        let Self { milliseconds, sequence } = self;
        match (sequence.checked_sub(1), milliseconds.checked_sub(1)) {
            (Some(sequence), _) => Self { milliseconds, sequence },
            (None, Some(milliseconds)) => Self { milliseconds, sequence: u64::MAX },
            (None, None) => Self::ZERO,
        }
    }
}

/// Parses a decimal number in canonical form: digits only, without leading zeros.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let has_digits = (1..=20).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    let is_canonical = has_digits && (text.len() == 1 || text[0] != b'0');
    if is_canonical { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.milliseconds, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::EntryId;

    #[test]
    fn only_a_canonical_entry_id_is_parsed() {
        for text in ["0-0", "1700000000000-7", "18446744073709551615-18446744073709551615"] {
            let id = EntryId::parse(text.as_bytes()).expect(text);
            assert_eq!(id.to_string(), text);
        }
        for text in [
            "",
            "1",
            "-",
            "1-",
            "-1",
            "1-2-3",
            "+1-2",
            "1-+2",
            " 1-2",
            "1-2 ",
            "$",
            "1-*",
            "18446744073709551616-0",
            "0-18446744073709551616",
            "000000000000000000001-0",
            "00-0",
            "1-07",
        ] {
            assert_eq!(EntryId::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(EntryId::parse(&[b'1'; 4096]), None);
        assert_eq!(EntryId::parse(b"\xff-1"), None);
    }

    #[test]
    fn previous_is_the_next_lower_entry_id() {
        let id = |milliseconds, sequence| EntryId { milliseconds, sequence };
        assert_eq!(id(5, 1).previous(), id(5, 0));
        assert_eq!(id(5, 0).previous(), id(4, u64::MAX));
        assert_eq!(id(0, 0).previous(), id(0, 0));
        assert!(id(4, u64::MAX) < id(5, 0));
    }
}
