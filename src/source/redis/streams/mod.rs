//! Redis Streams: all followed streams are read, for ever, and pieces of their past again.
//!
//! The streams are read in groups ([`group`]), each by a connection that waits in `XREAD BLOCK`.
//! Beside them there is one connection for questions ([`session`]): where a stream begins, what it
//! had, whether it is still the same one ([`followed`], [`info`]); and to wake a group's connection
//! when what it waits for has changed. All of them live and end together; the streams and up to where
//! they were read outlive them, so nothing is missed in between that Redis still has.

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
use super::connection::{Connection, Purpose};
use super::error::SourceError;
use super::life::{Reporter, wait_before};
use super::socket::Tls;
use crate::event::{ChannelName, Event, Format, Subscription};
use crate::health::Health;
use crate::hub::{Hub, SourceKind, SourceRequest};
use crate::metrics::Metrics;

/// Reads streams on behalf of the hub.
#[derive(Debug)]
pub(crate) struct StreamReader(Rc<Shared>);

/// What all connections of the reader know.
#[derive(Debug)]
struct Shared {
    info: ConnectionInfo,
    tls: Tls,
    max_event_bytes: usize,
    hub: Hub,
    health: Health,
    metrics: Metrics,
    reporter: RefCell<Reporter>,
    streams: RefCell<HashMap<ChannelName, Followed>>,
    connections: Cell<isize>,
    /// A group has been refused.
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
        let tls = Tls::new(info.addr());
        let note = (health.clone(), Health::log_source_failed as _);
        let reporter = Reporter::new(&info, metrics.clone(), note);
        Self(Rc::new(Shared {
            info,
            tls,
            max_event_bytes,
            hub,
            health,
            metrics,
            reporter: RefCell::new(reporter),
            streams: RefCell::default(),
            connections: Cell::new(0),
            refused: Notify::new(),
        }))
    }

    /// Runs for ever: waits until any stream is to be followed, connects, reads, connects again.
    /// Owned by the gateway, which drops it.
    pub(crate) async fn run(self) {
        let shared = self.0;
        while shared.streams.borrow().is_empty() {
            shared.take_wishes().await;
        }
        let mut attempt = 0;
        loop {
            shared.health.set_log_source_ready(false);
            match shared.taking_wishes(shared.open(Purpose::Ask)).await {
                Ok(connection) => {
                    tracing::info!(address = %shared.info.addr(), "connected to Redis for streams");
                    let (error, has_begun) =
                        Session::new(connection, Rc::clone(&shared)).run().await;
                    shared.connections.set(0);
                    shared.note_connections(0);
                    // What was asked is answered on the next connection.
                    shared.hub.repeat_log_reads();
                    if has_begun {
                        attempt = 0;
                    }
                    shared.health.set_log_source_ready(false);
                    shared.report(&error, "lost Redis while reading streams");
                }
                Err(error) => shared.report(&error, "cannot reach Redis to read streams"),
            }
            shared.taking_wishes(tokio::time::sleep(wait_before(attempt))).await;
            attempt += 1;
        }
    }
}

impl Shared {
    async fn open(&self, purpose: Purpose) -> Result<Connection, SourceError> {
        Connection::open(&self.info, &self.tls, self.max_event_bytes, purpose).await
    }

    fn report(&self, error: &SourceError, what: &'static str) {
        self.reporter.borrow_mut().report(error, what);
    }

    fn note_connections(&self, more: isize) {
        self.connections.set(self.connections.get() + more);
        self.metrics.stream_connections(self.connections.get().max(0).cast_unsigned());
    }

    /// Waits, and notes meanwhile what is to be followed: it is asked for on the next connection.
    async fn taking_wishes<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! {
                done = &mut wait => return done,
                () = self.take_wishes() => {}
            }
        }
    }

    /// Waits for wishes, and notes them. Cancel safe.
    async fn take_wishes(&self) {
        let requests = self.hub.source_requests(SourceKind::Logs).await;
        for (Subscription { name, .. }, wish) in requests {
            self.note_wish(name, wish);
        }
        self.hub.flush();
    }

    /// Notes what is to be followed; answers a stream that has yet to begin.
    fn note_wish(&self, name: ChannelName, wish: SourceRequest) -> Option<ChannelName> {
        let mut streams = self.streams.borrow_mut();
        match wish {
            SourceRequest::Leave => {
                streams.remove(&name);
                None
            }
            SourceRequest::Follow => match streams.get(&name).and_then(|stream| stream.last) {
                // It was left and is wanted again before we looked.
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

    /// Takes an entry that was read of a followed stream.
    fn take(&self, name: &str, entry: &Entry, received: Instant) {
        let finding = match self.streams.borrow_mut().get_mut(name) {
            // What was read before the stream began anew is not of it.
            Some(stream) if stream.last.is_some_and(|last| last < entry.id) => {
                stream.read(entry.id, entry.check)
            }
            _ => return,
        };
        self.hub.publish_entry(name, entry.id, received, |format| self.event(format, entry));
        self.tell(name, finding);
    }

    /// The event that the entry is; `None` where it is too large.
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
                tracing::info!(stream = name, reason = reason.as_str(), "a stream has a hole");
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
