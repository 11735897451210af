//! Redis Streams: reads all followed streams for ever, and ranges of their past on request.
//!
//! Each set of streams ([`readers`]) has a connection that blocks in `XREAD BLOCK` ([`blocking_reader`]). One
//! more connection ([`session`]) sends all other commands: to learn where a stream starts, what it contains and whether
//! it is still the same ([`progress`], [`info`]), and to unblock a connection when its set has changed. All connections
//! are opened and closed together.
//!
//! In a Cluster each slot is at one of the nodes. A blocking connection waits for the streams of one slot, and some
//! streams are [`polled`]. All other commands go to the owner of their stream ([`link`]), and each connection is
//! reopened on its own.
//!
//! The streams, and the ids up to which they were read, outlive the connections, so nothing that Redis still has is
//! missed in between.

mod blocking_reader;
mod check_pace;
mod checkpoints;
mod command;
mod entry;
mod fork_search;
mod info;
mod link;
#[cfg(test)]
mod model_stream;
#[cfg(test)]
mod oracle;
mod polled;
mod progress;
mod range;
mod readers;
mod recent_entries;
mod rollbacks;
mod server;
mod session;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use redis::ConnectionAddr;
use ssegate_format::Format;
use ssegate_hub::{ChannelName, Subscription};
use ssegate_hub::{Hub, SourceKind, SourceRequest};
use ssegate_sse::Event;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::entry::StreamEntry;
use self::progress::{Comparison, StreamProgress};
pub(crate) use self::server::StreamServer;
use self::session::StreamSession;
use super::error::SourceError;
use super::lost_nodes::{NodeLoss, NodeOutages};
use super::retry::{FailureLog, backoff};
use crate::health::Health;
use crate::metrics::Metrics;

/// Logged when a connection that blocks at a node is open again.
const IS_BACK: &str = "connected again to a node to read streams";

/// Reads streams on behalf of the hub.
#[derive(Debug)]
pub(crate) struct StreamReader(Rc<ReaderState>);

/// State shared by the connections of the reader.
#[derive(Debug)]
struct ReaderState {
    server: StreamServer,
    max_event_bytes: usize,
    hub: Hub,
    health: Health,
    metrics: Metrics,
    failures: RefCell<FailureLog>,
    /// Of the connections that block in `XREAD`; `None`: there are no nodes.
    reader_outages: RefCell<Option<NodeOutages>>,
    streams: RefCell<HashMap<ChannelName, StreamProgress>>,
    connections: Cell<isize>,
    /// Notified when the `XREAD` of a reader was refused.
    reader_refused: Notify,
    /// `CLIENT UNBLOCK` ends the wait of an `XREAD`.
    can_unblock: Cell<bool>,
}

impl StreamReader {
    pub(crate) fn new(
        server: StreamServer,
        max_event_bytes: usize,
        hub: Hub,
        health: Health,
        metrics: Metrics,
    ) -> Self {
        let record = (health.clone(), Health::log_source_failed as _);
        let (address, redis) = (server.to_string(), server.redis().cloned());
        let outages = redis.as_ref().map(|redis| NodeOutages::new(redis, Some(IS_BACK)));
        let failures = FailureLog::at(address, redis, metrics.clone(), record);
        Self(Rc::new(ReaderState {
            server,
            max_event_bytes,
            hub,
            health,
            metrics,
            failures: RefCell::new(failures),
            reader_outages: RefCell::new(outages),
            streams: RefCell::default(),
            connections: Cell::new(0),
            reader_refused: Notify::new(),
            can_unblock: Cell::new(true),
        }))
    }

    /// Runs for ever: waits until a stream is followed, connects, reads, reconnects. Owned by the
    /// gateway, which drops it.
    pub(crate) async fn run(self) {
        let state = self.0;
        while state.streams.borrow().is_empty() {
            state.record_changes().await;
        }
        let mut attempt = 0;
        loop {
            state.health.set_log_source_ready(false);
            let opening = state.server.open_link(state.max_event_bytes);
            match state.recording_changes(opening).await {
                Ok(link) => {
                    state.log_connected();
                    let (error, is_initialized) =
                        StreamSession::new(link, Rc::clone(&state)).run().await;
                    state.connections.set(0);
                    state.add_connections(0);
                    // Range reads that are pending are sent again on the next connection.
                    state.hub.repeat_log_reads(SourceKind::Logs);
                    if is_initialized {
                        attempt = 0;
                    }
                    state.health.set_log_source_ready(false);
                    state.report(&error, "lost the connection to Redis while reading streams");
                }
                Err(error) => {
                    state.report(&error, "cannot connect to Redis to read streams; retrying")
                }
            }
            state.recording_changes(tokio::time::sleep(backoff(attempt))).await;
            attempt += 1;
        }
    }
}

impl ReaderState {
    fn log_connected(&self) {
        // The embedded bus cannot be away.
        if let StreamServer::Redis(server) = &self.server {
            tracing::info!(address = %server, "connected to Redis to read streams");
        }
    }

    fn report(&self, error: &SourceError, what: &'static str) {
        self.failures.borrow_mut().report(error, what);
    }

    /// Counts the loss of a connection to a node, and logs it if it is new.
    fn lost(&self, error: &SourceError, what: &'static str, loss: NodeLoss) {
        self.failures.borrow().lost(error, what, loss);
    }

    /// A connection that blocks in `XREAD` at this node was lost, or could not be opened.
    fn lose_reader(&self, node: Option<&ConnectionAddr>) -> NodeLoss {
        let mut outages = self.reader_outages.borrow_mut();
        outages.as_mut().map_or(NodeLoss::Idle, |outages| outages.lose(node, false))
    }

    /// Records that Redis refused `CLIENT UNBLOCK`: from now on an `XREAD` blocks only for a short time.
    fn refuse_unblock(&self, error: &SourceError) {
        if self.can_unblock.replace(false) {
            tracing::info!(%error, "Redis streams are read with shorter waits");
        }
    }

    fn add_connections(&self, more: isize) {
        self.connections.set(self.connections.get() + more);
        self.metrics.stream_connections(self.connections.get().max(0).cast_unsigned());
    }

    /// Waits, and meanwhile records which streams to follow; they are requested on the next
    /// connection.
    async fn recording_changes<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! {
                done = &mut wait => return done,
                () = self.record_changes() => {}
            }
        }
    }

    /// Waits for changes of what to follow, and records them. Cancel safe.
    async fn record_changes(&self) {
        let requests = self.hub.source_requests(SourceKind::Logs).await;
        for (Subscription { name, .. }, request) in requests {
            self.record_change(name, request);
        }
        self.hub.flush();
    }

    /// Records whether to follow a stream. Returns the stream if its start is not known yet.
    fn record_change(&self, name: ChannelName, request: SourceRequest) -> Option<ChannelName> {
        let mut streams = self.streams.borrow_mut();
        match request {
            SourceRequest::Leave => {
                streams.remove(&name);
                None
            }
            SourceRequest::Follow => match streams.get(&name).and_then(|stream| stream.last) {
                // It was unfollowed and followed again before the change was taken.
                Some(last) => {
                    self.hub.begin_log((SourceKind::Logs, name.as_str()), last);
                    None
                }
                None => {
                    streams.insert(name.clone(), StreamProgress::default());
                    Some(name)
                }
            },
        }
    }

    /// Delivers an entry of a followed stream.
    fn deliver(&self, name: &str, entry: &StreamEntry, received: Instant) {
        let comparison = match self.streams.borrow_mut().get_mut(name) {
            // Entries read before a reset was detected do not belong to the new stream.
            Some(stream) if stream.last.is_some_and(|last| last < entry.id) => {
                stream.record_entry(entry.id, entry.fingerprint)
            }
            _ => return,
        };
        self.hub.publish_entry((SourceKind::Logs, name), entry.id, received, |format| {
            self.decode(format, entry)
        });
        self.report_comparison(name, comparison);
    }

    /// Decodes the entry into an event; `None` if it is too large.
    fn decode(&self, format: Format, entry: &StreamEntry) -> Option<Event> {
        let Some(fields) = &entry.fields else {
            self.metrics.event_too_large();
            return None;
        };
        let decoded = entry::decode(format, fields);
        if decoded.is_malformed {
            self.metrics.event_malformed();
        }
        Some(decoded.event)
    }

    fn report_comparison(&self, name: &str, comparison: Comparison) {
        match comparison {
            Comparison::Same | Comparison::Doubtful => {}
            Comparison::Starts(id) => self.hub.begin_log((SourceKind::Logs, name), id),
            Comparison::Missing(reason, id) => {
                tracing::info!(
                    stream = name,
                    reason = reason.as_str(),
                    "entries of a stream are missing"
                );
                self.hub.log_gap((SourceKind::Logs, name), reason, id);
            }
        }
    }

    fn flush(&self, messages: u64) {
        if messages > 0 {
            self.metrics.source_messages(messages);
        }
        self.hub.flush();
    }
}
