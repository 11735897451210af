//! What is known of a stream that is followed: up to where it was read, and whether that is all.

use std::mem;

use super::info::Info;
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
}

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
    /// Redis is about to be asked.
    pub(super) fn note_asked(&mut self) {
        self.trail = Some(self.last.map(|last| (last, self.counted)).into_iter().collect());
    }

    /// Compares with what Redis says.
    pub(super) fn compare(&mut self, info: &Info) -> Finding {
        let trail = mem::take(&mut self.trail).unwrap_or_default();
        let Some(last) = self.last else {
            self.last = Some(info.last);
            (self.counted, self.is_uncounted) = (info.added.unwrap_or(0), info.added.is_none());
            return Finding::Begins(info.last);
        };
        // Where we were when Redis was asked: we may have read on since.
        let (place, count) = trail.first().copied().unwrap_or((last, self.counted));
        if info.is_begun_anew(place) {
            return self.begin_anew(EntryId::ZERO, 0);
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
                return self.settle(self.counted, added, info.last);
            }
            self.expected = Some((info.last, added));
        }
        Finding::Same
    }

    /// The entry `id` was read. Answers what is missing before it, where that is known now.
    pub(super) fn read(&mut self, id: EntryId) -> Finding {
        self.last = Some(id);
        self.counted += 1;
        let counted = self.counted;
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

    fn begin_anew(&mut self, place: EntryId, counted: u64) -> Finding {
        *self = Self { last: Some(place), counted, ..Self::default() };
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
        Info { last: id(last), first: None, length, added: Some(added) }
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
        assert_eq!(stream.read(id(8)), Finding::Same);
        assert_eq!(stream.read(id(9)), Finding::Missing(GapReason::Trimmed, id(9)));
        // And told once.
        stream.note_asked();
        assert_eq!(stream.compare(&info(9, 1, 14)), Finding::Same);
        assert_eq!(stream.read(id(10)), Finding::Same);
    }

    #[test]
    fn entries_that_come_while_redis_is_asked_are_no_difference() {
        let mut stream = begun(5, 10);
        stream.note_asked();
        for ms in 6..9 {
            assert_eq!(stream.read(id(ms)), Finding::Same);
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
        assert_eq!(stream.read(id(1)), Finding::Same);
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
}
