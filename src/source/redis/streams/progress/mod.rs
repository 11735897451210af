//! The progress of a followed stream: up to which entry it was read, whether entries are missing,
//! and whether it is still the same stream.

#[cfg(test)]
mod tests;

use std::mem;

use ssegate_hub::EntryId;
use ssegate_hub::GapReason;

use super::checkpoints::{Checkpoint, Checkpoints, Trace};
use super::fork_search::{ForkOutcome, StreamTrail};
use super::info::StreamInfo;
use super::recent_entries::RecentEntries;
use super::rollbacks::Rollbacks;

/// A stream that the hub wants read. Outlives the connections.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamProgress {
    /// The id up to which everything was read; `None` if it is not known yet where to start.
    pub(super) last: Option<EntryId>,
    // `entries-added` at `last`: as Redis reported it where reading started, plus the entries read
    // since.
    count: u64,
    // `count` is not `entries-added`: Redis does not report that (before Redis 7), or the two differ.
    lacks_count: bool,
    // An entry that is still to be read, and `entries-added` up to it.
    expected: Option<(EntryId, u64)>,
    // The ids read since the last `XINFO STREAM` was sent, each with `entries-added` up to it.
    unchecked: Option<Vec<(EntryId, u64)>>,
    // Entries that were read, from any time; and hashes of the newest ones.
    checkpoints: Checkpoints,
    recent: RecentEntries,
    /// What was read and then lost.
    pub(super) rollbacks: Rollbacks,
}

/// The result of comparing the progress with what Redis reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// No difference.
    Same,
    /// Reading starts after this entry.
    Starts(EntryId),
    /// Entries are missing, up to this one; reading continues after it.
    Missing(GapReason, EntryId),
    /// It may be another stream: a [`ForkSearch`](super::fork_search::ForkSearch) has to find out.
    Doubtful,
}

impl StreamProgress {
    /// Records that `XINFO STREAM` is about to be sent. It must not be sent again before the reply
    /// was compared.
    pub(super) fn begin_check(&mut self) {
        self.unchecked = Some(self.last.map(|last| (last, self.count)).into_iter().collect());
    }

    /// Compares the progress with the reply to `XINFO STREAM`. On a new connection any stream may be
    /// another one: it may lead to another server.
    pub(super) fn compare(&mut self, info: &StreamInfo, is_new_connection: bool) -> Comparison {
        let unchecked = mem::take(&mut self.unchecked).unwrap_or_default();
        let Some(last) = self.last else { return self.start(info) };
        if is_new_connection {
            return Comparison::Doubtful;
        }
        // The progress when the command was sent: more entries may have been read since.
        let (position, count) = unchecked.first().copied().unwrap_or((last, self.count));
        let newest = self.checkpoints.at(info.last);
        let is_other = newest.is_some_and(|newest| !newest.trace.fits(info.last_fingerprint));
        let is_shorter = info.added.is_some_and(|added| !self.lacks_count && added < count);
        if info.is_recreated_since(position) || is_other || is_shorter {
            return Comparison::Doubtful;
        }
        self.compare_counts(info, &unchecked)
    }

    /// Compares the progress with the reply to `XINFO STREAM`, after a search. On a new connection nothing
    /// was read since the command was sent.
    pub(super) fn conclude(
        &mut self,
        outcome: ForkOutcome,
        info: &StreamInfo,
        is_new_connection: bool,
    ) -> Comparison {
        let Some(last) = self.last else { return Comparison::Same };
        self.expected = None;
        match outcome {
            ForkOutcome::Forked { kept, count } => self.roll_back(kept, count),
            ForkOutcome::Anew => self.begin_anew(last, info),
            // Nothing could be looked for: the stream was created again, with ids below those that were read.
            ForkOutcome::Whole if info.is_recreated_since(last) => self.begin_anew(last, info),
            ForkOutcome::Whole => {
                // The server counts differently.
                self.lacks_count |= info.added.is_some_and(|added| added < self.count);
                if !is_new_connection {
                    return Comparison::Same;
                }
                match self.compare_counts(info, &[(last, self.count)]) {
                    Comparison::Same if info.added.is_none() => self.skip_trimmed(info, last),
                    comparison => comparison,
                }
            }
        }
    }

    /// Records that an entry was read, with its fingerprint. Returns what is missing before it, if that becomes
    /// known.
    pub(super) fn record_entry(&mut self, id: EntryId, fingerprint: Option<u32>) -> Comparison {
        self.last = Some(id);
        // First: the missing entries come before this one, and are counted before it.
        let comparison = self.reach_expected(id);
        self.count += 1;
        let count = self.count;
        self.checkpoints.push(Checkpoint { id, count, trace: Trace::of(fingerprint) });
        self.recent.push(id, fingerprint);
        if let Some(unchecked) = &mut self.unchecked {
            unchecked.push((id, count));
        }
        comparison
    }

    /// What was read, for a search; `None` if reading has not started.
    pub(super) fn trail(&self) -> Option<StreamTrail<'_>> {
        Some(StreamTrail {
            last: self.last?,
            count: self.count,
            is_count_known: !self.lacks_count,
            checkpoints: &self.checkpoints,
            recent: &self.recent,
        })
    }

    fn start(&mut self, info: &StreamInfo) -> Comparison {
        self.last = Some(info.last);
        (self.count, self.lacks_count) = (info.added.unwrap_or(0), info.added.is_none());
        let trace = info.last_fingerprint.map_or(Trace::None, Trace::Contents);
        self.checkpoints.reset(Checkpoint { id: info.last, count: self.count, trace });
        Comparison::Starts(info.last)
    }

    /// Compares the count with the one that Redis reports. `unchecked`: the ids read since the command was
    /// sent.
    fn compare_counts(&mut self, info: &StreamInfo, unchecked: &[(EntryId, u64)]) -> Comparison {
        let (Some(last), Some(added)) = (self.last, info.added) else { return Comparison::Same };
        let newest = unchecked.iter().rev().find(|(position, _)| *position == info.last);
        if self.lacks_count {
            if let Some((_, count)) = newest {
                self.learn_count(added, *count);
            }
            return Comparison::Same;
        }
        if let Some((_, count)) = newest {
            return self.reconcile(*count, added, last);
        }
        if info.last > last {
            if info.length == 0 {
                // The entries up to there were deleted and will never arrive.
                self.last = Some(info.last);
                let comparison = self.reconcile(self.count, added, info.last);
                self.push_position(info.last);
                return comparison;
            }
            self.expected = Some((info.last, added));
        }
        Comparison::Same
    }

    /// What is missing before the entry `id`, which is about to be recorded, if it is the one whose count is known.
    fn reach_expected(&mut self, id: EntryId) -> Comparison {
        match self.expected {
            Some((position, added)) if id >= position => {
                self.expected = None;
                // The entry itself was deleted: how many came before it is unknown.
                match id == position {
                    true => self.reconcile(self.count + 1, added, id),
                    false => Comparison::Same,
                }
            }
            _ => Comparison::Same,
        }
    }

    /// Compares the count up to `position` with the one that Redis reports.
    fn reconcile(&mut self, count: u64, added: u64, position: EntryId) -> Comparison {
        let Some(missed) = added.checked_sub(count).filter(|missed| *missed > 0) else {
            return Comparison::Same;
        };
        self.count += missed;
        self.recent.skip(missed);
        Comparison::Missing(GapReason::Trimmed, position)
    }

    /// Corrects the count: where it was `count`, Redis reports `added`. The counts of the checkpoints are corrected
    /// as well.
    fn learn_count(&mut self, added: u64, count: u64) {
        let learnt = added + (self.count - count);
        self.lacks_count = false;
        self.checkpoints.recount(self.count, learnt);
        self.count = learnt;
    }

    /// Redis does not report `entries-added`, so the number of entries deleted while it was away is unknown:
    /// everything that may be missing counts as missing.
    fn skip_trimmed(&mut self, info: &StreamInfo, last: EntryId) -> Comparison {
        match info.missing_after(last) {
            Some((GapReason::Trimmed, position)) => {
                self.last = Some(position);
                self.push_position(position);
                Comparison::Missing(GapReason::Trimmed, position)
            }
            _ => Comparison::Same,
        }
    }

    /// Adds a checkpoint where reading continues without having read an entry.
    fn push_position(&mut self, id: EntryId) {
        self.checkpoints.push(Checkpoint { id, count: self.count, trace: Trace::None });
    }

    /// The stream is the same up to `kept`, and has lost the entries after it.
    fn roll_back(&mut self, kept: EntryId, count: u64) -> Comparison {
        let last = self.last.unwrap_or(kept);
        self.rollbacks.push(kept, last, GapReason::RolledBack);
        self.checkpoints.truncate_after(kept);
        self.recent.remove_newest(self.count.saturating_sub(count));
        self.last = Some(kept);
        self.count = count;
        Comparison::Missing(GapReason::RolledBack, kept)
    }

    /// No entry of the stream exists: another stream has its name. All of its entries are new.
    fn begin_anew(&mut self, last: EntryId, info: &StreamInfo) -> Comparison {
        let mut rollbacks = mem::take(&mut self.rollbacks);
        rollbacks.push(EntryId::ZERO, last, GapReason::Reset);
        let lacks_count = info.added.is_none();
        *self = Self { last: Some(EntryId::ZERO), lacks_count, rollbacks, ..Self::default() };
        let trace = Trace::None;
        self.checkpoints.reset(Checkpoint { id: EntryId::ZERO, count: 0, trace });
        Comparison::Missing(GapReason::Reset, EntryId::ZERO)
    }
}
