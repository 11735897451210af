//! What Redis reports about a stream, and what it means for a reader that has an entry of it.

use ssegate_hub::EntryId;
use ssegate_hub::GapReason;
use ssegate_resp::Value;

use super::entry;

/// The fields used from the reply to `XINFO STREAM`
/// (<https://redis.io/docs/latest/commands/xinfo-stream/>).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StreamInfo {
    /// `last-generated-id`: the newest id, even if its entry was deleted; zero if there is no
    /// stream.
    pub(super) last: EntryId,
    /// The id of `first-entry`, the oldest entry.
    pub(super) first: Option<EntryId>,
    /// `length`: the number of entries.
    pub(super) length: u64,
    /// `entries-added`: the number of entries ever added. Since Redis 7.
    pub(super) added: Option<u64>,
    /// `max-deleted-entry-id`: the highest id that `XDEL` has deleted. Since Redis 7.
    pub(super) max_deleted: Option<EntryId>,
    /// A fingerprint of the newest entry, if it still exists.
    pub(super) last_fingerprint: Option<u32>,
}

impl StreamInfo {
    /// The state of a stream that does not exist.
    pub(super) const ABSENT: Self = Self {
        last: EntryId::ZERO,
        first: None,
        length: 0,
        added: Some(0),
        max_deleted: Some(EntryId::ZERO),
        last_fingerprint: None,
    };

    /// Parses the reply; `None` if it is malformed.
    pub(super) fn parse(value: &Value) -> Option<Self> {
        let pairs = pairs(value)?;
        let (mut info, mut newest) = (Self::default(), None);
        for (key, value) in pairs {
            match (&key.as_bytes()?[..], value) {
                (b"last-generated-id", Value::Bulk(id)) => info.last = EntryId::parse(id)?,
                (b"max-deleted-entry-id", Value::Bulk(id)) => {
                    info.max_deleted = Some(EntryId::parse(id)?);
                }
                (b"length", Value::Integer(length)) => info.length = u64::try_from(*length).ok()?,
                (b"entries-added", Value::Integer(added)) => {
                    info.added = Some(u64::try_from(*added).ok()?);
                }
                (b"last-entry", Value::Array(entry)) => newest = Some(entry),
                (b"first-entry", Value::Array(entry)) => {
                    info.first = Some(EntryId::parse(entry.first()?.as_bytes()?)?);
                }
                _ => {}
            }
        }
        // If the newest entry was deleted, `last-entry` is an older one.
        if let Some([Value::Bulk(id), Value::Array(fields)]) = newest.map(Vec::as_slice)
            && EntryId::parse(id) == Some(info.last)
        {
            info.last_fingerprint = entry::fingerprint(fields.iter());
        }
        Some(info)
    }

    /// Whether the stream was created again since `known` was an entry of it.
    pub(super) fn is_recreated_since(&self, known: EntryId) -> bool {
        self.last < known
    }

    /// Whether an entry with this id, which does not exist, may have been deleted.
    pub(super) fn may_have_deleted(&self, id: EntryId) -> bool {
        self.max_deleted.is_some_and(|deleted| deleted >= id)
    }

    /// Whether no entry of this stream ever had the id `known`, which does not exist: entries before it do, so
    /// it was not trimmed, and it was not deleted. False if Redis does not report that, and for the last id of a
    /// millisecond, which no entry has: a client that wants all entries since a time begins after it.
    pub(super) fn never_had(&self, known: EntryId) -> bool {
        if known.sequence == u64::MAX {
            return false;
        }
        let is_deleted = self.max_deleted.is_none_or(|deleted| deleted >= known);
        self.first.is_some_and(|first| first <= known) && known < self.last && !is_deleted
    }

    /// What may be missing for a reader that has the stream up to `known`, which is not an entry now, and the id
    /// after which the reader continues.
    pub(super) fn missing_after(&self, known: EntryId) -> Option<(GapReason, EntryId)> {
        if self.is_recreated_since(known) {
            return Some((GapReason::Reset, EntryId::ZERO));
        }
        if self.last == known {
            return None;
        }
        match self.first {
            // Streams are trimmed at their start, and entries up to `known` still exist.
            Some(first) if first <= known || first.previous() == known => None,
            // Nothing was ever deleted, so `known` belongs to an earlier stream.
            Some(_) if self.added == Some(self.length) => {
                (known > EntryId::ZERO).then_some((GapReason::Reset, EntryId::ZERO))
            }
            Some(first) => Some((GapReason::Trimmed, first.previous())),
            None => Some((GapReason::Trimmed, self.last)),
        }
    }
}

/// The pairs of a map; in RESP2 it is an array of alternating keys and values.
fn pairs(value: &Value) -> Option<Vec<(&Value, &Value)>> {
    match value {
        Value::Map(pairs) => Some(pairs.iter().map(|(key, value)| (key, value)).collect()),
        Value::Array(parts) if parts.len() % 2 == 0 => {
            Some(parts.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ssegate_hub::EntryId;
    use ssegate_hub::GapReason::{Reset, Trimmed};

    use super::StreamInfo;

    fn id(milliseconds: u64) -> EntryId {
        EntryId { milliseconds, sequence: 1 }
    }

    #[test]
    fn missing_entries_are_derived_from_xinfo() {
        let info = |first: Option<u64>, last, length, added| StreamInfo {
            last: id(last),
            first: first.map(id),
            length,
            added,
            ..StreamInfo::default()
        };
        let trimmed = info(Some(5), 9, 3, Some(8));
        for (info, known, expected) in [
            (StreamInfo::ABSENT, EntryId::ZERO, None),
            (StreamInfo::ABSENT, id(3), Some((Reset, EntryId::ZERO))),
            (trimmed, id(12), Some((Reset, EntryId::ZERO))),
            (trimmed, id(9), None),
            (trimmed, id(6), None),
            (trimmed, id(5).previous(), None),
            (trimmed, id(3), Some((Trimmed, id(5).previous()))),
            (trimmed, EntryId::ZERO, Some((Trimmed, id(5).previous()))),
            (info(Some(5), 9, 3, Some(3)), EntryId::ZERO, None),
            (info(Some(5), 9, 3, Some(3)), id(7), None),
            (info(Some(5), 9, 3, Some(3)), id(4), Some((Reset, EntryId::ZERO))),
            (info(Some(5), 9, 3, None), EntryId::ZERO, Some((Trimmed, id(5).previous()))),
            (info(None, 9, 0, Some(4)), id(3), Some((Trimmed, id(9)))),
            (info(None, 9, 0, Some(4)), id(9), None),
        ] {
            assert_eq!(info.missing_after(known), expected, "{info:?} after {known}");
        }
    }
    #[test]
    fn an_id_of_another_stream_is_told_from_one_that_was_deleted() {
        let info = |deleted: Option<u64>| StreamInfo {
            first: Some(id(5)),
            last: id(9),
            length: 3,
            added: Some(8),
            max_deleted: deleted.map(id),
            last_fingerprint: None,
        };
        for (deleted, known, never_had) in [
            (Some(0), 7, true),
            (Some(6), 7, true),
            (Some(7), 7, false),
            (Some(8), 7, false),
            // Redis 6.2 does not say; trimmed; newer than all.
            (None, 7, false),
            (Some(0), 4, false),
            (Some(0), 10, false),
        ] {
            assert_eq!(info(deleted).never_had(id(known)), never_had, "{deleted:?} {known}");
        }
    }
}
