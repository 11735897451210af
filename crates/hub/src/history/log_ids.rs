//! The ids of the records of a log, and where a client with such an id stands.

use std::collections::VecDeque;

use super::History;
use super::retention::HistorySettings;
use crate::EntryId;
use crate::gap::GapReason;

/// The ids of the records of a log.
#[derive(Debug)]
pub(super) struct LogIds {
    // Invariant: one for each record, and they do not descend. A gap has the id up to which it reaches; a
    // loss has the id after which the log went on.
    pub(super) ids: VecDeque<EntryId>,
    // Everything after this id is in `ids`; of what came before, something may be missing.
    pub(super) complete_after: EntryId,
    // Why the entries after `complete_after` were lost, if the record of that loss was dropped.
    pub(super) dropped_loss: Option<GapReason>,
}

impl History {
    /// An empty history of a log that is read from the entry `id` on, which came before `number`.
    pub(crate) fn of_log(settings: HistorySettings, number: u64, id: EntryId) -> Self {
        let log = LogIds { ids: VecDeque::new(), complete_after: id, dropped_loss: None };
        Self { log: Some(log), ..Self::new(settings, number) }
    }

    /// The log is read from the entry `id` on: drops what was kept of it.
    pub(crate) fn begin_log(&mut self, number: u64, id: EntryId) {
        *self = Self::of_log(self.settings, self.complete_after.max(number), id);
    }

    /// The log has lost what came after `id`.
    pub(crate) fn roll_back(&mut self, number: u64, id: EntryId) {
        if self.log_complete_after() > id {
            self.begin_log(number, id);
        }
        while let Some(log) = &mut self.log
            && log.ids.back().is_some_and(|newest| *newest > id)
        {
            log.ids.pop_back();
            if let Some(gone) = self.records.pop_back() {
                self.bytes -= gone.content.bytes();
            }
        }
    }

    /// The id after which the newest `count` entries of the log come; `None` where fewer are kept.
    pub(crate) fn id_before_newest(&self, count: usize) -> Option<EntryId> {
        let log = self.log.as_ref()?;
        let events = self.records.iter().enumerate().rev().filter(|(_, record)| record.is_event());
        let (oldest, _) = events.take(count).nth(count.checked_sub(1)?)?;
        Some(oldest.checked_sub(1).map_or(log.complete_after, |before| log.ids[before]))
    }

    /// The id in the log after which nothing is missing here.
    pub(crate) fn log_complete_after(&self) -> EntryId {
        self.log.as_ref().map_or(EntryId::MAX, |log| log.complete_after)
    }

    /// Whether a stream that has everything up to `id` can be sent what follows from here. `number` is a
    /// number that it has come up to, at least.
    ///
    /// False if `id` is not that of a record: it may be gone because the log was restored from an older state
    /// or begun anew, or it may come from another gateway. False also if a loss right after it is no longer
    /// kept.
    pub(crate) fn knows(&self, id: EntryId, number: u64) -> bool {
        let Some(log) = &self.log else { return false };
        if id == log.complete_after {
            return log.dropped_loss.is_none() || self.complete_after <= number;
        }
        id > log.complete_after && log.ids.binary_search(&id).is_ok()
    }

    /// The number of the loss of the entries after `id`, if there is one and it is known. The log went on at `id`.
    pub(crate) fn loss_at(&self, id: EntryId) -> Option<u64> {
        let log = self.log.as_ref()?;
        let before = log.ids.partition_point(|known| *known <= id);
        let kept = self.records.range(..before).zip(log.ids.range(..before)).rev();
        let mut here = kept.take_while(|(_, known)| **known == id);
        let kept = here.find(|(record, _)| record.is_loss()).map(|(record, _)| record.number);
        kept.or_else(|| self.dropped_loss(id).map(|(number, _)| number))
    }

    /// The loss of the entries after `id`, if the history begins there and the record of the loss was
    /// dropped: its number and its reason.
    pub(crate) fn dropped_loss(&self, id: EntryId) -> Option<(u64, GapReason)> {
        let log = self.log.as_ref().filter(|log| log.complete_after == id)?;
        Some((self.complete_after, log.dropped_loss?))
    }

    /// Returns a number: the kept records after it are those that follow `id` in the log, for a stream that
    /// has come up to `reached` at least. A loss of the entries after `id` is among them, unless the stream
    /// has passed it. A binary search.
    pub(crate) fn number_at(&self, id: EntryId, reached: u64) -> u64 {
        let ids = self.log.as_ref().map(|log| &log.ids);
        let mut before = ids.map_or(0, |ids| ids.partition_point(|known| *known <= id));
        while let Some(newest) = before.checked_sub(1)
            && ids.is_some_and(|ids| ids[newest] == id)
            && self.records[newest].is_loss()
            && self.records[newest].number > reached
        {
            before = newest;
        }
        match before.checked_sub(1) {
            Some(newest) => self.records[newest].number,
            None => self.complete_after,
        }
    }
}
