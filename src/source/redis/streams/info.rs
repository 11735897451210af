//! What Redis says of a stream as a whole, and what follows from it for who knows an entry of it.

use super::entry;
use crate::event::EntryId;
use crate::hub::GapReason;
use crate::source::resp::Value;

/// The answer to `XINFO STREAM` (<https://redis.io/docs/latest/commands/xinfo-stream/>), as far as it
/// is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Info {
    /// The newest id, also where its entry is deleted; zero where there is no stream.
    pub(super) last: EntryId,
    /// The oldest entry.
    pub(super) first: Option<EntryId>,
    /// Entries that are there.
    pub(super) length: u64,
    /// Entries that were ever added: since Redis 7.
    pub(super) added: Option<u64>,
    /// A hash of the newest entry, where that is still there.
    pub(super) last_check: Option<u32>,
}

impl Info {
    /// Where there is no stream yet.
    pub(super) const NONE: Self =
        Self { last: EntryId::ZERO, first: None, length: 0, added: Some(0), last_check: None };

    /// Reads the answer; `None` where it is something else.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let pairs = pairs(value)?;
        let (mut info, mut newest) = (Self::default(), None);
        for (key, value) in pairs {
            match (&key.as_bytes()?[..], value) {
                (b"last-generated-id", Value::Bulk(id)) => info.last = EntryId::parse(id)?,
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
        // Where the newest entry was deleted, the last one is older.
        if let Some([Value::Bulk(id), Value::Array(fields)]) = newest.map(Vec::as_slice)
            && EntryId::parse(id) == Some(info.last)
        {
            info.last_check = entry::check(fields.iter());
        }
        Some(info)
    }

    /// Whether this is another stream than the one in which `known` was an entry.
    pub(super) fn is_begun_anew(&self, known: EntryId) -> bool {
        self.last < known
    }

    /// What may be missing for one who knows the stream up to `known`, which is no entry of it now;
    /// and the id after which it goes on.
    pub(super) fn missing_after(&self, known: EntryId) -> Option<(GapReason, EntryId)> {
        if self.is_begun_anew(known) {
            return Some((GapReason::Reset, EntryId::ZERO));
        }
        if self.last == known {
            return None;
        }
        match self.first {
            // Streams are trimmed at their beginning, and what is before `known` is still there.
            Some(first) if first <= known || first.previous() == known => None,
            // Nothing was ever deleted. So `known` was never here: it is of an earlier stream.
            Some(_) if self.added == Some(self.length) => {
                (known > EntryId::ZERO).then_some((GapReason::Reset, EntryId::ZERO))
            }
            Some(first) => Some((GapReason::Trimmed, first.previous())),
            None => Some((GapReason::Trimmed, self.last)),
        }
    }
}

/// The pairs of a map; in RESP2 that is an array of keys and values in turn.
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
    use super::Info;
    use crate::event::EntryId;
    use crate::hub::GapReason::{Reset, Trimmed};

    fn id(milliseconds: u64) -> EntryId {
        EntryId { milliseconds, sequence: 1 }
    }

    #[test]
    fn what_may_be_missing_is_known() {
        let info = |first: Option<u64>, last, length, added| Info {
            last: id(last),
            first: first.map(id),
            length,
            added,
            last_check: None,
        };
        let trimmed = info(Some(5), 9, 3, Some(8));
        for (info, known, expected) in [
            (Info::NONE, EntryId::ZERO, None),
            (Info::NONE, id(3), Some((Reset, EntryId::ZERO))),
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
}
