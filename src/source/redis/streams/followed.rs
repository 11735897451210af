//! The progress of a followed stream: up to which entry it was read, whether entries are missing,
//! and whether it is still the same stream.

use std::mem;

use super::info::Info;
use super::reached::{Path, Reached};
use crate::event::EntryId;
use crate::hub::GapReason;

/// A stream that the hub wants read. Outlives the connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Followed {
    /// The id up to which everything was read; `None` if it is not known yet where to start.
    pub(super) last: Option<EntryId>,
    // `entries-added` at `last`: as Redis reported it where reading started, plus the entries read
    // since.
    counted: u64,
    // Redis does not report `entries-added` (before Redis 7).
    is_uncounted: bool,
    // An entry that is still to be read, and `entries-added` up to it.
    expected: Option<(EntryId, u64)>,
    // The ids read since the last `XINFO STREAM` was sent, each with `entries-added` up to it.
    trail: Option<Vec<(EntryId, u64)>>,
    // Entries that were read at any time.
    path: Path,
    // Entries that were read and then lost when Redis came back with older data: those after the
    // first id, up to the second.
    vanished: Vec<(EntryId, EntryId)>,
}

/// Rollbacks of one stream that are remembered, at most.
const MAX_VANISHED: usize = 8;

/// The result of comparing the progress with what Redis reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// No difference.
    Same,
    /// Reading starts after this entry.
    Begins(EntryId),
    /// Entries are missing, up to this one; reading continues after it.
    Missing(GapReason, EntryId),
}

impl Followed {
    /// Records that `XINFO STREAM` is about to be sent. It must not be sent again before the reply
    /// was compared.
    pub(super) fn note_asked(&mut self) {
        self.trail = Some(self.last.map(|last| (last, self.counted)).into_iter().collect());
    }

    /// Compares the progress with the reply to `XINFO STREAM`.
    pub(super) fn compare(&mut self, info: &Info) -> Finding {
        let trail = mem::take(&mut self.trail).unwrap_or_default();
        let Some(last) = self.last else {
            self.last = Some(info.last);
            (self.counted, self.is_uncounted) = (info.added.unwrap_or(0), info.added.is_none());
            self.path.begin(Reached { id: info.last, count: self.counted, check: info.last_check });
            return Finding::Begins(info.last);
        };
        // The progress when the command was sent: more entries may have been read since.
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
            // The stream was deleted and created again, with higher ids.
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
                // The entries up to there were deleted and will never arrive.
                self.last = Some(info.last);
                let found = self.settle(self.counted, added, info.last);
                self.path.push(Reached { id: info.last, count: self.counted, check: None });
                return found;
            }
            self.expected = Some((info.last, added));
        }
        Finding::Same
    }

    /// Records that an entry was read, with its fingerprint. Returns what is missing before it, if
    /// that is known now.
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
                // The entry itself was deleted: how many came before it is unknown.
                if id == place { self.settle(counted, added, id) } else { Finding::Same }
            }
            _ => Finding::Same,
        }
    }

    /// Like [`Self::compare`], after a disconnect. If Redis does not report `entries-added`, the
    /// number of entries deleted meanwhile is unknown: everything that may be missing counts as
    /// missing.
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

    /// Compares the count up to `place` with the one that Redis reports.
    fn settle(&mut self, counted: u64, added: u64, place: EntryId) -> Finding {
        let Some(missed) = added.checked_sub(counted).filter(|missed| *missed > 0) else {
            return Finding::Same;
        };
        self.counted += missed;
        Finding::Missing(GapReason::Trimmed, place)
    }

    /// The entry after which a client that knows `id` has to resume, if `id` was lost in a
    /// rollback; `None` if it was not.
    pub(super) fn returned_to(&self, id: EntryId) -> Option<EntryId> {
        let before = |id: EntryId, &(kept, until): &(EntryId, EntryId)| {
            if kept < id && id <= until { kept } else { id }
        };
        let place = self.vanished.iter().fold(id, before);
        (place < id).then_some(place)
    }

    /// The stream is the same, rolled back to an earlier end.
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
    fn entries_trimmed_before_they_were_read_are_detected() {
        let mut stream = begun(5, 10);
        stream.note_asked();
        assert_eq!(stream.compare(&info(5, 1, 10)), Finding::Same);
        // Detected only when that entry is read.
        stream.note_asked();
        assert_eq!(stream.compare(&info(9, 1, 14)), Finding::Same);
        assert_eq!(stream.read(id(8), None), Finding::Same);
        assert_eq!(stream.read(id(9), None), Finding::Missing(GapReason::Trimmed, id(9)));
        // Reported once.
        stream.note_asked();
        assert_eq!(stream.compare(&info(9, 1, 14)), Finding::Same);
        assert_eq!(stream.read(id(10), None), Finding::Same);
    }

    #[test]
    fn entries_read_while_xinfo_is_pending_are_no_difference() {
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
    fn a_stream_that_was_created_again_is_detected() {
        let mut stream = begun(5, 10);
        stream.note_asked();
        let reset = |place| Finding::Missing(GapReason::Reset, place);
        assert_eq!(stream.compare(&Info::NONE), reset(EntryId::ZERO));
        stream.note_asked();
        assert_eq!(stream.compare(&Info::NONE), Finding::Same, "reported once");
        assert_eq!(stream.read(id(1), None), Finding::Same);
        stream.note_asked();
        assert_eq!(stream.compare(&info(1, 1, 1)), Finding::Same);

        let mut higher = begun(5, 10);
        higher.note_asked();
        assert_eq!(higher.compare(&info(7, 1, 1)), reset(id(5)));
    }

    #[test]
    fn deleted_entries_are_not_awaited() {
        let mut stream = begun(5, 10);
        stream.note_asked();
        let found = stream.compare(&info(8, 0, 13));
        assert_eq!(found, Finding::Missing(GapReason::Trimmed, id(8)));
        assert_eq!(stream.last, Some(id(8)));
    }

    #[test]
    fn a_rollback_is_recognized_by_the_entries_that_were_read() {
        let mut stream = begun(5, 10);
        for ms in 6..=20 {
            assert_eq!(stream.read(id(ms), None), Finding::Same);
        }
        stream.note_asked();
        let rolled_back = |ms| Finding::Missing(GapReason::RolledBack, id(ms));
        assert_eq!(stream.compare(&info(12, 8, 17)), rolled_back(12));
        stream.note_asked();
        assert_eq!(stream.compare(&info(12, 8, 17)), Finding::Same, "reported once");
        for (ms, place) in [(11, None), (12, None), (13, Some(12)), (20, Some(12)), (21, None)] {
            assert_eq!(stream.returned_to(id(ms)), place.map(id), "{ms}");
        }
        // The stream continues, and is rolled back once more.
        for ms in 30..=40 {
            assert_eq!(stream.read(id(ms), None), Finding::Same);
        }
        stream.note_asked();
        assert_eq!(stream.compare(&info(9, 5, 14)), rolled_back(9));
        assert_eq!(stream.returned_to(id(20)), Some(id(9)));
        assert_eq!(stream.returned_to(id(35)), Some(id(9)));
    }

    #[test]
    fn another_stream_with_lower_ids_is_a_reset_and_not_a_rollback() {
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
            // The last entry was never read, or its contents differ; or there are too few entries.
            info(3, 1, 1),
            info(12, 1, 1),
            Info { last_check: Some(2), ..info(12, 8, 17) },
            Info::NONE,
        ] {
            assert_eq!(read().compare(&other), reset, "{other:?}");
        }
    }
}
