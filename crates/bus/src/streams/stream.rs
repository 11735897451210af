//! One stream: its entries in the order of their ids, and what `XINFO` returns about it.
//!
//! Pure: time is passed in. Does not know other streams, nor who waits for entries.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::{Bytes, BytesMut};

use super::id::{StreamId, WantedId};
use super::trim::{StreamTrim, TrimStrategy};

/// A stream, as `XADD` creates it.
#[derive(Debug, Default)]
pub(crate) struct BusStream {
    entries: BTreeMap<StreamId, StreamFields>,
    last_id: StreamId,
    max_deleted_id: StreamId,
    entries_added: u64,
    /// Memory of all entries.
    bytes: usize,
}

/// The fields of one entry: names and values, alternating, in memory of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamFields(Box<[Bytes]>);

/// Why an entry cannot get an id, in the words of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdRefused {
    /// It is not above that of the last entry.
    NotAbove,
    /// The last entry has the highest number of the millisecond.
    NoneInMillisecond,
    /// The last entry has the highest id that there is.
    Exhausted,
}

impl StreamFields {
    /// What an entry costs beside its bytes: its place in the tree, and the counter of its buffer.
    const OVERHEAD: usize = 128;

    /// Copies the words, so that they do not keep the read buffer alive.
    pub(crate) fn copy<'a>(words: impl ExactSizeIterator<Item = &'a [u8]> + Clone) -> Self {
        let mut buffer = BytesMut::with_capacity(words.clone().map(<[u8]>::len).sum());
        for word in words.clone() {
            buffer.extend_from_slice(word);
        }
        let mut buffer = buffer.freeze();
        Self(words.map(|word| buffer.split_to(word.len())).collect())
    }

    /// Names and values, alternating.
    pub(crate) fn words(&self) -> &[Bytes] {
        &self.0
    }

    /// The memory that it takes, in bytes: more than its part of a reply takes.
    pub(crate) fn held_bytes(&self) -> usize {
        let words = self.0.iter().map(|word| word.len() + size_of::<Bytes>());
        Self::OVERHEAD + words.sum::<usize>()
    }
}

impl BusStream {
    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The highest id that was ever given.
    pub(crate) fn last_id(&self) -> StreamId {
        self.last_id
    }

    /// The highest id of an entry that `XDEL` removed.
    pub(crate) fn max_deleted_id(&self) -> StreamId {
        self.max_deleted_id
    }

    /// The number of entries that were ever added.
    pub(crate) fn entries_added(&self) -> u64 {
        self.entries_added
    }

    /// The id of the oldest entry; zero if there is none.
    pub(crate) fn first_id(&self) -> StreamId {
        self.entries.first_key_value().map(|(id, _)| *id).unwrap_or_default()
    }

    /// The id of the newest entry that is still there.
    pub(crate) fn newest_id(&self) -> Option<StreamId> {
        self.entries.last_key_value().map(|(id, _)| *id)
    }

    /// Memory of all entries, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// The id of an entry that is added now.
    ///
    /// # Errors
    /// There is no such id.
    pub(crate) fn next_id(&self, wanted: WantedId, now_ms: u64) -> Result<StreamId, IdRefused> {
        if self.last_id == StreamId::MAX {
            return Err(IdRefused::Exhausted);
        }
        let id = match wanted {
            WantedId::Explicit(id) => id,
            WantedId::AutoSeq(ms) if ms == self.last_id.ms => {
                let seq = self.last_id.seq.checked_add(1).ok_or(IdRefused::NoneInMillisecond)?;
                StreamId { ms, seq }
            }
            WantedId::AutoSeq(ms) => StreamId { ms, seq: 0 },
            WantedId::Auto if now_ms > self.last_id.ms => StreamId { ms: now_ms, seq: 0 },
            WantedId::Auto => self.last_id.next().ok_or(IdRefused::Exhausted)?,
        };
        if id <= self.last_id { Err(IdRefused::NotAbove) } else { Ok(id) }
    }

    /// Adds an entry with an id from [`Self::next_id`].
    pub(crate) fn add(&mut self, id: StreamId, fields: StreamFields) {
        debug_assert!(id > self.last_id, "ids ascend");
        self.bytes += fields.held_bytes();
        self.entries.insert(id, fields);
        self.last_id = id;
        self.entries_added += 1;
    }

    /// Removes an entry. Returns whether there was one.
    pub(crate) fn delete(&mut self, id: StreamId) -> bool {
        let Some(fields) = self.entries.remove(&id) else { return false };
        self.bytes -= fields.held_bytes();
        self.max_deleted_id = self.max_deleted_id.max(id);
        true
    }

    /// Removes the oldest entries. Returns their number.
    pub(crate) fn trim(&mut self, trim: &StreamTrim) -> usize {
        let (mut trimmed, most) = (0, self.trimmed_by(trim, self.entries.len()));
        while trimmed < most {
            let Some((_, fields)) = self.entries.pop_first() else { break };
            self.bytes -= fields.held_bytes();
            trimmed += 1;
        }
        trimmed
    }

    /// The memory that trimming would free after one more entry was added, in bytes.
    pub(crate) fn freed_by(&self, trim: &StreamTrim) -> usize {
        let trimmed = self.trimmed_by(trim, self.entries.len() + 1);
        self.entries.values().take(trimmed).map(StreamFields::held_bytes).sum()
    }

    /// How many of the oldest entries are removed where there are `len`.
    fn trimmed_by(&self, trim: &StreamTrim, len: usize) -> usize {
        let all = match trim.strategy {
            TrimStrategy::MaxLen(most) => len.saturating_sub(most),
            TrimStrategy::MinId(first) => self.entries.range(..first).count(),
        };
        trim.limit.map_or(all, |limit| all.min(limit))
    }

    /// The entries from `start` to `end`, both inclusive.
    pub(crate) fn range(
        &self,
        start: StreamId,
        end: StreamId,
    ) -> impl DoubleEndedIterator<Item = (StreamId, &StreamFields)> {
        // A range of the tree must not be reversed.
        let end = if start <= end { Bound::Included(end) } else { Bound::Excluded(start) };
        let range = self.entries.range((Bound::Included(start), end));
        range.map(|(id, fields)| (*id, fields))
    }
}

#[cfg(test)]
mod tests {
    use super::{BusStream, IdRefused, StreamFields};
    use crate::streams::id::{StreamId, WantedId};
    use crate::streams::trim::{StreamTrim, TrimStrategy};

    fn fields() -> StreamFields {
        StreamFields::copy([&b"name"[..], b"value"].into_iter())
    }

    fn stream(ids: &[(u64, u64)]) -> BusStream {
        let mut stream = BusStream::default();
        for (ms, seq) in ids {
            stream.add(StreamId { ms: *ms, seq: *seq }, fields());
        }
        stream
    }

    fn ids(stream: &BusStream) -> Vec<String> {
        stream.range(StreamId::MIN, StreamId::MAX).map(|(id, _)| id.to_string()).collect()
    }

    #[test]
    fn an_id_is_the_time_or_follows_the_last() {
        let next = |last, wanted, now| {
            let stream = stream(&[last]);
            stream.next_id(wanted, now).map(|id| id.to_string())
        };
        assert_eq!(next((5, 3), WantedId::Auto, 9), Ok("9-0".into()));
        assert_eq!(next((5, 3), WantedId::Auto, 5), Ok("5-4".into()));
        assert_eq!(next((5, 3), WantedId::Auto, 4), Ok("5-4".into()));
        assert_eq!(next((5, 3), WantedId::AutoSeq(5), 9), Ok("5-4".into()));
        assert_eq!(next((5, 3), WantedId::AutoSeq(6), 9), Ok("6-0".into()));
        assert_eq!(next((5, 3), WantedId::AutoSeq(4), 9), Err(IdRefused::NotAbove));
        assert_eq!(next((5, u64::MAX), WantedId::AutoSeq(5), 9), Err(IdRefused::NoneInMillisecond));
        assert_eq!(next((5, u64::MAX), WantedId::Auto, 5), Ok("6-0".into()));
        assert_eq!(next((u64::MAX, u64::MAX), WantedId::Auto, 5), Err(IdRefused::Exhausted));
        let same = WantedId::Explicit(StreamId { ms: 5, seq: 3 });
        assert_eq!(next((5, 3), same, 9), Err(IdRefused::NotAbove));
    }

    #[test]
    fn trimming_frees_what_was_said_beforehand() {
        let five = [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)];
        let one = fields().held_bytes();
        for (strategy, limit, left, freed) in [
            (TrimStrategy::MaxLen(3), None, "3-0", 3),
            (TrimStrategy::MaxLen(3), Some(1), "2-0", 1),
            (TrimStrategy::MaxLen(9), None, "1-0", 0),
            (TrimStrategy::MaxLen(0), None, "", 5),
            (TrimStrategy::MinId(StreamId { ms: 3, seq: 1 }), None, "4-0", 3),
        ] {
            let (mut stream, trim) = (stream(&five), StreamTrim { strategy, limit });
            assert_eq!(stream.freed_by(&trim), freed * one, "{trim:?}");
            stream.trim(&trim);
            assert_eq!(ids(&stream).first().map_or("", |first| first), left, "{trim:?}");
            assert_eq!(stream.held_bytes(), stream.len() * one);
            assert_eq!((stream.entries_added(), stream.last_id().ms), (5, 5));
        }
    }

    #[test]
    fn a_deleted_entry_is_remembered_by_its_id() {
        let mut stream = stream(&[(1, 0), (2, 0), (3, 0)]);
        let id = |ms| StreamId { ms, seq: 0 };
        assert!(stream.delete(id(3)) && stream.delete(id(1)) && !stream.delete(id(1)));
        assert_eq!((stream.max_deleted_id(), stream.first_id()), (id(3), id(2)));
        assert_eq!((stream.newest_id(), stream.last_id()), (Some(id(2)), id(3)));
        assert!(stream.range(id(3), id(1)).next().is_none(), "a reversed range is empty");
    }
}
