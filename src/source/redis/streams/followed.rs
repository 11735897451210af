//! What is known of a stream that is followed: up to where it was read, whether that is all, and
//! whether it is still the same stream.

use std::mem;

use super::info::Info;
use super::reached::{Path, Reached};
use crate::event::EntryId;
use crate::hub::GapReason;

/// A stream that the hub wants read. Outlives the connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Followed {
    /// Everything up to here was read; `None`: it is not known yet where to begin.
    pub(super) last: Option<EntryId>,
    // Entries that Redis had counted when this was read up to the same place, and those that were
    // read since.
    counted: u64,
    // Redis does not count them.
    is_uncounted: bool,
    // Redis had counted so many up to this entry, which is still to be read.
    expected: Option<(EntryId, u64)>,
    // Places that were reached since Redis was asked last, with the count there.
    trail: Option<Vec<(EntryId, u64)>>,
    // Places that were reached at any time.
    path: Path,
    // What was read and is gone, since Redis came back without it: after the first and up to the second.
    vanished: Vec<(EntryId, EntryId)>,
}

/// So many times that Redis came back older are remembered.
const MAX_VANISHED: usize = 8;

/// What comparing ours with what Redis says has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing.
    Same,
    /// It begins here.
    Begins(EntryId),
    /// Something is missing, up to this entry, behind which it is read on.
    Missing(GapReason, EntryId),
}

impl Followed {
    /// Redis is about to be asked. It must not be asked again before its answer was compared.
    pub(super) fn note_asked(&mut self) {
        self.trail = Some(self.last.map(|last| (last, self.counted)).into_iter().collect());
    }

    /// Compares with what Redis says.
    pub(super) fn compare(&mut self, info: &Info) -> Finding {
        let trail = mem::take(&mut self.trail).unwrap_or_default();
        let Some(last) = self.last else {
            self.last = Some(info.last);
            (self.counted, self.is_uncounted) = (info.added.unwrap_or(0), info.added.is_none());
            self.path.begin(Reached { id: info.last, count: self.counted, check: info.last_check });
            return Finding::Begins(info.last);
        };
        // Where we were when Redis was asked: we may have read on since.
        let (place, count) = trail.first().copied().unwrap_or((last, self.counted));
        if info.is_begun_anew(place) {
            let is_known =
                info.last > EntryId::ZERO && self.path.has(info.last, info.added, info.last_check);
            return match is_known {
                true => self.return_to(info, last),
                false => self.begin_anew(EntryId::ZERO, 0),
            };
        }
        let Some(added) = info.added.filter(|_| !self.is_uncounted) else {
            return Finding::Same;
        };
        if added < count {
            // It was deleted and begun again, with higher ids.
            let is_at_end = info.last == last;
            let found = self.begin_anew(last, added);
            self.is_uncounted = !is_at_end;
            return found;
        }
        if let Some((_, count)) = trail.iter().rev().find(|(place, _)| *place == info.last) {
            return self.settle(*count, added, last);
        }
        if info.last > last {
            if info.length == 0 {
                // Nothing of it will come any more.
                self.last = Some(info.last);
                let found = self.settle(self.counted, added, info.last);
                self.path.push(Reached { id: info.last, count: self.counted, check: None });
                return found;
            }
            self.expected = Some((info.last, added));
        }
        Finding::Same
    }

    /// The entry `id` was read, with this hash. Answers what is missing before it, where that is known
    /// now.
    pub(super) fn read(&mut self, id: EntryId, check: Option<u32>) -> Finding {
        self.last = Some(id);
        self.counted += 1;
        let counted = self.counted;
        self.path.push(Reached { id, count: counted, check });
        if let Some(trail) = &mut self.trail {
            trail.push((id, counted));
        }
        match self.expected {
            Some((place, added)) if id >= place => {
                self.expected = None;
                // Past it, it is not known how many came in between.
                if id == place { self.settle(counted, added, id) } else { Finding::Same }
            }
            _ => Finding::Same,
        }
    }

    /// The same after we were away. Where Redis does not count, nobody knows how many were deleted
    /// meanwhile: all that may be missing is told.
    pub(super) fn compare_after_absence(&mut self, info: &Info) -> Finding {
        let found = self.compare(info);
        match (found, info.added, self.last) {
            (Finding::Same, None, Some(last)) => match info.missing_after(last) {
                Some((GapReason::Trimmed, place)) => {
                    self.last = Some(place);
                    self.path.push(Reached { id: place, count: self.counted, check: None });
                    Finding::Missing(GapReason::Trimmed, place)
                }
                _ => Finding::Same,
            },
            _ => found,
        }
    }

    /// Ours says `counted` where Redis says `added`.
    fn settle(&mut self, counted: u64, added: u64, place: EntryId) -> Finding {
        let Some(missed) = added.checked_sub(counted).filter(|missed| *missed > 0) else {
            return Finding::Same;
        };
        self.counted += missed;
        Finding::Missing(GapReason::Trimmed, place)
    }

    /// Where one who knows `id`, which is no entry now, has to go on, because what came before it is
    /// gone too; `None`: it is not known to have vanished.
    pub(super) fn returned_to(&self, id: EntryId) -> Option<EntryId> {
        let before = |id: EntryId, &(kept, until): &(EntryId, EntryId)| {
            if kept < id && id <= until { kept } else { id }
        };
        let place = self.vanished.iter().fold(id, before);
        (place < id).then_some(place)
    }

    /// It is the same stream, and ends where it did some time ago.
    fn return_to(&mut self, info: &Info, last: EntryId) -> Finding {
        if self.vanished.len() == MAX_VANISHED {
            self.vanished.remove(0);
        }
        self.vanished.push((info.last, last));
        self.path.return_to(info.last);
        self.last = Some(info.last);
        self.counted = info.added.unwrap_or(self.counted);
        self.expected = None;
        Finding::Missing(GapReason::RolledBack, info.last)
    }

    fn begin_anew(&mut self, place: EntryId, counted: u64) -> Finding {
        *self = Self { last: Some(place), counted, ..Self::default() };
        self.path.begin(Reached { id: place, count: counted, check: None });
        Finding::Missing(GapReason::Reset, place)
    }
}

#[cfg(test)]
mod tests {
    use super::{Finding, Followed};
    use crate::event::EntryId;
    use crate::hub::GapReason;
    use crate::source::redis::streams::info::Info;

    fn id(milliseconds: u64) -> EntryId {
        EntryId { milliseconds, sequence: 0 }
    }

    fn info(last: u64, length: u64, added: u64) -> Info {
        Info { last: id(last), length, added: Some(added), ..Info::default() }
    }

    fn begun(last: u64, added: u64) -> Followed {
        let mut stream = Followed::default();
        let found = stream.compare(&info(last, 1, added));
        assert_eq!(found, Finding::Begins(id(last)));
        stream
    }

    #[test]
    fn what_was_trimmed_before_it_was_read_is_found() {
        let mut stream = begun(5, 10);
        stream.note_asked();
        assert_eq!(stream.compare(&info(5, 1, 10)), Finding::Same);
        // Seen only when the entry is reached.
        stream.note_asked();
        assert_eq!(stream.compare(&info(9, 1, 14)), Finding::Same);
        assert_eq!(stream.read(id(8), None), Finding::Same);
        assert_eq!(stream.read(id(9), None), Finding::Missing(GapReason::Trimmed, id(9)));
        // And told once.
        stream.note_asked();
        assert_eq!(stream.compare(&info(9, 1, 14)), Finding::Same);
        assert_eq!(stream.read(id(10), None), Finding::Same);
    }

    #[test]
    fn entries_that_come_while_redis_is_asked_are_no_difference() {
        let mut stream = begun(5, 10);
        stream.note_asked();
        for ms in 6..9 {
            assert_eq!(stream.read(id(ms), None), Finding::Same);
        }
        assert_eq!(stream.compare(&info(7, 3, 12)), Finding::Same);
        stream.note_asked();
        assert_eq!(stream.compare(&info(8, 3, 13)), Finding::Same);
    }

    #[test]
    fn a_stream_that_begins_anew_is_found() {
        let mut stream = begun(5, 10);
        stream.note_asked();
        let reset = |place| Finding::Missing(GapReason::Reset, place);
        assert_eq!(stream.compare(&Info::NONE), reset(EntryId::ZERO));
        stream.note_asked();
        assert_eq!(stream.compare(&Info::NONE), Finding::Same, "once");
        assert_eq!(stream.read(id(1), None), Finding::Same);
        stream.note_asked();
        assert_eq!(stream.compare(&info(1, 1, 1)), Finding::Same);

        let mut higher = begun(5, 10);
        higher.note_asked();
        assert_eq!(higher.compare(&info(7, 1, 1)), reset(id(5)));
    }

    #[test]
    fn what_was_emptied_is_not_waited_for() {
        let mut stream = begun(5, 10);
        stream.note_asked();
        let found = stream.compare(&info(8, 0, 13));
        assert_eq!(found, Finding::Missing(GapReason::Trimmed, id(8)));
        assert_eq!(stream.last, Some(id(8)));
    }

    #[test]
    fn a_redis_that_comes_back_older_is_known_by_what_was_read() {
        let mut stream = begun(5, 10);
        for ms in 6..=20 {
            assert_eq!(stream.read(id(ms), None), Finding::Same);
        }
        stream.note_asked();
        let rolled_back = |ms| Finding::Missing(GapReason::RolledBack, id(ms));
        assert_eq!(stream.compare(&info(12, 8, 17)), rolled_back(12));
        stream.note_asked();
        assert_eq!(stream.compare(&info(12, 8, 17)), Finding::Same, "once");
        for (ms, place) in [(11, None), (12, None), (13, Some(12)), (20, Some(12)), (21, None)] {
            assert_eq!(stream.returned_to(id(ms)), place.map(id), "{ms}");
        }
        // It goes on, and comes back older once more.
        for ms in 30..=40 {
            assert_eq!(stream.read(id(ms), None), Finding::Same);
        }
        stream.note_asked();
        assert_eq!(stream.compare(&info(9, 5, 14)), rolled_back(9));
        assert_eq!(stream.returned_to(id(20)), Some(id(9)));
        assert_eq!(stream.returned_to(id(35)), Some(id(9)));
    }

    #[test]
    fn another_stream_with_lower_ids_is_not_taken_for_an_older_one() {
        let read = || {
            let mut stream = begun(5, 10);
            for ms in 6..=20 {
                stream.read(id(ms), Some(1));
            }
            stream.note_asked();
            stream
        };
        let reset = Finding::Missing(GapReason::Reset, EntryId::ZERO);
        for other in [
            // Its last entry was never read, or is another one; or it has too few.
            info(3, 1, 1),
            info(12, 1, 1),
            Info { last_check: Some(2), ..info(12, 8, 17) },
            Info::NONE,
        ] {
            assert_eq!(read().compare(&other), reset, "{other:?}");
        }
    }
}
