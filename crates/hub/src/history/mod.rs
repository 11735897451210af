//! The bounded past of one channel.
//!
//! Keeps the newest records within a count, a size and an age, and returns those after a number; of a
//! log, also those after an id. Pure: time is passed in. Knows neither subscribers nor other channels:
//! [`page`] merges the histories of several channels for a replay, and [`budget`] bounds all of them
//! together.

pub(super) mod budget;
pub(super) mod foreign_ids;
mod log_ids;
pub(super) mod merge;
pub(super) mod page;
pub(super) mod record;
pub(super) mod retention;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use tokio::time::Instant;

use self::foreign_ids::ForeignIds;
use self::log_ids::LogIds;
use self::record::{HistoryRecord, RecordContent};
use self::retention::HistorySettings;
use crate::EntryId;
use crate::fleet::name::EventName;

/// What the allocation of a frame takes beside its text, in bytes.
const FRAME_BYTES: usize = 144;
/// A history whose buffer has room for more unused records than this frees it.
const MAX_UNUSED: usize = 64;

/// What is kept of one channel.
#[derive(Debug)]
pub(super) struct History {
    settings: HistorySettings,
    // Invariant: numbers ascend.
    records: VecDeque<HistoryRecord>,
    // Invariant: the sum of the lengths of the frames in `records`.
    bytes: usize,
    // Everything after this number is in `records`; of what came before, something may be missing.
    complete_after: u64,
    // The name of the newest record that was dropped, whose number is `complete_after`.
    dropped: EventName,
    log: Option<LogIds>,
    foreign: Option<ForeignIds>,
}

impl History {
    /// An empty history of a channel that is followed from `number` on.
    pub(super) fn new(settings: HistorySettings, number: u64) -> Self {
        let (records, dropped) = (VecDeque::new(), EventName::default());
        Self {
            settings,
            records,
            bytes: 0,
            complete_after: number,
            dropped,
            log: None,
            foreign: None,
        }
    }

    /// The history of a channel of an earlier hub: its records, and the number after which it is complete.
    /// That number is the one of the message `dropped`.
    pub(super) fn of_records(
        settings: HistorySettings,
        (complete_after, dropped): (u64, EventName),
        records: impl IntoIterator<Item = HistoryRecord>,
    ) -> Self {
        let records: VecDeque<_> = records.into_iter().collect();
        let bytes = records.iter().map(|record| record.content.bytes()).sum();
        Self { records, bytes, dropped, ..Self::new(settings, complete_after) }
    }

    /// An empty history of a channel whose publisher may give the ids, and that is followed from `number` on.
    pub(super) fn of_foreign_ids(settings: HistorySettings, number: u64) -> Self {
        Self { foreign: Some(ForeignIds::default()), ..Self::new(settings, number) }
    }

    pub(super) fn settings(&self) -> HistorySettings {
        self.settings
    }

    /// The memory that it takes, in bytes.
    pub(super) fn held(&self) -> usize {
        let ids = self.log.as_ref().map_or(0, |log| log.ids.capacity());
        let foreign = self.foreign.as_ref().map_or(0, ForeignIds::held);
        self.bytes
            + foreign
            + self.records.len() * FRAME_BYTES
            + self.records.capacity() * size_of::<HistoryRecord>()
            + ids * size_of::<EntryId>()
    }

    /// The number after which nothing is missing.
    pub(super) fn complete_after(&self) -> u64 {
        self.complete_after
    }

    /// The number of the newest record, kept or dropped; before the first, where it begins.
    pub(super) fn newest_number(&self) -> u64 {
        self.records.back().map_or(self.complete_after, |newest| newest.number)
    }

    /// When the newest kept record was received.
    pub(super) fn newest_received(&self) -> Option<Instant> {
        self.records.back().map(|newest| newest.received)
    }

    /// Changes the bounds; what is over them is dropped at once.
    pub(super) fn set_bounds(&mut self, settings: HistorySettings, now: Instant) {
        self.settings = settings;
        self.drop_surplus();
        self.expire(now);
    }

    /// The channel is confirmed: it is complete after `number`.
    pub(super) fn begin(&mut self, number: u64) {
        debug_assert!(self.records.is_empty(), "nothing is kept before the confirmation");
        if number > self.complete_after {
            self.complete_after = number;
            self.dropped = EventName::default();
            if let Some(foreign) = &mut self.foreign {
                foreign.dropped = None;
            }
        }
    }

    /// Drops the records up to `number`, of which some may be missing. Clients are not known to have them.
    pub(super) fn begin_after(&mut self, number: u64) {
        while self.records.front().is_some_and(|oldest| oldest.number <= number) {
            self.drop_oldest();
        }
        if self.complete_after <= number {
            self.complete_after = number;
            self.dropped = EventName::default();
        }
    }

    /// Replaces the records up to `number` with an earlier history.
    pub(super) fn continue_from(&mut self, number: u64, earlier: Self) {
        debug_assert!(self.complete_after <= number && earlier.newest_number() <= number);
        let later = self.records.drain(..).filter(|record| record.number > number);
        let later: Vec<_> = later.collect();
        let settings = self.settings;
        *self = earlier;
        self.bytes += later.iter().map(|record| record.content.bytes()).sum::<usize>();
        self.records.extend(later);
        self.settings = settings;
        self.drop_surplus();
    }

    /// Removes the gap with this number: nothing is missing there after all.
    pub(super) fn remove_gap(&mut self, number: u64) {
        let at = self.records.binary_search_by_key(&number, |record| record.number);
        if let Ok(at) = at
            && !self.records[at].is_message()
        {
            self.records.remove(at);
        }
    }

    /// Its records, the oldest first.
    pub(super) fn records(&self) -> impl Iterator<Item = &HistoryRecord> {
        self.records.iter()
    }

    /// The name of the newest record that was dropped.
    pub(super) fn dropped(&self) -> EventName {
        self.dropped
    }

    /// Keeps a record, and drops what no longer fits. `number` is greater than all before; `entry` is
    /// its id where the channel is a log, or the id up to which a gap reaches.
    pub(super) fn push(
        &mut self,
        number: u64,
        entry: Option<EntryId>,
        (content, name): (RecordContent, EventName),
        received: Instant,
    ) {
        debug_assert!(self.records.back().is_none_or(|newest| newest.number < number));
        if let (Some(log), Some(id)) = (&mut self.log, entry) {
            debug_assert!(log.ids.back().is_none_or(|newest| *newest <= id));
            log.ids.push_back(id);
        }
        if let Some(foreign) = &mut self.foreign {
            foreign.add(content.id());
        }
        self.bytes += content.bytes();
        self.records.push_back(HistoryRecord { number, received, name, content });
        self.drop_surplus();
        self.expire(received);
    }

    /// Drops what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.records.front().is_some_and(|oldest| {
            now.saturating_duration_since(oldest.received) > self.settings.age
        }) {
            self.drop_oldest();
        }
        if self.records.capacity() > MAX_UNUSED.max(4 * self.records.len()) {
            self.records.shrink_to(2 * self.records.len());
            if let Some(log) = &mut self.log {
                log.ids.shrink_to(2 * self.records.len());
            }
        }
    }

    /// Drops every record. A client that has the newest of them has missed nothing.
    pub(super) fn evict(&mut self) {
        let Some((newest, name)) = self.records.back().map(|newest| (newest.number, newest.name))
        else {
            // Expired records may have left spare capacity, which counts as held.
            self.records = VecDeque::new();
            if let Some(log) = &mut self.log {
                log.ids = VecDeque::new();
            }
            return;
        };
        let newest_foreign = self.newest_foreign_id();
        let newest_id = self.log.as_ref().and_then(|log| log.ids.back().copied());
        if let Some(id) = newest_id {
            let loss = self.records.back().and_then(HistoryRecord::loss);
            self.begin_log(newest, id);
            if let Some(log) = &mut self.log {
                log.dropped_loss = loss;
            }
        } else {
            self.records = VecDeque::new();
            self.bytes = 0;
            self.begin(newest);
        }
        self.dropped = name;
        if let Some(foreign) = &mut self.foreign {
            foreign.drop_all(newest_foreign);
        }
    }

    /// The newest message and its name, whether it is kept or not; `None` if there was none after `number`.
    pub(super) fn newest_message(&self, number: u64) -> Option<(u64, EventName)> {
        let mut newest = self.records.iter().rev().take_while(|record| record.number > number);
        let kept = newest.find(|record| record.is_message());
        let kept = kept.map(|record| (record.number, record.name));
        let dropped = self.complete_after > number;
        kept.or_else(|| dropped.then_some((self.complete_after, self.dropped)))
    }

    /// The number of the message with this name, if it is kept, or the newest that was dropped. `mark` is the
    /// number at which the mark of the name stood, if that is remembered.
    pub(super) fn number_of(&self, name: EventName, mark: Option<u64>) -> Option<u64> {
        if name == self.dropped {
            return Some(self.complete_after);
        }
        let after =
            mark.map_or(0, |mark| self.records.partition_point(|record| record.number <= mark));
        // Where nothing was dropped since the mark, it stands right there.
        let found = |record: &&HistoryRecord| record.name == name;
        let there =
            usize::try_from(name.k).ok().and_then(|k| self.records.get(after + k.checked_sub(1)?));
        let record = there.filter(found).or_else(|| self.records.range(after..).find(found))?;
        Some(record.number)
    }

    /// Whether nothing has been kept or dropped after `number`.
    pub(super) fn is_quiet_since(&self, number: u64) -> bool {
        self.complete_after <= number
            && self.records.back().is_none_or(|newest| newest.number <= number)
    }

    /// The number after which the newest `count` events come, or all that are kept if they are fewer.
    pub(super) fn number_before_newest(&self, count: usize) -> u64 {
        let events = self.records.iter().enumerate().rev().filter(|(_, record)| record.is_event());
        match events.take(count).last() {
            Some((0, _)) => self.complete_after,
            Some((oldest, _)) => self.records[oldest - 1].number,
            None => self.records.back().map_or(self.complete_after, |newest| newest.number),
        }
    }

    /// The records after `number`, with their ids in a log. A binary search.
    fn after(&self, number: u64) -> impl Iterator<Item = (&HistoryRecord, Option<EntryId>)> {
        let start = self.records.partition_point(|record| record.number <= number);
        let ids = self.log.as_ref().map(|log| &log.ids);
        self.records
            .range(start..)
            .enumerate()
            .map(move |(at, record)| (record, ids.and_then(|ids| ids.get(start + at).copied())))
    }

    fn drop_surplus(&mut self) {
        while self.records.len() > self.settings.count || self.bytes > self.settings.bytes {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let mut loss = None;
        if let Some(oldest) = self.records.pop_front() {
            self.bytes -= oldest.content.bytes();
            self.complete_after = oldest.number;
            self.dropped = oldest.name;
            if let Some(foreign) = &mut self.foreign {
                foreign.drop_oldest(oldest.content.id());
            }
            loss = oldest.loss();
        }
        if let Some(log) = &mut self.log
            && let Some(oldest) = log.ids.pop_front()
        {
            log.complete_after = oldest;
            log.dropped_loss = loss;
        }
    }
}
