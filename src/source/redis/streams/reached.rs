//! Places in a stream that were reached: all of the newest, and of older ones fewer and fewer.
//!
//! A Redis that comes back with older data has a stream that ends earlier than it did. If it ends at
//! an entry that was read here, it is the same stream, and nothing before that is to be read again.

use std::collections::VecDeque;

use crate::event::EntryId;

/// Places that are kept of one stream: half of them are the newest, without a hole.
///
/// Few, since each stream that is followed has them, beside all bounds of the history: 512 bytes, so
/// 50 MB for 100,000 streams. Between two places the count of Redis 7 tells as much; where an older
/// Redis returns to an entry in between, its stream counts as another one, and is read from its
/// beginning.
const MAX_PLACES: usize = 16;

/// A place in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    /// The entry.
    pub(super) id: EntryId,
    /// How many entries Redis had counted up to it.
    pub(super) count: u64,
    /// A hash of what it says, where that is known.
    pub(super) check: Option<u32>,
}

/// The places of one stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Path {
    // Invariant: ascending.
    places: VecDeque<Reached>,
}

impl Path {
    /// The stream is read from this place on.
    pub(super) fn begin(&mut self, place: Reached) {
        self.places.clear();
        self.places.push_back(place);
    }

    /// This place was reached.
    pub(super) fn push(&mut self, place: Reached) {
        debug_assert!(self.places.back().is_none_or(|newest| newest.id < place.id));
        if self.places.len() == MAX_PLACES {
            self.thin();
        }
        self.places.push_back(place);
    }

    /// What came after `id` is gone.
    pub(super) fn return_to(&mut self, id: EntryId) {
        let left = self.places.partition_point(|place| place.id <= id);
        self.places.truncate(left);
    }

    /// Whether the entry `id`, up to which Redis has now counted `added`, was reached.
    pub(super) fn has(&self, id: EntryId, added: Option<u64>, check: Option<u32>) -> bool {
        let after = self.places.partition_point(|place| place.id <= id);
        let Some(before) = after.checked_sub(1).map(|before| self.places[before]) else {
            return false;
        };
        let next = self.places.get(after).map_or(u64::MAX, |next| next.count);
        if before.id != id {
            // Between the two is one that is not kept here, or none; how many Redis has counted tells.
            return added.is_some_and(|added| before.count < added && added < next);
        }
        let is_same = before.check.zip(check).is_none_or(|(known, now)| known == now);
        // What was deleted before it was read is counted later.
        is_same && added.is_none_or(|added| before.count <= added && added <= next)
    }

    /// Of the older half, every second goes; the first one stays.
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
    fn a_place_is_known_by_its_id_its_count_and_what_it_says() {
        let mut path = Path::default();
        path.begin(place(10, 5));
        path.push(Reached { check: Some(7), ..place(20, 6) });
        path.push(place(30, 7));
        for (ms, added, check, is_known) in [
            (10, Some(5), None, true),
            (20, Some(6), Some(7), true),
            (20, Some(6), Some(8), false),
            (20, None, None, true),
            // One was deleted before it was read.
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
        assert!(100_000 * bytes <= 52_000_000, "{bytes} of one stream");
    }

    #[test]
    fn a_long_way_is_kept_in_few_places_and_none_is_forgotten() {
        let mut path = Path::default();
        path.begin(place(0, 100));
        for number in 1..=50_000 {
            path.push(place(10 * number, 100 + number));
        }
        assert!(path.places.len() <= MAX_PLACES);
        for number in [0, 1, 2, 999, 10_000, 31_234, 49_000, 49_999, 50_000] {
            assert!(path.has(id(10 * number), Some(100 + number), None), "{number}");
        }
        // Of another stream.
        assert!(!path.has(id(10 * 31_234), Some(2), None));
        assert!(
            !path.has(id(10 * 49_998 + 5), Some(100 + 49_998), None),
            "there is nothing between"
        );
    }
}
