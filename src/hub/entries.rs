//! Where a client stands in logs: after one entry of each.
//!
//! An id on the wire is the id of the entry, `1-0`; on a stream of several logs it is one for each,
//! in the order of the channels: `1-0~2-5`. A place is empty where the client was not told yet from
//! where on it is served: `1-0~`. Every gateway reads such an id in the same way, and so does the
//! same gateway after a restart.

use std::fmt;

use crate::event::EntryId;

const SEPARATOR: u8 = b'~';

/// The id of a client that stands after these entries, one for each log of its stream; `None`: where
/// it is not known. None at all where nothing is known.
pub fn id_after<'a>(entries: impl Iterator<Item = Option<&'a str>>) -> Option<String> {
    let places: Vec<_> = entries.map(Option::unwrap_or_default).collect();
    let id = places.join(&char::from(SEPARATOR).to_string());
    places.iter().any(|place| !place.is_empty()).then_some(id)
}

/// One place for each log of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places(Box<[Option<EntryId>]>);

impl Places {
    /// Nothing is known yet of any of `logs`.
    pub(super) fn nowhere(logs: usize) -> Self {
        Self(vec![None; logs].into())
    }

    /// Reads the id that a client sent; `None` for everything that was never written for so many
    /// logs.
    pub(super) fn parse(text: &[u8], logs: usize) -> Option<Self> {
        let place = |text: &[u8]| match text {
            [] => Some(None),
            text => EntryId::parse(text).map(Some),
        };
        let mut places = text.split(|&byte| byte == SEPARATOR);
        // No more is looked at than may be there.
        let read: Option<Box<[_]>> = places.by_ref().take(logs).map(place).collect();
        let read = read.filter(|read| read.len() == logs && places.next().is_none())?;
        read.iter().any(Option::is_some).then_some(Self(read))
    }

    /// How many logs.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, log: usize) -> Option<EntryId> {
        self.0[log]
    }

    pub(super) fn set(&mut self, log: usize, id: EntryId) {
        self.0[log] = Some(id);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Option<EntryId>> {
        self.0.iter().copied()
    }

    /// Whether there is anything to write.
    pub(super) fn is_nowhere(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (log, place) in self.0.iter().enumerate() {
            if log > 0 {
                fmt::Write::write_char(f, char::from(SEPARATOR))?;
            }
            if let Some(id) = place {
                id.fmt(f)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Places;

    #[test]
    fn places_read_back_as_they_were_written() {
        for (text, logs) in [("1-0", 1), ("1-0~2-5", 2), ("1-0~", 2), ("~0-0~", 3), ("0-0", 1)] {
            let places = Places::parse(text.as_bytes(), logs).expect(text);
            assert_eq!(places.to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_unknown() {
        for (text, logs) in [
            ("", 1),
            ("~", 2),
            ("1-0", 2),
            ("1-0~2-5", 1),
            ("1-0~2-5~3-1", 2),
            ("1-0~x", 2),
            ("abcdef-1", 1),
            ("1-0 ", 1),
        ] {
            assert_eq!(Places::parse(text.as_bytes(), logs), None, "{text}");
        }
        assert_eq!(Places::parse(&[b'~'; 4096], 100), None);
        assert_eq!(Places::parse(&[b'1'; 4096], 1), None);
        assert_eq!(Places::parse(b"\xff\xfe-1", 1), None);
    }
}
