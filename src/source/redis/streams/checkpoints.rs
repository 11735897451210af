//! Checkpoints in a stream: all of the newest entries that were read, and ever fewer of the older
//! ones.
//!
//! A Redis that comes back with older data has a stream that ends earlier than before. If it ends
//! at an entry that was read here, it is the same stream, rolled back, and nothing before that
//! entry is read again.

use std::collections::VecDeque;

use ssegate_hub::EntryId;

/// Checkpoints of one stream, at most: half of them are the newest entries, without gaps.
///
/// Few, because every followed stream has them in addition to its bounded history: 512 bytes, so 50
/// MB for 100,000 streams. Between two checkpoints, `entries-added` of Redis 7 serves the same
/// purpose; if an older Redis returns to an entry in between, its stream counts as another one, and
/// is read from its start.
const MAX_CHECKPOINTS: usize = 16;

/// A checkpoint in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// The id of the entry.
    pub(super) id: EntryId,
    /// `entries-added` up to it.
    pub(super) count: u64,
    /// A fingerprint of its contents, if known.
    pub(super) fingerprint: Option<u32>,
}

/// The checkpoints of one stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Checkpoints {
    // Invariant: ascending.
    entries: VecDeque<Checkpoint>,
}

impl Checkpoints {
    /// Starts over with this checkpoint.
    pub(super) fn reset(&mut self, checkpoint: Checkpoint) {
        self.entries.clear();
        self.entries.push_back(checkpoint);
    }

    /// Adds a checkpoint after all others.
    pub(super) fn push(&mut self, checkpoint: Checkpoint) {
        debug_assert!(self.entries.back().is_none_or(|newest| newest.id < checkpoint.id));
        if self.entries.len() == MAX_CHECKPOINTS {
            self.thin();
        }
        self.entries.push_back(checkpoint);
    }

    /// Removes the checkpoints after `id`.
    pub(super) fn truncate_after(&mut self, id: EntryId) {
        let kept = self.entries.partition_point(|checkpoint| checkpoint.id <= id);
        self.entries.truncate(kept);
    }

    /// Whether the entry `id`, up to which Redis now reports `added`, was read.
    pub(super) fn contains(
        &self,
        id: EntryId,
        added: Option<u64>,
        fingerprint: Option<u32>,
    ) -> bool {
        let after = self.entries.partition_point(|checkpoint| checkpoint.id <= id);
        let Some(before) = after.checked_sub(1).map(|before| self.entries[before]) else {
            return false;
        };
        let next = self.entries.get(after).map_or(u64::MAX, |next| next.count);
        if before.id != id {
            // It is not a checkpoint: only the count shows whether it lies between these two.
            return added.is_some_and(|added| before.count < added && added < next);
        }
        let is_same = before.fingerprint.zip(fingerprint).is_none_or(|(known, now)| known == now);
        // Entries deleted before they were read are counted at a later checkpoint.
        is_same && added.is_none_or(|added| before.count <= added && added <= next)
    }

    /// Removes every second checkpoint of the older half; keeps the first.
    fn thin(&mut self) {
        let mut at = 0;
        self.entries.retain(|_| {
            at += 1;
            at > MAX_CHECKPOINTS / 2 || at % 2 == 1
        });
    }
}

#[cfg(test)]
mod tests {
    use ssegate_hub::EntryId;

    use super::{Checkpoint, Checkpoints, MAX_CHECKPOINTS};

    fn id(milliseconds: u64) -> EntryId {
        EntryId { milliseconds, sequence: 0 }
    }

    fn checkpoint(milliseconds: u64, count: u64) -> Checkpoint {
        Checkpoint { id: id(milliseconds), count, fingerprint: None }
    }

    #[test]
    fn an_entry_is_recognized_by_its_id_its_count_and_its_fingerprint() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.reset(checkpoint(10, 5));
        checkpoints.push(Checkpoint { fingerprint: Some(7), ..checkpoint(20, 6) });
        checkpoints.push(checkpoint(30, 7));
        for (ms, added, fingerprint, is_known) in [
            (10, Some(5), None, true),
            (20, Some(6), Some(7), true),
            (20, Some(6), Some(8), false),
            (20, None, None, true),
            // One entry was deleted before it was read.
            (20, Some(7), Some(7), true),
            (20, Some(1), None, false),
            (20, Some(8), None, false),
            (25, Some(6), None, false),
            (9, Some(4), None, false),
        ] {
            assert_eq!(
                checkpoints.contains(id(ms), added, fingerprint),
                is_known,
                "{ms} {added:?} {fingerprint:?}"
            );
        }
        checkpoints.truncate_after(id(20));
        assert!(!checkpoints.contains(id(30), None, None));
        assert!(checkpoints.contains(id(20), Some(6), None));
    }

    #[test]
    fn a_hundred_thousand_streams_take_no_more_than_fifty_million_bytes() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.reset(checkpoint(0, 0));
        for number in 1..=1000 {
            checkpoints.push(checkpoint(number, number));
        }
        let bytes = checkpoints.entries.capacity() * size_of::<Checkpoint>();
        assert!(100_000 * bytes <= 52_000_000, "{bytes} bytes per stream");
    }

    #[test]
    fn a_long_stream_keeps_few_checkpoints_and_recognizes_every_entry() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.reset(checkpoint(0, 100));
        for number in 1..=50_000 {
            checkpoints.push(checkpoint(10 * number, 100 + number));
        }
        assert!(checkpoints.entries.len() <= MAX_CHECKPOINTS);
        for number in [0, 1, 2, 999, 10_000, 31_234, 49_000, 49_999, 50_000] {
            assert!(checkpoints.contains(id(10 * number), Some(100 + number), None), "{number}");
        }
        // An entry of another stream.
        assert!(!checkpoints.contains(id(10 * 31_234), Some(2), None));
        assert!(
            !checkpoints.contains(id(10 * 49_998 + 5), Some(100 + 49_998), None),
            "there is no entry in between"
        );
    }
}
