//! Hashes of the newest entries that were read from a stream: they show which entries of a stream
//! that continues differently were read already.

use std::collections::VecDeque;
use std::hash::Hasher as _;

use rustc_hash::FxHasher;
use ssegate_hub::EntryId;

/// Hashes of one stream, at most: 2 KiB for a stream of which this many entries were read, outside
/// of `history_memory`.
pub(super) const MAX_RECENT: usize = 512;

/// Stands for an entry that was not read.
const UNREAD: u32 = 0;

/// Hashes of the entries read last, one for each that was added to the stream.
#[derive(Clone, Debug, Default)]
pub(super) struct RecentEntries {
    hashes: VecDeque<u32>,
}

impl RecentEntries {
    /// Adds an entry.
    pub(super) fn push(&mut self, id: EntryId, fingerprint: Option<u32>) {
        self.push_hash(hash(id, fingerprint));
    }

    /// Adds entries that were not read.
    pub(super) fn skip(&mut self, entries: u64) {
        for _ in 0..entries.min(MAX_RECENT as u64) {
            self.push_hash(UNREAD);
        }
    }

    /// Removes the newest ones.
    pub(super) fn remove_newest(&mut self, entries: u64) {
        let removed = usize::try_from(entries).unwrap_or(usize::MAX).min(self.hashes.len());
        self.hashes.truncate(self.hashes.len() - removed);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// The index of this entry, at `from` or later.
    pub(super) fn find(&self, from: usize, id: EntryId, fingerprint: Option<u32>) -> Option<usize> {
        // Its contents may have been too large to be read then, or now.
        let (whole, by_id) = (hash(id, fingerprint), hash(id, None));
        let mut hashes = self.hashes.iter().enumerate().skip(from);
        hashes.find(|(_, known)| **known == whole || **known == by_id).map(|(place, _)| place)
    }

    fn push_hash(&mut self, hash: u32) {
        if self.hashes.len() == MAX_RECENT {
            self.hashes.pop_front();
        }
        self.hashes.push_back(hash);
    }
}

fn hash(id: EntryId, fingerprint: Option<u32>) -> u32 {
    let mut hasher = FxHasher::default();
    hasher.write_u64(id.milliseconds);
    hasher.write_u64(id.sequence);
    if let Some(fingerprint) = fingerprint {
        hasher.write_u32(fingerprint);
    }
    let [.., a, b, c, d] = hasher.finish().to_le_bytes();
    u32::from_le_bytes([a, b, c, d]).max(1)
}

#[cfg(test)]
mod tests {
    use ssegate_hub::EntryId;

    use super::{MAX_RECENT, RecentEntries};

    fn id(milliseconds: u64) -> EntryId {
        EntryId { milliseconds, sequence: 0 }
    }

    #[test]
    fn the_newest_entries_are_found_by_id_and_contents() {
        let mut recent = RecentEntries::default();
        for ms in 0..10_000 {
            recent.push(id(ms), Some(1));
        }
        assert_eq!(recent.len(), MAX_RECENT);
        let bytes = recent.hashes.capacity() * size_of::<u32>();
        assert!(bytes <= 2048, "docs/STREAMS.md says 2.5 KiB with the checkpoints: {bytes}");
        assert!((0..10_000).all(|ms| {
            let place = (ms + MAX_RECENT as u64).checked_sub(10_000);
            recent.find(0, id(ms), Some(1)) == place.and_then(|place| usize::try_from(place).ok())
        }));
        assert_eq!(recent.find(0, id(9_999), Some(2)), None);
        assert_eq!(recent.find(101, id(9_999), Some(1)), Some(MAX_RECENT - 1));
        assert_eq!(recent.find(MAX_RECENT, id(9_999), Some(1)), None);
        recent.push(id(10_000), None);
        assert_eq!(recent.find(0, id(10_000), Some(7)), Some(MAX_RECENT - 1));
        recent.skip(3);
        assert_eq!(recent.find(0, id(10_000), None), Some(MAX_RECENT - 4));
        recent.remove_newest(4);
        assert_eq!(recent.find(0, id(10_000), None), None);
        assert_eq!(recent.find(0, id(9_999), Some(1)), Some(MAX_RECENT - 5));
        recent.skip(u64::MAX);
        assert_eq!(recent.find(0, id(9_999), Some(1)), None);
    }
}
