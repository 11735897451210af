//! The bounded past of one channel.
//!
//! Keeps the newest entries within a count, a size and an age, and gives those after a given
//! number; of a log, also those after a given id. Pure: time is passed in. Who receives a replay is
//! the hub's business; how several channels are put together again in one order is [`page`]'s.

pub(super) mod budget;
pub(super) mod page;
pub(super) mod retention;

use std::collections::VecDeque;

use tokio::time::Instant;

use super::HistorySettings;
use super::gap::GapReason;
use super::subject::Subject;
use crate::event::EntryId;
use crate::sse::frame::Frame;

/// Something that happened on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RecordContent {
    /// An event: its frame, and what it tells of.
    Event(Frame, Subject),
    /// Events may be missing here.
    Gap(GapReason),
}

#[derive(Clone, Debug)]
pub(super) struct HistoryRecord {
    pub(super) number: u64,
    pub(super) received: Instant,
    pub(super) kept: RecordContent,
}

/// What the allocation of a frame takes beside its text, in bytes.
const FRAME_BYTES: usize = 144;
/// A line that has become so much longer than its entries gives the room back.
const MOST_UNUSED: usize = 64;

/// What is kept of one channel.
#[derive(Debug)]
pub(super) struct History {
    settings: HistorySettings,
    // Invariant: numbers ascend.
    entries: VecDeque<HistoryRecord>,
    // Invariant: the sum of the lengths of the frames in `entries`.
    bytes: usize,
    // Everything after this number is in `entries`; what came before is not promised.
    complete_after: u64,
    // Of a log, the same in its own ids.
    log: Option<LogIds>,
}

/// The ids of a log's entries.
#[derive(Debug)]
struct LogIds {
    // Invariant: one for each of the entries, and they do not descend. A gap has the id up to which
    // it reaches.
    ids: VecDeque<EntryId>,
    complete_after: EntryId,
    // What came after the first and up to the second has vanished from the log: clients may know ids
    // there that are those of no entry.
    vanished: Option<(EntryId, EntryId)>,
}

impl History {
    /// Nothing yet: the channel is followed from `number` on.
    pub(super) fn new(settings: HistorySettings, number: u64) -> Self {
        Self { settings, entries: VecDeque::new(), bytes: 0, complete_after: number, log: None }
    }

    /// Nothing yet: the log is followed from the entry `id` on, which came before `number`.
    pub(super) fn of_log(settings: HistorySettings, number: u64, id: EntryId) -> Self {
        let log = LogIds { ids: VecDeque::new(), complete_after: id, vanished: None };
        Self { log: Some(log), ..Self::new(settings, number) }
    }

    /// What is held here, in bytes.
    pub(super) fn held(&self) -> usize {
        let ids = self.log.as_ref().map_or(0, |log| log.ids.capacity());
        self.bytes
            + self.entries.len() * FRAME_BYTES
            + self.entries.capacity() * size_of::<HistoryRecord>()
            + ids * size_of::<EntryId>()
    }

    /// Forgets everything that it has. Who knows the newest of that has missed nothing.
    pub(super) fn forget_all(&mut self) {
        let Some(newest) = self.entries.back().map(|newest| newest.number) else {
            return;
        };
        let newest_id = |log: &LogIds| Some((*log.ids.back()?, log.vanished));
        if let Some((id, vanished)) = self.log.as_ref().and_then(newest_id) {
            self.begin_log(newest, id);
            // Clients know those ids still.
            if let Some(log) = &mut self.log {
                log.vanished = vanished;
            }
        } else {
            self.entries = VecDeque::new();
            self.bytes = 0;
            self.begin(newest);
        }
    }

    /// What it is to keep.
    pub(super) fn settings(&self) -> HistorySettings {
        self.settings
    }

    /// Keeps so much from now on; what is over it goes at once.
    pub(super) fn keep(&mut self, settings: HistorySettings, now: Instant) {
        self.settings = settings;
        self.forget_surplus();
        self.expire(now);
    }

    /// The channel is heard only from `number` on.
    pub(super) fn begin(&mut self, number: u64) {
        debug_assert!(self.entries.is_empty(), "nothing is kept before it is confirmed");
        self.complete_after = self.complete_after.max(number);
    }

    /// The log is read from the entry `id` on; whatever was kept of it is of no more use.
    pub(super) fn begin_log(&mut self, number: u64, id: EntryId) {
        *self = Self::of_log(self.settings, self.complete_after.max(number), id);
    }

    /// The log, whose newest entry was `newest`, has come back without what followed `id`.
    pub(super) fn roll_back(&mut self, number: u64, id: EntryId, newest: EntryId) {
        let Some(log) = &mut self.log else { return };
        let known = log.vanished.unwrap_or((id, newest));
        let vanished = Some((known.0.min(id), known.1.max(newest)));
        if log.complete_after > id {
            self.begin_log(number, id);
        }
        while let Some(log) = &mut self.log
            && log.ids.back().is_some_and(|newest| *newest > id)
        {
            log.ids.pop_back();
            if let Some(gone) = self.entries.pop_back() {
                self.bytes -= gone.kept.bytes();
            }
        }
        if let Some(log) = &mut self.log {
            log.vanished = vanished;
        }
    }

    /// Whether a client may know `id` that is the id of no entry any more.
    pub(super) fn has_vanished(&self, id: EntryId) -> bool {
        self.log.as_ref().is_some_and(|log| {
            let is_gone = |(kept, until)| kept < id && id <= until;
            log.vanished.is_some_and(is_gone) && log.ids.binary_search(&id).is_err()
        })
    }

    /// Keeps an entry, and forgets what no longer fits. `number` is greater than any before.
    pub(super) fn push(&mut self, number: u64, kept: RecordContent, received: Instant) {
        debug_assert!(self.entries.back().is_none_or(|newest| newest.number < number));
        self.bytes += kept.bytes();
        self.entries.push_back(HistoryRecord { number, received, kept });
        self.forget_surplus();
        self.expire(received);
    }

    /// The same for a log, whose entry has this id, or a gap that reaches up to it.
    pub(super) fn push_entry(
        &mut self,
        number: u64,
        id: EntryId,
        kept: RecordContent,
        received: Instant,
    ) {
        if let Some(log) = &mut self.log {
            debug_assert!(log.ids.back().is_none_or(|newest| *newest <= id));
            log.ids.push_back(id);
        }
        self.push(number, kept, received);
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.entries.front().is_some_and(|oldest| {
            now.saturating_duration_since(oldest.received) > self.settings.age
        }) {
            self.forget_oldest();
        }
        if self.entries.capacity() > MOST_UNUSED.max(4 * self.entries.len()) {
            self.entries.shrink_to(2 * self.entries.len());
            if let Some(log) = &mut self.log {
                log.ids.shrink_to(2 * self.entries.len());
            }
        }
    }

    /// The number after which the newest `count` events come, or all that there are.
    pub(super) fn start_of_newest(&self, count: usize) -> u64 {
        let events = self.entries.iter().enumerate().rev().filter(|(_, entry)| entry.is_event());
        match events.take(count).last() {
            Some((0, _)) => self.complete_after,
            Some((oldest, _)) => self.entries[oldest - 1].number,
            None => self.entries.back().map_or(self.complete_after, |newest| newest.number),
        }
    }

    /// The id in the log up to which nothing is here.
    pub(super) fn log_floor(&self) -> EntryId {
        self.log.as_ref().map_or(EntryId::MAX, |log| log.complete_after)
    }

    /// The number after which everything comes that is here and follows `id` in the log: found by
    /// halving.
    pub(super) fn number_at(&self, id: EntryId) -> u64 {
        let ids = self.log.as_ref().map(|log| &log.ids);
        let before = ids.map_or(0, |ids| ids.partition_point(|known| *known <= id));
        match before.checked_sub(1) {
            Some(newest) => self.entries[newest].number,
            None => self.complete_after,
        }
    }

    /// The id after which the newest `count` entries of the log come; `None` where fewer are here.
    pub(super) fn id_before_newest(&self, count: usize) -> Option<EntryId> {
        let log = self.log.as_ref()?;
        let events = self.entries.iter().enumerate().rev().filter(|(_, entry)| entry.is_event());
        let (oldest, _) = events.take(count).nth(count.checked_sub(1)?)?;
        Some(oldest.checked_sub(1).map_or(log.complete_after, |before| log.ids[before]))
    }

    fn forget_surplus(&mut self) {
        while self.entries.len() > self.settings.count || self.bytes > self.settings.bytes {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.bytes -= oldest.kept.bytes();
            self.complete_after = oldest.number;
        }
        if let Some(log) = &mut self.log
            && let Some(oldest) = log.ids.pop_front()
        {
            log.complete_after = oldest;
        }
    }

    /// The entries after `number`, with their ids in a log: found by halving, not by looking through
    /// all.
    fn after(&self, number: u64) -> impl Iterator<Item = (&HistoryRecord, Option<EntryId>)> {
        let start = self.entries.partition_point(|entry| entry.number <= number);
        let ids = self.log.as_ref().map(|log| &log.ids);
        self.entries
            .range(start..)
            .enumerate()
            .map(move |(at, entry)| (entry, ids.and_then(|ids| ids.get(start + at).copied())))
    }
}

impl HistoryRecord {
    fn is_event(&self) -> bool {
        matches!(self.kept, RecordContent::Event(..))
    }
}

impl RecordContent {
    fn bytes(&self) -> usize {
        match self {
            Self::Event(frame, _) => frame.len(),
            Self::Gap(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{History, RecordContent};
    use crate::event::EntryId;
    use crate::hub::subject::Subject;
    use crate::hub::{GapReason, HistorySettings};

    fn history(count: usize) -> History {
        let settings = HistorySettings { count, bytes: 1000, age: Duration::from_secs(60) };
        History::new(settings, 0)
    }

    fn event() -> RecordContent {
        RecordContent::Event(crate::hub::tests::frame(1), Subject::of(0))
    }

    #[test]
    fn the_newest_are_counted_without_gaps() {
        let now = Instant::now();
        let mut history = history(4);
        assert_eq!(history.start_of_newest(1), 0);
        for number in [2, 4, 6] {
            history.push(number, event(), now);
        }
        history.push(7, RecordContent::Gap(GapReason::RedisAway), now);
        let starts = [0, 1, 2, 3, 9].map(|count| history.start_of_newest(count));
        assert_eq!(starts, [7, 4, 2, 0, 0]);
        history.push(8, event(), now);
        history.push(9, event(), now);
        assert_eq!(history.start_of_newest(9), 4, "what is forgotten does not come back");
    }

    #[test]
    fn a_log_is_known_by_its_ids() {
        let now = Instant::now();
        let id = |milliseconds| EntryId { milliseconds, sequence: 0 };
        let mut history = history(3);
        history.begin_log(10, id(5));
        for (number, ms) in [(11, 6), (13, 8), (15, 9), (17, 12)] {
            history.push_entry(number, id(ms), event(), now);
        }
        assert_eq!(history.log_floor(), id(6));
        for (ms, expected) in [(6, 11), (7, 11), (8, 13), (9, 15), (11, 15), (12, 17), (99, 17)] {
            assert_eq!(history.number_at(id(ms)), expected, "after {ms}");
        }
        assert_eq!(history.id_before_newest(1), Some(id(9)));
        assert_eq!(history.id_before_newest(3), Some(id(6)));
        assert_eq!(history.id_before_newest(4), None);
        history.forget_all();
        assert_eq!((history.log_floor(), history.held()), (id(12), 0));
    }

    #[test]
    fn what_has_vanished_is_known_also_where_all_else_is_forgotten() {
        let now = Instant::now();
        let id = |milliseconds| EntryId { milliseconds, sequence: 0 };
        let mut history = history(9);
        history.begin_log(10, id(5));
        for (number, ms) in [(11, 6), (12, 7), (13, 8)] {
            history.push_entry(number, id(ms), event(), now);
        }
        history.roll_back(14, id(6), id(8));
        history.push_entry(14, id(6), RecordContent::Gap(GapReason::RolledBack), now);
        history.forget_all();
        history.push_entry(15, id(9), event(), now);
        let vanished = [6, 7, 8, 9].map(|ms| history.has_vanished(id(ms)));
        assert_eq!(vanished, [false, true, true, false]);
        // Another log has other entries.
        history.begin_log(16, id(1));
        assert!(!history.has_vanished(id(7)));
    }

    #[test]
    fn an_entry_takes_as_little_as_it_can() {
        assert_eq!(size_of::<super::HistoryRecord>(), 40);
    }

    #[test]
    fn what_is_over_a_narrower_bound_goes_at_once() {
        let now = Instant::now();
        let mut history = history(100);
        for number in 1..=10 {
            history.push(number, event(), now);
        }
        let narrow = HistorySettings { count: 3, ..history.settings() };
        history.keep(narrow, now);
        assert_eq!(history.start_of_newest(9), 7);
        history.keep(HistorySettings { count: 5, ..narrow }, now);
        history.push(11, event(), now);
        assert_eq!(history.start_of_newest(9), 7, "what is forgotten does not come back");
        history.keep(narrow, now + Duration::from_secs(61));
        assert_eq!(history.start_of_newest(9), 11);
    }

    #[test]
    fn what_is_held_shrinks_with_what_is_kept() {
        let now = Instant::now();
        let mut history = history(1000);
        for number in 0..500 {
            history.push(number, event(), now);
        }
        let full = history.held();
        history.expire(now + Duration::from_secs(120));
        assert!(history.held() < full / 50, "{} of {full}", history.held());
    }
}
