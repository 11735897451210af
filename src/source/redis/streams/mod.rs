//! Redis Streams: reads all followed streams for ever, and ranges of their past on request.
//!
//! Each set of streams ([`group`]) is read by a connection that blocks in `XREAD BLOCK`. One more
//! connection ([`session`]) sends all other commands: to learn where a stream starts, what it
//! contains and whether it is still the same ([`followed`], [`info`]), and to unblock a connection
//! when its set has changed. All connections are opened and closed together. The streams and the
//! ids up to which they were read outlive them, so nothing that Redis still has is missed in
//! between.

mod entry;
mod followed;
mod group;
mod info;
mod past;
mod question;
mod reached;
mod session;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use redis::ConnectionInfo;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::entry::Entry;
use self::followed::{Finding, Followed};
use self::session::Session;
use super::connection::{ConnectionKind, RedisConnection};
use super::error::SourceError;
use super::retry::{FailureLog, backoff};
use super::socket::RedisTls;
use crate::event::{ChannelName, Event, Format};
use crate::health::Health;
use crate::hub::{Hub, Wish};
use crate::metrics::Metrics;

/// Reads streams on behalf of the hub.
#[derive(Debug)]
pub(crate) struct StreamReader(Rc<Shared>);

/// State shared by the connections of the reader.
#[derive(Debug)]
struct Shared {
    info: ConnectionInfo,
    tls: RedisTls,
    max_event_bytes: usize,
    hub: Hub,
    health: Health,
    metrics: Metrics,
    failures: RefCell<FailureLog>,
    streams: RefCell<HashMap<ChannelName, Followed>>,
    connections: Cell<isize>,
    /// Notified when the `XREAD` of a group was refused.
    refused: Notify,
}

impl StreamReader {
    pub(crate) fn new(
        info: ConnectionInfo,
        max_event_bytes: usize,
        hub: Hub,
        health: Health,
        metrics: Metrics,
    ) -> Self {
        let tls = RedisTls::new(info.addr());
        let record = (health.clone(), Health::log_source_failed as _);
        let failures = FailureLog::new(&info, metrics.clone(), record);
        Self(Rc::new(Shared {
            info,
            tls,
            max_event_bytes,
            hub,
            health,
            metrics,
            failures: RefCell::new(failures),
            streams: RefCell::default(),
            connections: Cell::new(0),
            refused: Notify::new(),
        }))
    }

    /// Runs for ever: waits until a stream is followed, connects, reads, reconnects. Owned by the
    /// gateway, which drops it.
    pub(crate) async fn run(self) {
        let shared = self.0;
        while shared.streams.borrow().is_empty() {
            shared.take_wishes().await;
        }
        let mut attempt = 0;
        loop {
            shared.health.set_log_source_ready(false);
            match shared.taking_wishes(shared.open(ConnectionKind::Command)).await {
                Ok(connection) => {
                    tracing::info!(address = %shared.info.addr(), "connected to Redis to read streams");
                    let (error, has_begun) =
                        Session::new(connection, Rc::clone(&shared)).run().await;
                    shared.connections.set(0);
                    shared.note_connections(0);
                    // Range reads that are pending are sent again on the next connection.
                    shared.hub.ask_for_pasts_again();
                    if has_begun {
                        attempt = 0;
                    }
                    shared.health.set_log_source_ready(false);
                    shared.report(&error, "lost the connection to Redis while reading streams");
                }
                Err(error) => shared.report(&error, "cannot connect to Redis to read streams"),
            }
            shared.taking_wishes(tokio::time::sleep(backoff(attempt))).await;
            attempt += 1;
        }
    }
}

impl Shared {
    async fn open(&self, kind: ConnectionKind) -> Result<RedisConnection, SourceError> {
        RedisConnection::open(&self.info, &self.tls, self.max_event_bytes, kind).await
    }

    fn report(&self, error: &SourceError, what: &'static str) {
        self.failures.borrow_mut().report(error, what);
    }

    fn note_connections(&self, more: isize) {
        self.connections.set(self.connections.get() + more);
        self.metrics.stream_connections(self.connections.get().max(0).cast_unsigned());
    }

    /// Waits, and meanwhile records which streams to follow; they are requested on the next
    /// connection.
    async fn taking_wishes<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! {
                done = &mut wait => return done,
                () = self.take_wishes() => {}
            }
        }
    }

    /// Waits for changes of what to follow, and records them. Cancel safe.
    async fn take_wishes(&self) {
        for (name, wish) in self.hub.log_wishes().await {
            self.note_wish(name, wish);
        }
        self.hub.flush();
    }

    /// Records whether to follow a stream. Returns the stream if its start is not known yet.
    fn note_wish(&self, name: ChannelName, wish: Wish) -> Option<ChannelName> {
        let mut streams = self.streams.borrow_mut();
        match wish {
            Wish::Leave => {
                streams.remove(&name);
                None
            }
            Wish::Follow => match streams.get(&name).and_then(|stream| stream.last) {
                // It was unfollowed and followed again before the change was taken.
                Some(last) => {
                    self.hub.begin_log(name.as_str(), last);
                    None
                }
                None => {
                    streams.insert(name.clone(), Followed::default());
                    Some(name)
                }
            },
        }
    }

    /// Delivers an entry of a followed stream.
    fn take(&self, name: &str, entry: &Entry, received: Instant) {
        let finding = match self.streams.borrow_mut().get_mut(name) {
            // Entries read before a reset was detected do not belong to the new stream.
            Some(stream) if stream.last.is_some_and(|last| last < entry.id) => {
                stream.read(entry.id, entry.check)
            }
            _ => return,
        };
        self.hub.entry(name, entry.id, received, |format| self.event(format, entry));
        self.tell(name, finding);
    }

    /// Decodes the entry into an event; `None` if it is too large.
    fn event(&self, format: Format, entry: &Entry) -> Option<Event> {
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

    fn tell(&self, name: &str, finding: Finding) {
        match finding {
            Finding::Same => {}
            Finding::Begins(id) => self.hub.begin_log(name, id),
            Finding::Missing(reason, id) => {
                tracing::info!(
                    stream = name,
                    reason = reason.as_str(),
                    "entries of a stream are missing"
                );
                self.hub.log_gap(name, reason, id);
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
