//! The ids that a publisher has given, and where a client with such an id stands.
//!
//! A publisher may give several events the same id. Which of them a client saw last cannot be told from its id.

use std::hash::BuildHasher as _;

use rustc_hash::{FxBuildHasher, FxHashMap};

use super::History;

/// For a channel whose publisher may give the ids: how often each id is kept, and the newest that is not kept.
#[derive(Debug, Default)]
pub(super) struct ForeignIds {
    /// The id of the newest record that was dropped.
    pub(super) dropped: Option<Box<str>>,
    // By the hash of an id: the number of records that are kept with it, or with another id of the same hash.
    kept: FxHashMap<u64, u32>,
}

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ForeignPlace {
    /// The client has not seen what comes after this number.
    pub(crate) number: u64,
    /// Whether it has seen everything up to there: otherwise it may be at an older event with the same id.
    pub(crate) is_certain: bool,
}

impl ForeignIds {
    pub(super) fn add(&mut self, id: Option<&str>) {
        if let Some(id) = id {
            *self.kept.entry(hash(id.as_bytes())).or_default() += 1;
        }
    }

    /// The oldest record, which has this id, is dropped.
    pub(super) fn drop_oldest(&mut self, id: Option<&str>) {
        self.dropped = id.map(Into::into);
        let Some(hash) = id.map(|id| hash(id.as_bytes())) else { return };
        if let Some(count) = self.kept.get_mut(&hash) {
            *count -= 1;
            if *count == 0 {
                self.kept.remove(&hash);
            }
        }
        if self.kept.capacity() > 64.max(8 * self.kept.len()) {
            self.kept.shrink_to(2 * self.kept.len());
        }
    }

    /// All records are dropped. The newest of them has this id.
    pub(super) fn drop_all(&mut self, newest: Option<Box<str>>) {
        *self = Self { dropped: newest, kept: FxHashMap::default() };
    }

    /// The number of records that are kept with this id, at most.
    fn most_kept(&self, id: &[u8]) -> u32 {
        self.kept.get(&hash(id)).copied().unwrap_or_default()
    }

    /// The memory that it takes, in bytes.
    pub(super) fn held(&self) -> usize {
        self.kept.capacity() * (size_of::<(u64, u32)>() + 1)
    }
}

fn hash(id: &[u8]) -> u64 {
    FxBuildHasher.hash_one(id)
}

impl History {
    /// Where a client stands that has seen an event with this id: one that is kept, or the newest that was dropped.
    ///
    /// If several events in a row have the id, the client stands behind the first of them: it may be sent
    /// some again, but misses none. If events with other ids are between them, it stands behind the newest,
    /// which is not certain.
    ///
    /// Scans from the newest to the oldest, and ends when no further record can have the id: clients that
    /// come back have usually seen one of the last.
    pub(crate) fn place_of_id(&self, id: &[u8]) -> Option<ForeignPlace> {
        let foreign = self.foreign.as_ref()?;
        let is_dropped = foreign.dropped.as_ref().is_some_and(|known| known.as_bytes() == id);
        let mut left = foreign.most_kept(id) + u32::from(is_dropped);
        let mut place: Option<ForeignPlace> = None;
        let mut is_apart = false;
        let kept = self.records.iter().rev().map(|record| (record.number, record.content.id()));
        let dropped = (self.complete_after, foreign.dropped.as_deref());
        for (number, known) in kept.chain([dropped]) {
            match (known.map(str::as_bytes), &mut place) {
                _ if left == 0 => break,
                (None, _) => continue,
                (Some(known), place) if known != id => {
                    is_apart |= place.is_some();
                    continue;
                }
                (_, Some(place)) if is_apart => {
                    place.is_certain = false;
                    break;
                }
                (_, place) => {
                    let is_certain = true;
                    *place = Some(ForeignPlace { number, is_certain });
                }
            }
            left -= 1;
        }
        place
    }

    /// The id of the newest record, where the publisher may give ids.
    pub(super) fn newest_foreign_id(&self) -> Option<Box<str>> {
        self.foreign.as_ref()?;
        self.records.back()?.content.id().map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ssegate_sse::frame::Frame;
    use tokio::time::Instant;

    use super::{ForeignPlace, History};
    use crate::HistorySettings;
    use crate::fleet::name::EventName;
    use crate::history::record::RecordContent;
    use crate::subject::Subject;

    /// A history of four records, after events with these ids; `-` is an event without an id.
    fn history(ids: &str) -> History {
        let settings = HistorySettings { count: 4, bytes: 1000, age: Duration::from_secs(60) };
        let mut history = History::of_foreign_ids(settings, 0);
        for (id, number) in ids.split(' ').zip(1..) {
            let id = if id == "-" { String::new() } else { format!("id: {id}\n") };
            let frame = Frame::of_text(format!("data: x\n{id}\n").as_bytes());
            let content = RecordContent::Event(frame, Subject::of(0));
            history.push(number, None, (content, EventName::default()), Instant::now());
        }
        history
    }

    #[test]
    fn a_client_is_where_no_event_with_its_id_is_missed_or_else_that_is_said() {
        let at = |number| Some((number, true));
        let perhaps_at = |number| Some((number, false));
        for (ids, id, expected) in [
            ("a b c", "b", at(2)),
            ("a b c", "z", None),
            ("a b c d e", "a", at(1)),
            ("a b c d e f", "a", None),
            // In a row, also with events that have none between them.
            ("a b b c", "b", at(2)),
            ("a b - b", "b", at(2)),
            ("a b b c d", "b", at(2)),
            ("b b c d e", "b", at(1)),
            // Elsewhere, too.
            ("a b a", "a", perhaps_at(3)),
            ("a b a a", "a", perhaps_at(3)),
            ("a a b a", "a", perhaps_at(4)),
            ("a b c a d", "a", perhaps_at(4)),
            ("a b c d a b", "a", at(5)),
        ] {
            let place = history(ids).place_of_id(id.as_bytes());
            let place = place.map(|ForeignPlace { number, is_certain }| (number, is_certain));
            assert_eq!(place, expected, "{id} in {ids}");
        }
    }

    #[test]
    fn what_is_counted_goes_with_the_records() {
        let mut history = history("a b a c a d");
        let counts = |history: &History| {
            let foreign = history.foreign.as_ref().expect("it has them");
            [b"a", b"b", b"d"].map(|id| foreign.most_kept(id))
        };
        assert_eq!(counts(&history), [2, 0, 1]);
        assert!(history.held() > 0);
        history.evict();
        assert_eq!((counts(&history), history.held()), ([0, 0, 0], 0));
        assert_eq!(history.place_of_id(b"d").map(|place| place.number), Some(6));
    }
}
