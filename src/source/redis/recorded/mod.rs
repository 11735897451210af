//! Recorded channels: applications use `PUBLISH`, and the past survives the restart of every gateway.
//!
//! A message is delivered as it comes through pub/sub, on a connection of its own ([`listener`]). In parallel, and
//! without delaying it, gateways append what they receive to a Redis Stream for each channel, with scripts on a second
//! connection ([`writer`]), so that each message is there once and in order; the rules are those of the crate
//! `ssegate_record`. What is due, and when, is decided in [`book`], by [`pace`] and [`members`]. What clients missed is
//! read from there ([`past`]), and so is what the gateway missed while its own connection was lost.
//!
//! All messages of a server are in one [`order`]. Sharded channels have one order for each slot, and are received on
//! connections of their own ([`ShardedRecording`](super::ShardedRecording)).

mod awaited;
mod book;
mod channel;
mod inspect;
mod listener;
mod members;
mod memory;
mod order;
mod pace;
mod past;
mod script;
mod state;
mod wakes;
mod writer;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use ssegate_hub::Hub;
use tokio::sync::watch;
use tokio::time::sleep;

pub(super) use self::inspect::{inspect, marks};
use self::listener::{ListeningEnd, RecordListener};
pub(crate) use self::memory::RecordMemory;
pub(super) use self::order::RecordOrder;
pub(super) use self::state::{RecordStates, RecordingParts, RecordingState};
pub(super) use self::writer::write as write_records;
use super::connection::{ConnectionKind, RedisConnection};
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
    /// The server among `redis.shards`.
    place: ServerPlace,
    routes: watch::Receiver<Arc<Router>>,
    health: Health,
    end: RecordingEnd,
}

/// How channels are recorded: the longest event in bytes, the settings, the memory for all channels of the server, and
/// the end.
pub(crate) type RecordingSettings = (usize, RecordedSettings, RecordMemory, RecordingEnd);

impl Recording {
    /// Records what the hub follows, and what the patterns of `routes` bring.
    pub(crate) fn new(
        server: RedisServer,
        (max_event_bytes, settings, memory, end): RecordingSettings,
        (hub, (routes, place)): (Hub, (watch::Receiver<Arc<Router>>, ServerPlace)),
        (health, metrics): (Health, Metrics),
    ) -> Self {
        let record = (health.clone(), Health::recording_failed as _);
        let failures = Rc::new(RefCell::new(FailureLog::new(&server, metrics.clone(), record)));
        let wakes = Rc::default();
        let parts = RecordingParts { settings, hub, memory, metrics, failures, wakes };
        let state = RecordingState::new(&parts, RecordOrder::Server);
        Self { server, max_event_bytes, state, place, routes, health, end }
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
        self.end.begin();
        let states = Rc::new(RecordStates::default());
        states.insert(&self.state);
        let writing = (self.state.parts.clone(), self.end.clone());
        let (server, most) = (self.server.clone(), self.max_event_bytes);
        tokio::select! {
            () = self.listen() => {}
            () = write_records(server, most, states, writing) => {}
        }
    }

    fn follow_patterns(&mut self) {
        let patterns = self.routes.borrow_and_update().recorded_patterns(&self.place);
        self.state.book.borrow_mut().change_patterns(patterns);
    }

    async fn listen(&mut self) {
        let mut attempt = 0;
        loop {
            self.health.set_recording_ready(false);
            // A reload may have changed them, also while there was no connection.
            self.follow_patterns();
            let kind = ConnectionKind::PubSub;
            let opening = RedisConnection::open(&self.server, self.max_event_bytes, kind);
            match self.state.taking_changes(opening).await {
                Ok(connection) => {
                    tracing::info!(address = %self.server, "connected to Redis to record channels");
                    let state = Rc::clone(&self.state);
                    let listener = RecordListener::new(connection, state, self.health.clone());
                    let (end, was_ready) = listener.run(&mut self.routes, &self.place).await;
                    self.health.set_recording_ready(false);
                    self.state.book.borrow_mut().lose();
                    if was_ready {
                        attempt = 0;
                    }
                    match end {
                        ListeningEnd::Failed(error) => {
                            let what = "lost the connection to Redis while recording channels";
                            self.state.parts.report(&error, what);
                        }
                        ListeningEnd::PatternsChanged => continue,
                    }
                }
                Err(error) => {
                    let what = "cannot connect to Redis to record channels; retrying";
                    self.state.parts.report(&error, what);
                }
            }
            self.state.taking_changes(sleep(backoff(attempt))).await;
            attempt += 1;
        }
    }
}
