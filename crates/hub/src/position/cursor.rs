//! Where a stream stands: up to where events were offered to it.

use std::cell::{Cell, RefCell};

use super::event_id::{EventId, RunTag};
use super::log_positions::LogPositions;
use crate::fleet::name::FleetPosition;
use crate::{EntryId, Ids};

/// Where a stream stands in its channels.
///
/// No other type knows the parts of a position. The place for other gateways of a fleet is not kept here for
/// each stream: the shard determines it from the stream's channels when it is needed.
// The number first: an event of pub/sub needs no more than that.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Cursor {
    number: Cell<u64>,
    ids: Ids,
    run: RunTag,
    // Empty for a stream of other channels.
    logs: RefCell<LogPositions>,
}

/// An entry of one of a stream's logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogEntry {
    /// Which of the stream's channels.
    pub(crate) log: usize,
    pub(crate) id: EntryId,
}

impl Cursor {
    /// Before every event, on channels with ids of this kind. `logs` are the names of those that are logs.
    pub(crate) fn new<'a>(ids: Ids, run: RunTag, logs: impl Iterator<Item = &'a str>) -> Self {
        Self { number: Cell::new(0), ids, run, logs: RefCell::new(LogPositions::unknown(logs)) }
    }

    /// The same channels, after the event `number`.
    pub(crate) fn at(mut self, number: u64) -> Self {
        *self.number.get_mut() = number;
        self
    }

    /// The same channels, at `logs` in them.
    pub(crate) fn in_logs(mut self, logs: LogPositions) -> Self {
        *self.logs.get_mut() = logs;
        self
    }

    /// Whether the channels are logs.
    pub(crate) fn is_of_logs(&self) -> bool {
        self.ids.is_log()
    }

    pub(crate) fn ids(&self) -> Ids {
        self.ids
    }

    /// The run of its numbers.
    pub(crate) fn run(&self) -> RunTag {
        self.run
    }

    /// The number of the newest event.
    pub(crate) fn number(&self) -> u64 {
        self.number.get()
    }

    /// The newest entry in a log; `None` while the stream has no position in it.
    pub(crate) fn entry(&self, log: usize) -> Option<EntryId> {
        self.logs.borrow().get(log)
    }

    /// The positions in the logs.
    pub(crate) fn logs(&self) -> LogPositions {
        self.logs.borrow().clone()
    }

    /// Moves past an event; returns false if the stream stands behind it already. A message that matches
    /// several subscriptions is offered several times, with one number. So is an entry that is both live and
    /// in the past.
    #[inline]
    pub(crate) fn advance(&self, number: u64, entry: Option<LogEntry>) -> bool {
        match entry {
            None if number <= self.number.get() => false,
            None => {
                self.number.set(number);
                true
            }
            Some(entry) => self.advance_in_log(entry),
        }
    }

    fn advance_in_log(&self, LogEntry { log, id }: LogEntry) -> bool {
        let mut logs = self.logs.borrow_mut();
        let is_new = logs.get(log).is_none_or(|newest| newest < id);
        if is_new {
            logs.set(log, id);
        }
        is_new
    }

    /// Moves up to `number`, unless the stream stands behind it.
    pub(crate) fn reach(&self, number: u64) {
        self.number.set(self.number.get().max(number));
    }

    /// Moves to `number`, also backwards.
    pub(crate) fn move_to(&self, number: u64) {
        self.number.set(number);
    }

    /// Moves to an entry of a log, also backwards.
    pub(crate) fn move_in_log(&self, LogEntry { log, id }: LogEntry) {
        self.logs.borrow_mut().set(log, id);
    }

    /// A log is read from `entry` on: that becomes the position of a stream that has none in it.
    pub(crate) fn begin_log(&self, entry: LogEntry) {
        if self.entry(entry.log).is_none() {
            self.move_in_log(entry);
        }
    }

    /// The id with which a client comes back to this position: the `id` field of an event, a gap, or `ready`.
    /// `None` if publishers give the ids, or while no position is known.
    ///
    /// The position is after the event `number`; for other gateways it is `place`.
    pub(crate) fn id_at(&self, number: u64, place: Option<FleetPosition>) -> Option<String> {
        match self.ids {
            Ids::Ours => Some(EventId { place, ..self.run.at(number) }.text()),
            // An event without an id of its publisher has one of ours. There is no fleet for these channels.
            Ids::Mixed => Some(self.run.at(number).text()),
            Ids::Publisher => None,
            Ids::Entries | Ids::Recorded => self.logs.borrow().text(),
        }
    }

    /// The id for a stream that stands right behind an event, if that is not the event's own id: for an
    /// entry, on a stream of several logs.
    pub(crate) fn id_in_several_logs(&self) -> Option<String> {
        let logs = self.logs.borrow();
        if logs.is_of_one() { None } else { logs.text() }
    }
}
