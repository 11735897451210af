//! What is recorded of one order, for the connections that listen and that write.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use ssegate_hub::{EntryId, GapReason, Hub, LogRange, LogRead, LogReadResult, SourceRequest};
use tokio::time::Instant;

use super::awaited::AwaitedReads;
use super::book::RecordBook;
use super::channel::RecordedPayload;
use super::memory::RecordMemory;
use super::order::RecordOrder;
use super::past::{PastRead, PastReader, ReadPast};
use super::wakes::RecordWakes;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::source::recorded::RecordedSettings;
use crate::source::redis::error::SourceError;
use crate::source::redis::lost_nodes::NodeLoss;
use crate::source::redis::retry::{FailureLog, RecordFailure};

/// What all orders of a server share. A cheap handle, but for the settings.
#[derive(Clone, Debug)]
pub(in super::super) struct RecordingParts {
    pub(in super::super) settings: RecordedSettings,
    pub(in super::super) hub: Hub,
    pub(in super::super) memory: RecordMemory,
    pub(in super::super) metrics: Metrics,
    pub(in super::super) failures: Rc<RefCell<FailureLog>>,
    pub(in super::super) wakes: Rc<RecordWakes>,
}

/// The orders that are recorded, by their numbers.
#[derive(Debug, Default)]
pub(in super::super) struct RecordStates(RefCell<HashMap<u16, Rc<RecordingState>>>);

/// What is recorded of one order.
#[derive(Debug)]
pub(in super::super) struct RecordingState {
    pub(in super::super) order: RecordOrder,
    pub(in super::super) parts: RecordingParts,
    pub(in super::super) book: Rc<RefCell<RecordBook>>,
    /// Reads that wait for the first mark.
    unplaced: RefCell<AwaitedReads<LogRead>>,
}

impl RecordingParts {
    /// Counts and logs a failure.
    pub(in super::super) fn report(&self, error: &SourceError, what: &'static str) {
        self.failures.borrow_mut().report(error, what);
    }

    /// Reports that a script or a mark was refused, of sharded channels or of others: no client chooses these.
    pub(in super::super) fn report_refusal(
        &self,
        error: &SourceError,
        what: &'static str,
        is_sharded: bool,
    ) {
        let record: RecordFailure = match is_sharded {
            true => Health::sharded_recording_refused,
            false => Health::recording_refused,
        };
        self.failures.borrow_mut().report_as(record, error, what);
    }

    /// Counts the loss of a connection to a node, and logs it if it is new.
    pub(in super::super) fn lost(&self, error: &SourceError, what: &'static str, loss: NodeLoss) {
        self.failures.borrow().lost(error, what, loss);
    }
}

impl RecordStates {
    /// That of an order.
    pub(in super::super) fn get(&self, number: u16) -> Option<Rc<RecordingState>> {
        self.0.borrow().get(&number).cloned()
    }

    /// All of them.
    pub(in super::super) fn all(&self) -> Vec<Rc<RecordingState>> {
        self.0.borrow().values().cloned().collect()
    }

    /// Adds one, and lets the writer check what is due.
    pub(in super::super) fn insert(&self, state: &Rc<RecordingState>) {
        self.0.borrow_mut().insert(state.order.number(), Rc::clone(state));
        state.touch();
    }

    /// Nothing is recorded of this order any more.
    pub(in super::super) fn remove(&self, number: u16) {
        self.0.borrow_mut().remove(&number);
    }
}

impl RecordingState {
    /// Nothing is followed yet.
    pub(in super::super) fn new(parts: &RecordingParts, order: RecordOrder) -> Rc<Self> {
        let RecordingParts { hub, metrics, memory, .. } = parts.clone();
        let book = RecordBook::new(hub, metrics, (order.clone(), memory));
        let (book, unplaced) = (Rc::new(RefCell::new(book)), RefCell::default());
        RecordBook::share_memory(&book);
        Rc::new(Self { order, parts: parts.clone(), book, unplaced })
    }

    /// Keeps a read until it can be placed.
    pub(in super::super) fn hold_unplaced(&self, call: LogRead) {
        let hub = &self.parts.hub;
        self.unplaced.borrow_mut().push(call, |call| hub.awaits_log_read(call.key()));
    }

    /// Takes the reads that were to be placed.
    pub(in super::super) fn take_unplaced(&self) -> Vec<LogRead> {
        self.unplaced.borrow_mut().take()
    }

    /// Whether any client waits for a read that is to be placed.
    pub(in super::super) fn awaits_unplaced(&self) -> bool {
        let mut unplaced = self.unplaced.borrow_mut();
        unplaced.prune(|call| self.parts.hub.awaits_log_read(call.key()));
        !unplaced.is_empty()
    }

    /// Something may be due.
    pub(in super::super) fn touch(&self) {
        self.parts.wakes.touch(self.order.number());
    }

    /// Waits for changes of what to follow, and takes them. Cancel safe.
    pub(in super::super) async fn take_changes(&self) {
        let changes = self.parts.hub.source_requests(self.order.source()).await;
        let mut book = self.book.borrow_mut();
        for (subscription, request) in changes {
            match request {
                SourceRequest::Follow => drop(book.follow(&subscription.name)),
                SourceRequest::Leave => drop(book.leave(&subscription.name)),
            }
        }
    }

    /// Awaits `wait`, and meanwhile takes changes of what to follow.
    pub(in super::super) async fn taking_changes<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! {
                done = &mut wait => return done,
                () = self.take_changes() => {}
            }
        }
    }

    /// Begins a read for a client. A read that begins at or after `until` needs nothing from the log: what follows is
    /// still to come live, or the id is of another order of marks.
    pub(in super::super) fn read_past(&self, call: LogRead, now: Instant) {
        let mut book = self.book.borrow_mut();
        match call.range {
            LogRange::After { after, until } if until <= after => {
                let is_known = book.has_come(after);
                let gap = (!is_known).then_some((GapReason::Reset, EntryId::ZERO));
                let past =
                    LogReadResult::Entries { gap, entries: Vec::new(), is_all: gap.is_none() };
                drop(book);
                self.parts.hub.finish_log_read(call.key(), past);
            }
            _ => {
                book.add_read(PastRead::of_client(call, now));
                drop(book);
                self.touch();
            }
        }
    }

    /// A part of a log was read; `None`: it does not reach far enough, or Redis refused.
    pub(in super::super) fn finish_past(
        &self,
        mut read: PastRead,
        past: Option<ReadPast>,
        now: Instant,
    ) {
        let LogRange::After { until, .. } = read.range else {
            return self.finish_newest(read, None);
        };
        let past = match past {
            Some(past) => past,
            None if read.wait(now) => {
                let mut book = self.book.borrow_mut();
                if !std::mem::replace(&mut read.is_asked, true) {
                    book.ask(&read.channel.clone(), now);
                }
                return book.add_read(read);
            }
            None => ReadPast::unknown(until),
        };
        match &read.reader {
            PastReader::Client(call) => {
                let format = call.format;
                let event = |(id, payload)| match payload {
                    RecordedPayload::Whole(payload) => {
                        let decoded = format.decode(&payload);
                        if decoded.is_malformed {
                            self.parts.metrics.event_malformed();
                        }
                        (id, Some(decoded.event))
                    }
                    RecordedPayload::TooLarge => (id, None),
                };
                let ReadPast { gap, entries, is_all } = past;
                let entries = entries.into_iter().map(event).collect();
                let result = LogReadResult::Entries { gap, entries, is_all };
                self.parts.hub.finish_log_read(call.key(), result);
            }
            PastReader::CatchUp => self.book.borrow_mut().catch_up(&read.channel, until, past, now),
        }
    }

    /// Where the newest entries begin; `None`: there are none.
    pub(in super::super) fn finish_newest(&self, read: PastRead, start: Option<EntryId>) {
        let newest = {
            let book = self.book.borrow();
            book.channels.get(&read.channel).and_then(|channel| channel.newest)
        };
        // Then a client begins where this gateway did, and has missed nothing.
        let start = start.or(newest).unwrap_or_default();
        if let PastReader::Client(call) = read.reader {
            self.parts.hub.finish_log_read(call.key(), LogReadResult::Start(start));
        }
    }
}
