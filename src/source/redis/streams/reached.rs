//! Checkpoints in a stream: all of the newest entries that were read, and ever fewer of the older
//! ones.
//!
//! A Redis that comes back with older data has a stream that ends earlier than before. If it ends
//! at an entry that was read here, it is the same stream, rolled back, and nothing before that
//! entry is read again.

use std::collections::VecDeque;

use crate::event::EntryId;

/// Checkpoints of one stream, at most: half of them are the newest entries, without gaps.
///
/// Few, because every followed stream has them in addition to its bounded history: 512 bytes, so 50
/// MB for 100,000 streams. Between two checkpoints, `entries-added` of Redis 7 serves the same
/// purpose; if an older Redis returns to an entry in between, its stream counts as another one, and
/// is read from its start.
const MAX_PLACES: usize = 16;

/// A checkpoint in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    /// The id of the entry.
    pub(super) id: EntryId,
    /// `entries-added` up to it.
    pub(super) count: u64,
    /// A fingerprint of its contents, if known.
    pub(super) check: Option<u32>,
}

/// The checkpoints of one stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Path {
    // Invariant: ascending.
    places: VecDeque<Reached>,
}

impl Path {
    /// Starts over with this checkpoint.
    pub(super) fn begin(&mut self, place: Reached) {
        self.places.clear();
        self.places.push_back(place);
    }

    /// Adds a checkpoint after all others.
    pub(super) fn push(&mut self, place: Reached) {
        debug_assert!(self.places.back().is_none_or(|newest| newest.id < place.id));
        if self.places.len() == MAX_PLACES {
            self.thin();
        }
        self.places.push_back(place);
    }

    /// Removes the checkpoints after `id`.
    pub(super) fn return_to(&mut self, id: EntryId) {
        let left = self.places.partition_point(|place| place.id <= id);
        self.places.truncate(left);
    }

    /// Whether the entry `id`, up to which Redis now reports `added`, was read.
    pub(super) fn has(&self, id: EntryId, added: Option<u64>, check: Option<u32>) -> bool {
        let after = self.places.partition_point(|place| place.id <= id);
        let Some(before) = after.checked_sub(1).map(|before| self.places[before]) else {
            return false;
        };
        let next = self.places.get(after).map_or(u64::MAX, |next| next.count);
        if before.id != id {
            // It is not a checkpoint: only the count shows whether it lies between these two.
            return added.is_some_and(|added| before.count < added && added < next);
        }
        let is_same = before.check.zip(check).is_none_or(|(known, now)| known == now);
        // Entries deleted before they were read are counted at a later checkpoint.
        is_same && added.is_none_or(|added| before.count <= added && added <= next)
    }

    /// Removes every second checkpoint of the older half; keeps the first.
    fn thin(&mut self) {
        let mut at = 0;
        self.places.retain(|_| {
            at += 1;
            at > MAX_PLACES / 2 || at % 2 == 1
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_PLACES, Path, Reached};
    use crate::event::EntryId;

    fn id(milliseconds: u64) -> EntryId {
        EntryId { milliseconds, sequence: 0 }
    }

    fn place(milliseconds: u64, count: u64) -> Reached {
        Reached { id: id(milliseconds), count, check: None }
    }

    #[test]
    fn an_entry_is_recognized_by_its_id_its_count_and_its_fingerprint() {
        let mut path = Path::default();
        path.begin(place(10, 5));
        path.push(Reached { check: Some(7), ..place(20, 6) });
        path.push(place(30, 7));
        for (ms, added, check, is_known) in [
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
            assert_eq!(path.has(id(ms), added, check), is_known, "{ms} {added:?} {check:?}");
        }
        path.return_to(id(20));
        assert!(!path.has(id(30), None, None));
        assert!(path.has(id(20), Some(6), None));
    }

    #[test]
    fn a_hundred_thousand_streams_take_no_more_than_fifty_million_bytes() {
        let mut path = Path::default();
        path.begin(place(0, 0));
        for number in 1..=1000 {
            path.push(place(number, number));
        }
        let bytes = path.places.capacity() * size_of::<Reached>();
        assert!(100_000 * bytes <= 52_000_000, "{bytes} bytes per stream");
    }

    #[test]
    fn a_long_stream_keeps_few_checkpoints_and_recognizes_every_entry() {
        let mut path = Path::default();
        path.begin(place(0, 100));
        for number in 1..=50_000 {
            path.push(place(10 * number, 100 + number));
        }
        assert!(path.places.len() <= MAX_PLACES);
        for number in [0, 1, 2, 999, 10_000, 31_234, 49_000, 49_999, 50_000] {
            assert!(path.has(id(10 * number), Some(100 + number), None), "{number}");
        }
        // An entry of another stream.
        assert!(!path.has(id(10 * 31_234), Some(2), None));
        assert!(
            !path.has(id(10 * 49_998 + 5), Some(100 + 49_998), None),
            "there is no entry in between"
        );
    }
}
