//! Recorded channels: applications use `PUBLISH`, and the past survives the restart of every gateway.
//!
//! A message is delivered as it comes through pub/sub, on a connection of its own ([`listener`]). Beside that,
//! and never in its way, gateways append what they receive to a Redis Stream for each channel, with scripts on a
//! second connection ([`writer`]), so that each message is there once and in order; the rules are those of the crate
//! `ssegate_record`. What is due, and when, is decided in [`book`], by [`pace`] and [`members`]. What clients
//! missed is read from there ([`past`]), and so is what this gateway missed itself while its connection was lost.

mod book;
mod channel;
mod inspect;
mod listener;
mod members;
mod pace;
mod past;
mod script;
mod writer;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use ssegate_hub::{GapReason, Hub, LogRange, LogRead, LogReadResult, SourceKind, SourceRequest};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use self::book::RecordBook;
use self::channel::RecordedPayload;
pub(super) use self::inspect::{inspect, marks};
use self::listener::{ListeningEnd, RecordListener};
use self::past::{PastRead, PastReader, ReadPast};
use self::writer::RecordWriter;
use super::connection::{ConnectionKind, RedisConnection};
use super::error::SourceError;
use super::retry::{FailureLog, backoff};
use super::server::RedisServer;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::route::{Router, ServerPlace};
use crate::source::recorded::{RecordedSettings, RecordingEnd};

/// Records channels, and delivers them.
#[derive(Debug)]
pub(crate) struct Recording {
    server: RedisServer,
    max_event_bytes: usize,
    state: Rc<RecordingState>,
    routes: watch::Receiver<Arc<Router>>,
}

/// What the connections share.
#[derive(Debug)]
struct RecordingState {
    settings: RecordedSettings,
    /// Which of several servers it is.
    place: ServerPlace,
    book: RefCell<RecordBook>,
    /// Reads that are to be placed once a mark has come.
    unplaced: RefCell<Vec<LogRead>>,
    /// Notified when something may be due.
    work: Notify,
    health: Health,
    metrics: Metrics,
    failures: RefCell<FailureLog>,
    end: RecordingEnd,
}

impl Recording {
    /// Records what the hub follows, and what the patterns of `routes` bring.
    pub(crate) fn new(
        server: RedisServer,
        (max_event_bytes, settings, end): (usize, RecordedSettings, RecordingEnd),
        (hub, (routes, place)): (Hub, (watch::Receiver<Arc<Router>>, ServerPlace)),
        (health, metrics): (Health, Metrics),
    ) -> Self {
        let record = (health.clone(), Health::recording_failed as _);
        let failures = RefCell::new(FailureLog::new(&server, metrics.clone(), record));
        let book = RefCell::new(RecordBook::new(hub, metrics.clone(), settings.memory));
        let (unplaced, work) = (RefCell::default(), Notify::new());
        let state = RecordingState {
            settings,
            place,
            book,
            unplaced,
            work,
            health,
            metrics,
            failures,
            end,
        };
        Self { server, max_event_bytes, state: Rc::new(state), routes }
    }

    /// Runs for ever: waits until anything is recorded, connects, reconnects. Owned by the gateway, which drops it.
    pub(crate) async fn run(mut self) {
        self.follow_patterns();
        while !self.state.book.borrow().is_needed() {
            tokio::select! {
                () = self.state.take_changes() => {}
                Ok(()) = self.routes.changed() => self.follow_patterns(),
            }
        }
        self.state.end.begin();
        let (state, server, most) =
            (Rc::clone(&self.state), self.server.clone(), self.max_event_bytes);
        tokio::select! {
            () = self.listen() => {}
            () = write(state, server, most) => {}
        }
    }

    fn follow_patterns(&mut self) {
        let patterns = self.routes.borrow_and_update().recorded_patterns(&self.state.place);
        self.state.book.borrow_mut().change_patterns(patterns);
    }

    async fn listen(&mut self) {
        let mut attempt = 0;
        loop {
            self.state.health.set_recording_ready(false);
            // A reload may have changed them, also while there was no connection.
            self.follow_patterns();
            let kind = ConnectionKind::PubSub;
            let opening = RedisConnection::open(&self.server, self.max_event_bytes, kind);
            match self.state.taking_changes(opening).await {
                Ok(connection) => {
                    tracing::info!(address = %self.server, "connected to Redis to record channels");
                    let listener = RecordListener::new(connection, Rc::clone(&self.state));
                    let (end, was_ready) = listener.run(&mut self.routes).await;
                    self.state.health.set_recording_ready(false);
                    self.state.book.borrow_mut().lose();
                    if was_ready {
                        attempt = 0;
                    }
                    match end {
                        ListeningEnd::Failed(error) => {
                            let what = "lost the connection to Redis while recording channels";
                            self.state.report(&error, what);
                        }
                        ListeningEnd::PatternsChanged => continue,
                    }
                }
                Err(error) => {
                    let what = "cannot connect to Redis to record channels; retrying";
                    self.state.report(&error, what);
                }
            }
            self.state.taking_changes(sleep(backoff(attempt))).await;
            attempt += 1;
        }
    }
}

/// Sends scripts for ever.
async fn write(state: Rc<RecordingState>, server: RedisServer, max_event_bytes: usize) {
    let mut attempt = 0;
    loop {
        match RedisConnection::open(&server, max_event_bytes, ConnectionKind::Command).await {
            Ok(connection) => {
                let (error, has_replied) =
                    RecordWriter::new(connection, Rc::clone(&state)).run().await;
                if has_replied {
                    attempt = 0;
                }
                state.report(&error, "lost the connection to Redis that records channels");
            }
            Err(error) => {
                state.report(&error, "cannot connect to Redis to record channels; retrying")
            }
        }
        sleep(backoff(attempt)).await;
        attempt += 1;
    }
}

impl RecordingState {
    fn report(&self, error: &SourceError, what: &'static str) {
        self.failures.borrow_mut().report(error, what);
    }

    fn flush(&self) {
        let hub = self.book.borrow().hub.clone();
        hub.flush();
    }

    /// Waits for changes of what to follow, and takes them. Cancel safe.
    async fn take_changes(&self) {
        let hub = self.book.borrow().hub.clone();
        let changes = hub.source_requests(SourceKind::Recorded).await;
        let mut book = self.book.borrow_mut();
        for (subscription, request) in changes {
            match request {
                SourceRequest::Follow => drop(book.follow(&subscription.name)),
                SourceRequest::Leave => drop(book.leave(&subscription.name)),
            }
        }
    }

    /// Waits, and meanwhile takes changes of what to follow.
    async fn taking_changes<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! {
                done = &mut wait => return done,
                () = self.take_changes() => {}
            }
        }
    }

    /// Begins a read for a client. One that begins behind all that this gateway reads needs nothing of the log: what
    /// follows is still to come, or the id is of another order of marks.
    fn read_past(&self, call: LogRead, now: Instant) {
        let mut book = self.book.borrow_mut();
        match call.range {
            LogRange::After { after, until } if until <= after => {
                let is_known = book.has_come(after);
                let gap = (!is_known).then_some((GapReason::Reset, ssegate_hub::EntryId::ZERO));
                let past =
                    LogReadResult::Entries { gap, entries: Vec::new(), is_all: gap.is_none() };
                let hub = book.hub.clone();
                drop(book);
                hub.finish_log_read(call.key(), past);
            }
            _ => {
                book.reads.push(PastRead::of_client(call, now));
                drop(book);
                self.work.notify_one();
            }
        }
    }

    /// A part of a log was read; `None`: it does not reach far enough, or Redis refused.
    fn finish_past(&self, mut read: PastRead, past: Option<ReadPast>, now: Instant) {
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
                return book.reads.push(read);
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
                            self.metrics.event_malformed();
                        }
                        (id, Some(decoded.event))
                    }
                    RecordedPayload::TooLarge => (id, None),
                };
                let ReadPast { gap, entries, is_all } = past;
                let entries = entries.into_iter().map(event).collect();
                let hub = self.book.borrow().hub.clone();
                hub.finish_log_read(call.key(), LogReadResult::Entries { gap, entries, is_all });
            }
            PastReader::CatchUp => self.book.borrow_mut().catch_up(&read.channel, until, past, now),
        }
    }

    /// Where the newest entries begin; `None`: there are none.
    fn finish_newest(&self, read: PastRead, start: Option<ssegate_hub::EntryId>) {
        let book = self.book.borrow();
        // Then a client begins where this gateway did, and has missed nothing.
        let newest = book.channels.get(&read.channel).and_then(|channel| channel.newest);
        let start = start.or(newest).unwrap_or_default();
        let hub = book.hub.clone();
        drop(book);
        if let PastReader::Client(call) = read.reader {
            hub.finish_log_read(call.key(), LogReadResult::Start(start));
        }
    }
}
