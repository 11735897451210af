//! Checkpoints in a stream: all of the newest entries that were read, and ever fewer of the older
//! ones.
//!
//! Another server, or one that was restored, may have a stream of the same name that ends earlier, or continues
//! differently. The newest checkpoint that it still has shows up to where it is the same stream.

use std::collections::VecDeque;

use ssegate_hub::EntryId;

/// Checkpoints of one stream, at most.
///
/// Few, because every followed stream has them, outside of `history_memory`: 512 bytes. With the hashes of
/// [`RecentEntries`](super::recent_entries::RecentEntries), 2 KiB, that is 256 MB for 100,000 streams, as many as
/// `max_channels` allows.
const MAX_CHECKPOINTS: usize = 16;
/// How many of them are the newest entries, without gaps.
const NEWEST: usize = 7;

/// A checkpoint in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// The id of the entry.
    pub(super) id: EntryId,
    /// `entries-added` up to it.
    pub(super) count: u64,
    /// What is known of the entry.
    pub(super) trace: Trace,
}

/// What is known of the entry with an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trace {
    /// Nothing: it may have been deleted before it was read, and reading began after it.
    None,
    /// It was there. Its contents were too large to be read.
    Present,
    /// It was there, and its contents have this fingerprint.
    Contents(u32),
}

impl Trace {
    /// The trace of an entry that was read, with its fingerprint.
    pub(super) fn of(fingerprint: Option<u32>) -> Self {
        fingerprint.map_or(Self::Present, Self::Contents)
    }

    /// Whether an entry with this fingerprint and the same id can be the one that was read.
    pub(super) fn fits(self, fingerprint: Option<u32>) -> bool {
        match (self, fingerprint) {
            (Self::Contents(known), Some(now)) => known == now,
            _ => true,
        }
    }
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

    /// The checkpoint with this id.
    pub(super) fn at(&self, id: EntryId) -> Option<Checkpoint> {
        let at = self.entries.binary_search_by_key(&id, |checkpoint| checkpoint.id).ok()?;
        Some(self.entries[at])
    }

    /// The newest entry up to `id` that was there.
    pub(super) fn newest_entry(&self, id: EntryId) -> Option<Checkpoint> {
        let after = self.entries.partition_point(|checkpoint| checkpoint.id <= id);
        let mut before = self.entries.range(..after).rev();
        before.find(|checkpoint| checkpoint.trace != Trace::None).copied()
    }

    /// The first checkpoint after `id`.
    pub(super) fn next(&self, id: EntryId) -> Option<Checkpoint> {
        let after = self.entries.partition_point(|checkpoint| checkpoint.id <= id);
        self.entries.get(after).copied()
    }

    /// Corrects the counts: adds the difference of `after` and `before` to all checkpoints.
    pub(super) fn recount(&mut self, before: u64, after: u64) {
        for checkpoint in &mut self.entries {
            checkpoint.count = (checkpoint.count + after).saturating_sub(before);
        }
    }

    /// The oldest one: where reading began.
    pub(super) fn oldest(&self) -> Option<Checkpoint> {
        self.entries.front().copied()
    }

    /// Removes the one of the older checkpoints that leaves the smallest hole for its distance from the newest.
    /// Keeps the first, where reading began, and the second: it is an entry, which exists as long as the stream
    /// is not trimmed.
    fn thin(&mut self) {
        let count = |at: usize| self.entries[at].count;
        let newest = count(self.entries.len() - 1);
        let hole = |at: usize| u128::from(count(at + 1).saturating_sub(count(at - 1)));
        let distance = |at: usize| u128::from(newest.saturating_sub(count(at)));
        let is_better =
            |at: usize, than: usize| hole(at) * distance(than) < hole(than) * distance(at);
        let best = (3..=MAX_CHECKPOINTS - NEWEST)
            .fold(2, |best, at| if is_better(at, best) { at } else { best });
        self.entries.remove(best);
    }
}

#[cfg(test)]
mod tests {
    use ssegate_hub::EntryId;

    use super::{Checkpoint, Checkpoints, MAX_CHECKPOINTS, NEWEST, Trace};

    fn id(milliseconds: u64) -> EntryId {
        EntryId { milliseconds, sequence: 0 }
    }

    fn checkpoint(milliseconds: u64, count: u64) -> Checkpoint {
        Checkpoint { id: id(milliseconds), count, trace: Trace::Present }
    }

    fn many(count: u64) -> Checkpoints {
        let mut checkpoints = Checkpoints::default();
        checkpoints.reset(checkpoint(0, 0));
        for number in 1..=count {
            checkpoints.push(checkpoint(number, number));
        }
        checkpoints
    }

    #[test]
    fn a_trace_fits_the_same_contents_and_any_that_are_unknown() {
        for (trace, fingerprint, fits) in [
            (Trace::Contents(7), Some(7), true),
            (Trace::Contents(7), Some(8), false),
            (Trace::Contents(7), None, true),
            (Trace::Present, Some(8), true),
        ] {
            assert_eq!(trace.fits(fingerprint), fits, "{trace:?} {fingerprint:?}");
        }
    }

    #[test]
    fn a_hundred_thousand_streams_take_no_more_than_fifty_million_bytes() {
        let bytes = many(1000).entries.capacity() * size_of::<Checkpoint>();
        assert!(100_000 * bytes <= 52_000_000, "{bytes} bytes per stream");
    }

    #[test]
    fn a_long_stream_keeps_its_newest_entries_and_ever_fewer_of_the_older_ones() {
        let mut checkpoints = many(50_000);
        assert!(checkpoints.entries.len() <= MAX_CHECKPOINTS);
        let newest = 50_000 - NEWEST as u64 + 1;
        assert!((newest..=50_000).all(|number| checkpoints.at(id(number)).is_some()));
        // For every distance from the end there is one that is not much further away.
        for distance in [10, 100, 1000, 10_000_u64] {
            let before = checkpoints.newest_entry(id(50_000 - distance)).unwrap();
            assert!(50_000 - before.count <= 4 * distance + 16, "{distance}: {before:?}");
            assert!(checkpoints.next(before.id).unwrap().count > 50_000 - distance);
        }
        checkpoints.truncate_after(id(49_998));
        let newest = checkpoints.newest_entry(EntryId::MAX);
        assert_eq!(newest.map(|newest| newest.count), Some(49_998));
    }

    #[test]
    fn where_nothing_was_read_there_is_no_entry() {
        let mut checkpoints = many(3);
        checkpoints.push(Checkpoint { trace: Trace::None, ..checkpoint(4, 4) });
        for (up_to, expected) in [(9, Some(3)), (4, Some(3)), (3, Some(3)), (2, Some(2))] {
            let newest = checkpoints.newest_entry(id(up_to));
            assert_eq!(newest.map(|newest| newest.count), expected, "{up_to}");
        }
        assert_eq!(checkpoints.next(id(3)).map(|next| next.count), Some(4));
        assert_eq!(checkpoints.next(id(4)), None);
    }
}
