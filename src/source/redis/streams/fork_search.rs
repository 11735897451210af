//! Finds out up to which entry a stream is the one that was read.
//!
//! Redis replicates asynchronously. After a failover, or when an older state was restored, the stream may end
//! earlier, or continue with entries of other writers, with any ids. The search looks for the checkpoints, from
//! the newest to the oldest. From the newest one that exists it compares the stream with the hashes of the
//! entries that were read. Pure: one command at a time, and its reply. Knows neither the connection nor what is
//! done with the outcome.

use ssegate_hub::EntryId;

use super::checkpoints::{Checkpoint, Checkpoints, Trace};
use super::entry::{EntriesReply, StreamEntry};
use super::info::StreamInfo;
use super::recent_entries::RecentEntries;

/// Entries compared together.
const PAGE: usize = 200;
/// The number of checkpoints that must exist before the search ends, if none is missing: writers choose ids, and
/// may have chosen the same one twice.
const ENOUGH: u8 = 2;

/// What was read of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamTrail<'a> {
    /// The id up to which everything was read.
    pub(super) last: EntryId,
    /// `entries-added` at `last`; only the entries that were read if that is not known.
    pub(super) count: u64,
    pub(super) is_count_known: bool,
    pub(super) checkpoints: &'a Checkpoints,
    pub(super) recent: &'a RecentEntries,
}

/// Up to where a stream is still the one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ForkOutcome {
    /// All of it, as far as it can be known.
    Whole,
    /// Up to the entry `kept`; the entries after it are lost. `count` is `entries-added` up to it.
    Forked { kept: EntryId, count: u64 },
    /// Nothing: it is a new stream.
    Anew,
}

/// The next step.
#[derive(Debug)]
pub(super) enum SearchStep {
    /// Send [`ForkSearch::command`], and hand its reply to [`ForkSearch::handle`].
    Fetch(ForkSearch),
    /// The search has ended.
    Done(ForkOutcome),
}

/// A search in progress.
#[derive(Debug)]
pub(super) struct ForkSearch {
    info: StreamInfo,
    /// An entry that was read does not exist, and was not deleted.
    is_lost: bool,
    /// An entry that was read does not exist, and may have been deleted.
    has_deleted: bool,
    /// The number of checkpoints that exist.
    confirmed: u8,
    stage: SearchStage,
}

#[derive(Clone, Copy, Debug)]
enum SearchStage {
    /// Looks for a checkpoint.
    Look(Checkpoint),
    /// Compares the entries after a checkpoint, or from the start.
    Compare(HashComparison),
}

/// How far a stream was compared with the hashes of what was read.
#[derive(Clone, Copy, Debug)]
struct HashComparison {
    /// The checkpoint after which the comparison began.
    found: Option<Checkpoint>,
    /// The last entry that was fetched.
    at: EntryId,
    /// The last entry that has a hash, and the index of the hash.
    matched: Option<(EntryId, usize)>,
    /// The number of entries after `found` that were read too long ago to have a hash.
    without_hash: u64,
}

impl ForkSearch {
    /// Begins a search, with what Redis reports about the stream.
    pub(super) fn begin(info: StreamInfo, trail: &StreamTrail<'_>) -> SearchStep {
        if info.last == EntryId::ZERO {
            let is_whole = trail.last == EntryId::ZERO;
            return SearchStep::Done(if is_whole { ForkOutcome::Whole } else { ForkOutcome::Anew });
        }
        let is_lost = info.last < trail.last;
        let stage = SearchStage::Compare(HashComparison::after(None, trail));
        let search = Self { info, is_lost, has_deleted: false, confirmed: 0, stage };
        search.look(info.last, trail)
    }

    /// The command to send, and its arguments.
    pub(super) fn command(&self, name: &str) -> (&'static str, Vec<String>) {
        let (command, first, last, count) = match self.stage {
            // The newest entry up to this id. An older entry shows that the checkpoint was not trimmed.
            SearchStage::Look(Checkpoint { id, .. }) => {
                ("XREVRANGE", id.to_string(), "-".to_owned(), 1)
            }
            SearchStage::Compare(HashComparison { at, .. }) => {
                ("XRANGE", format!("({at}"), "+".to_owned(), PAGE)
            }
        };
        (command, vec![name.to_owned(), first, last, "COUNT".to_owned(), count.to_string()])
    }

    /// Handles the reply to that command.
    pub(super) fn handle(self, reply: &EntriesReply, trail: &StreamTrail<'_>) -> SearchStep {
        match self.stage {
            SearchStage::Look(checkpoint) => self.handle_checkpoint(checkpoint, reply, trail),
            SearchStage::Compare(comparison) => self.handle_page(comparison, reply, trail),
        }
    }

    /// Looks for the newest checkpoint up to `id`.
    fn look(self, id: EntryId, trail: &StreamTrail<'_>) -> SearchStep {
        match trail.checkpoints.newest_entry(id) {
            Some(checkpoint) => {
                SearchStep::Fetch(Self { stage: SearchStage::Look(checkpoint), ..self })
            }
            None if self.is_lost => self.compare_after(None, trail),
            None => SearchStep::Done(ForkOutcome::Whole),
        }
    }

    fn handle_checkpoint(
        mut self,
        checkpoint: Checkpoint,
        reply: &EntriesReply,
        trail: &StreamTrail<'_>,
    ) -> SearchStep {
        let id = checkpoint.id;
        match reply.entries.first() {
            Some(entry) if entry.id == id && checkpoint.trace.fits(entry.fingerprint) => {
                return self.handle_found(checkpoint, trail);
            }
            Some(entry) if entry.id < id && self.may_be_deleted(id) => {
                self.has_deleted = true;
            }
            Some(_) => self.is_lost = true,
            // No older checkpoint exists either.
            None if self.is_lost => return self.compare_after(None, trail),
            None => {
                let is_anew = self.confirmed == 0 && self.is_begun_after(id, trail);
                let outcome = if is_anew { ForkOutcome::Anew } else { ForkOutcome::Whole };
                return SearchStep::Done(outcome);
            }
        }
        self.look(id.previous(), trail)
    }

    /// Whether an entry with this id may have been deleted rather than lost. It does not exist, although older
    /// ones do. Redis before 7 does not report what was deleted. There the entry was deleted if the stream still
    /// ends with its id: a stream that had lost it would end before that, or with an entry. Then older ones may
    /// be deleted as well.
    fn may_be_deleted(&self, id: EntryId) -> bool {
        if self.info.max_deleted.is_some() {
            return self.info.may_have_deleted(id);
        }
        id == self.info.last || self.has_deleted || self.confirmed > 0
    }

    fn handle_found(mut self, checkpoint: Checkpoint, trail: &StreamTrail<'_>) -> SearchStep {
        if self.is_lost || (self.has_deleted && trail.has_all_after(&checkpoint)) {
            return self.compare_after(Some(checkpoint), trail);
        }
        self.confirmed += 1;
        match self.has_deleted || self.confirmed == ENOUGH {
            true => SearchStep::Done(ForkOutcome::Whole),
            false => self.look(checkpoint.id.previous(), trail),
        }
    }

    /// Whether the stream was begun after `id`; all of its entries are newer. Otherwise it was trimmed.
    fn is_begun_after(&self, id: EntryId, trail: &StreamTrail<'_>) -> bool {
        let Some(added) = self.info.added.filter(|_| trail.is_count_known) else { return false };
        let was_there = self.info.first.is_some_and(|first| first <= id);
        added < trail.count || (added == self.info.length && !was_there)
    }

    fn compare_after(self, found: Option<Checkpoint>, trail: &StreamTrail<'_>) -> SearchStep {
        let stage = SearchStage::Compare(HashComparison::after(found, trail));
        SearchStep::Fetch(Self { stage, ..self })
    }

    fn handle_page(
        self,
        mut comparison: HashComparison,
        reply: &EntriesReply,
        trail: &StreamTrail<'_>,
    ) -> SearchStep {
        let unread = reply.entries.iter().find(|entry| !comparison.pass(entry, trail));
        let unread = unread.map(|entry| entry.id);
        let is_all = reply.entries.len() < PAGE && !reply.is_truncated;
        if unread.is_none() && !is_all {
            return SearchStep::Fetch(Self { stage: SearchStage::Compare(comparison), ..self });
        }
        if !self.is_lost && unread.is_none_or(|unread| unread > trail.last) {
            return SearchStep::Done(ForkOutcome::Whole);
        }
        SearchStep::Done(match (comparison.matched, comparison.found) {
            (Some((kept, place)), _) => ForkOutcome::Forked { kept, count: trail.count_at(place) },
            (None, Some(found)) => self.forked_after(&found, trail),
            (None, None) => self.begun_before(trail),
        })
    }

    /// The outcome if no entry that was read exists.
    fn begun_before(&self, trail: &StreamTrail<'_>) -> ForkOutcome {
        // Entries before the first one that was read may be the same.
        let may_be_same = |began: &Checkpoint| {
            let has_older = self.info.first.is_some_and(|first| first <= began.id);
            has_older && self.info.added.is_none_or(|added| added >= began.count)
        };
        match trail.began_behind().filter(may_be_same) {
            Some(began) => ForkOutcome::Forked { kept: began.id, count: began.count },
            None => ForkOutcome::Anew,
        }
    }

    /// The outcome if the entry `found` exists, and no hash matches an entry after it.
    fn forked_after(&self, found: &Checkpoint, trail: &StreamTrail<'_>) -> ForkOutcome {
        let lost = trail.checkpoints.next(found.id);
        let is_between = |added: &u64| {
            let ends_before =
                lost.is_some_and(|lost| *added < lost.count && self.info.last < lost.id);
            found.count < *added && ends_before
        };
        // The last common entry was read too long ago to have a hash. By its count, the stream ends between two
        // checkpoints.
        let added = self.info.added.filter(|_| trail.is_count_known);
        match added.filter(is_between).filter(|_| !trail.has_all_after(found)) {
            Some(count) => ForkOutcome::Forked { kept: self.info.last, count },
            None => ForkOutcome::Forked { kept: found.id, count: found.count },
        }
    }
}

impl HashComparison {
    fn after(found: Option<Checkpoint>, trail: &StreamTrail<'_>) -> Self {
        let base = found.or_else(|| trail.began_behind());
        let read = base.map_or(0, |base| trail.count.saturating_sub(base.count));
        let without_hash = read.saturating_sub(trail.recent.len() as u64);
        let at = base.map_or(EntryId::ZERO, |base| base.id);
        Self { found, at, matched: None, without_hash }
    }

    /// Moves past an entry; returns false if it was not read.
    fn pass(&mut self, entry: &StreamEntry, trail: &StreamTrail<'_>) -> bool {
        self.at = entry.id;
        let from = self.matched.map_or(0, |(_, place)| place + 1);
        if let Some(place) = trail.recent.find(from, entry.id, entry.fingerprint) {
            self.matched = Some((entry.id, place));
            return true;
        }
        let may_be_read = self.matched.is_none() && self.without_hash > 0;
        self.without_hash = self.without_hash.saturating_sub(1);
        may_be_read
    }
}

impl StreamTrail<'_> {
    /// The position where reading began, if there was no entry: it cannot be looked for.
    fn began_behind(&self) -> Option<Checkpoint> {
        self.checkpoints.oldest().filter(|oldest| oldest.trace == Trace::None)
    }

    /// Whether all entries that were read after this checkpoint have a hash.
    fn has_all_after(&self, checkpoint: &Checkpoint) -> bool {
        self.count.saturating_sub(checkpoint.count) <= self.recent.len() as u64
    }

    /// `entries-added` up to the entry whose hash has this index.
    fn count_at(&self, place: usize) -> u64 {
        self.count.saturating_sub(self.recent.len().saturating_sub(place + 1) as u64)
    }
}
