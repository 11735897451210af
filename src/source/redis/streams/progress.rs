//! The progress of a followed stream: up to which entry it was read, whether entries are missing,
//! and whether it is still the same stream.

use std::mem;

use ssegate_hub::EntryId;
use ssegate_hub::GapReason;

use super::checkpoints::{Checkpoint, Checkpoints};
use super::info::StreamInfo;

/// A stream that the hub wants read. Outlives the connections.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamProgress {
    /// The id up to which everything was read; `None` if it is not known yet where to start.
    pub(super) last: Option<EntryId>,
    // `entries-added` at `last`: as Redis reported it where reading started, plus the entries read
    // since.
    count: u64,
    // Redis does not report `entries-added` (before Redis 7).
    lacks_count: bool,
    // An entry that is still to be read, and `entries-added` up to it.
    expected: Option<(EntryId, u64)>,
    // The ids read since the last `XINFO STREAM` was sent, each with `entries-added` up to it.
    recent: Option<Vec<(EntryId, u64)>>,
    // Entries that were read at any time.
    checkpoints: Checkpoints,
    // Entries that were read and then lost when Redis came back with older data: those after the
    // first id, up to the second.
    rollbacks: Vec<(EntryId, EntryId)>,
}

/// Rollbacks of one stream that are remembered, at most.
const MAX_ROLLBACKS: usize = 8;

/// The result of comparing the progress with what Redis reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// No difference.
    Same,
    /// Reading starts after this entry.
    Starts(EntryId),
    /// Entries are missing, up to this one; reading continues after it.
    Missing(GapReason, EntryId),
}

impl StreamProgress {
    /// Records that `XINFO STREAM` is about to be sent. It must not be sent again before the reply
    /// was compared.
    pub(super) fn begin_check(&mut self) {
        self.recent = Some(self.last.map(|last| (last, self.count)).into_iter().collect());
    }

    /// Compares the progress with the reply to `XINFO STREAM`.
    pub(super) fn compare(&mut self, info: &StreamInfo) -> Comparison {
        let recent = mem::take(&mut self.recent).unwrap_or_default();
        let Some(last) = self.last else {
            self.last = Some(info.last);
            (self.count, self.lacks_count) = (info.added.unwrap_or(0), info.added.is_none());
            self.checkpoints.reset(Checkpoint {
                id: info.last,
                count: self.count,
                fingerprint: info.last_fingerprint,
            });
            return Comparison::Starts(info.last);
        };
        // The progress when the command was sent: more entries may have been read since.
        let (position, count) = recent.first().copied().unwrap_or((last, self.count));
        if info.is_recreated_since(position) {
            let is_known = info.last > EntryId::ZERO
                && self.checkpoints.contains(info.last, info.added, info.last_fingerprint);
            return match is_known {
                true => self.roll_back(info, last),
                false => self.restart(EntryId::ZERO, 0),
            };
        }
        let Some(added) = info.added.filter(|_| !self.lacks_count) else {
            return Comparison::Same;
        };
        if added < count {
            // The stream was deleted and created again, with higher ids.
            let is_at_end = info.last == last;
            let comparison = self.restart(last, added);
            self.lacks_count = !is_at_end;
            return comparison;
        }
        if let Some((_, count)) = recent.iter().rev().find(|(position, _)| *position == info.last) {
            return self.reconcile(*count, added, last);
        }
        if info.last > last {
            if info.length == 0 {
                // The entries up to there were deleted and will never arrive.
                self.last = Some(info.last);
                let comparison = self.reconcile(self.count, added, info.last);
                self.checkpoints.push(Checkpoint {
                    id: info.last,
                    count: self.count,
                    fingerprint: None,
                });
                return comparison;
            }
            self.expected = Some((info.last, added));
        }
        Comparison::Same
    }

    /// Records that an entry was read, with its fingerprint. Returns what is missing before it, if
    /// that is known now.
    pub(super) fn record_entry(&mut self, id: EntryId, fingerprint: Option<u32>) -> Comparison {
        self.last = Some(id);
        self.count += 1;
        let count = self.count;
        self.checkpoints.push(Checkpoint { id, count, fingerprint });
        if let Some(recent) = &mut self.recent {
            recent.push((id, count));
        }
        match self.expected {
            Some((position, added)) if id >= position => {
                self.expected = None;
                // The entry itself was deleted: how many came before it is unknown.
                if id == position { self.reconcile(count, added, id) } else { Comparison::Same }
            }
            _ => Comparison::Same,
        }
    }

    /// Like [`Self::compare`], after a disconnect. If Redis does not report `entries-added`, the
    /// number of entries deleted meanwhile is unknown: everything that may be missing counts as
    /// missing.
    pub(super) fn compare_after_reconnect(&mut self, info: &StreamInfo) -> Comparison {
        let comparison = self.compare(info);
        match (comparison, info.added, self.last) {
            (Comparison::Same, None, Some(last)) => match info.missing_after(last) {
                Some((GapReason::Trimmed, position)) => {
                    self.last = Some(position);
                    self.checkpoints.push(Checkpoint {
                        id: position,
                        count: self.count,
                        fingerprint: None,
                    });
                    Comparison::Missing(GapReason::Trimmed, position)
                }
                _ => Comparison::Same,
            },
            _ => comparison,
        }
    }

    /// Compares the count up to `position` with the one that Redis reports.
    fn reconcile(&mut self, count: u64, added: u64, position: EntryId) -> Comparison {
        let Some(missed) = added.checked_sub(count).filter(|missed| *missed > 0) else {
            return Comparison::Same;
        };
        self.count += missed;
        Comparison::Missing(GapReason::Trimmed, position)
    }

    /// The entry after which a client that knows `id` has to resume, if `id` was lost in a
    /// rollback; `None` if it was not.
    pub(super) fn rolled_back_to(&self, id: EntryId) -> Option<EntryId> {
        let before = |id: EntryId, &(kept, until): &(EntryId, EntryId)| {
            if kept < id && id <= until { kept } else { id }
        };
        let position = self.rollbacks.iter().fold(id, before);
        (position < id).then_some(position)
    }

    /// The stream is the same, rolled back to an earlier end.
    fn roll_back(&mut self, info: &StreamInfo, last: EntryId) -> Comparison {
        if self.rollbacks.len() == MAX_ROLLBACKS {
            self.rollbacks.remove(0);
        }
        self.rollbacks.push((info.last, last));
        self.checkpoints.truncate_after(info.last);
        self.last = Some(info.last);
        self.count = info.added.unwrap_or(self.count);
        self.expected = None;
        Comparison::Missing(GapReason::RolledBack, info.last)
    }

    fn restart(&mut self, position: EntryId, count: u64) -> Comparison {
        *self = Self { last: Some(position), count, ..Self::default() };
        self.checkpoints.reset(Checkpoint { id: position, count, fingerprint: None });
        Comparison::Missing(GapReason::Reset, position)
    }
}

#[cfg(test)]
mod tests {
    use ssegate_hub::EntryId;
    use ssegate_hub::GapReason;

    use super::{Comparison, StreamProgress};
    use crate::source::redis::streams::info::StreamInfo;

    fn id(milliseconds: u64) -> EntryId {
        EntryId { milliseconds, sequence: 0 }
    }

    fn info(last: u64, length: u64, added: u64) -> StreamInfo {
        StreamInfo { last: id(last), length, added: Some(added), ..StreamInfo::default() }
    }

    fn started(last: u64, added: u64) -> StreamProgress {
        let mut stream = StreamProgress::default();
        let comparison = stream.compare(&info(last, 1, added));
        assert_eq!(comparison, Comparison::Starts(id(last)));
        stream
    }

    #[test]
    fn entries_trimmed_before_they_were_read_are_detected() {
        let mut stream = started(5, 10);
        stream.begin_check();
        assert_eq!(stream.compare(&info(5, 1, 10)), Comparison::Same);
        // Detected only when that entry is read.
        stream.begin_check();
        assert_eq!(stream.compare(&info(9, 1, 14)), Comparison::Same);
        assert_eq!(stream.record_entry(id(8), None), Comparison::Same);
        assert_eq!(
            stream.record_entry(id(9), None),
            Comparison::Missing(GapReason::Trimmed, id(9))
        );
        // Reported once.
        stream.begin_check();
        assert_eq!(stream.compare(&info(9, 1, 14)), Comparison::Same);
        assert_eq!(stream.record_entry(id(10), None), Comparison::Same);
    }

    #[test]
    fn entries_read_while_xinfo_is_pending_are_no_difference() {
        let mut stream = started(5, 10);
        stream.begin_check();
        for ms in 6..9 {
            assert_eq!(stream.record_entry(id(ms), None), Comparison::Same);
        }
        assert_eq!(stream.compare(&info(7, 3, 12)), Comparison::Same);
        stream.begin_check();
        assert_eq!(stream.compare(&info(8, 3, 13)), Comparison::Same);
    }

    #[test]
    fn a_stream_that_was_created_again_is_detected() {
        let mut stream = started(5, 10);
        stream.begin_check();
        let reset = |position| Comparison::Missing(GapReason::Reset, position);
        assert_eq!(stream.compare(&StreamInfo::ABSENT), reset(EntryId::ZERO));
        stream.begin_check();
        assert_eq!(stream.compare(&StreamInfo::ABSENT), Comparison::Same, "reported once");
        assert_eq!(stream.record_entry(id(1), None), Comparison::Same);
        stream.begin_check();
        assert_eq!(stream.compare(&info(1, 1, 1)), Comparison::Same);

        let mut higher = started(5, 10);
        higher.begin_check();
        assert_eq!(higher.compare(&info(7, 1, 1)), reset(id(5)));
    }

    #[test]
    fn deleted_entries_are_not_awaited() {
        let mut stream = started(5, 10);
        stream.begin_check();
        let comparison = stream.compare(&info(8, 0, 13));
        assert_eq!(comparison, Comparison::Missing(GapReason::Trimmed, id(8)));
        assert_eq!(stream.last, Some(id(8)));
    }

    #[test]
    fn a_rollback_is_recognized_by_the_entries_that_were_read() {
        let mut stream = started(5, 10);
        for ms in 6..=20 {
            assert_eq!(stream.record_entry(id(ms), None), Comparison::Same);
        }
        stream.begin_check();
        let rolled_back = |ms| Comparison::Missing(GapReason::RolledBack, id(ms));
        assert_eq!(stream.compare(&info(12, 8, 17)), rolled_back(12));
        stream.begin_check();
        assert_eq!(stream.compare(&info(12, 8, 17)), Comparison::Same, "reported once");
        for (ms, position) in [(11, None), (12, None), (13, Some(12)), (20, Some(12)), (21, None)] {
            assert_eq!(stream.rolled_back_to(id(ms)), position.map(id), "{ms}");
        }
        // The stream continues, and is rolled back once more.
        for ms in 30..=40 {
            assert_eq!(stream.record_entry(id(ms), None), Comparison::Same);
        }
        stream.begin_check();
        assert_eq!(stream.compare(&info(9, 5, 14)), rolled_back(9));
        assert_eq!(stream.rolled_back_to(id(20)), Some(id(9)));
        assert_eq!(stream.rolled_back_to(id(35)), Some(id(9)));
    }

    #[test]
    fn another_stream_with_lower_ids_is_a_reset_and_not_a_rollback() {
        let read = || {
            let mut stream = started(5, 10);
            for ms in 6..=20 {
                stream.record_entry(id(ms), Some(1));
            }
            stream.begin_check();
            stream
        };
        let reset = Comparison::Missing(GapReason::Reset, EntryId::ZERO);
        for other in [
            // The last entry was never read, or its contents differ; or there are too few entries.
            info(3, 1, 1),
            info(12, 1, 1),
            StreamInfo { last_fingerprint: Some(2), ..info(12, 8, 17) },
            StreamInfo::ABSENT,
        ] {
            assert_eq!(read().compare(&other), reset, "{other:?}");
        }
    }
}
