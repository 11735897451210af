//! The HTTP/2 connections of one shard to one upstream.
//!
//! A request gets a connection with room for another stream. If there is none, it waits while one
//! is opened: `max_connections` bounds the connections, `max_waiting` the requests that wait, and
//! `connect_timeout` the wait. A spare connection is opened in advance, before the last one is full
//! or before the backend is expected to close it ([`Lifetime`]). Does not send requests itself.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::connect::Connector;
use super::error::Failure;
use super::facts::{Facts, Place};
use super::http2::Http2Connection;
use super::lifetime::Lifetime;
use super::room::Room;
use crate::route::ProxySettings;

/// The maximum number of connections being opened at the same time.
const MAX_DIALING: usize = 8;
/// How many times to connect if the backend closes the new connection at once without an error.
/// Nothing was sent on it, so this is safe.
const MAX_OPENINGS: u32 = 3;
/// The streams expected on a new connection until a backend has sent MAX_CONCURRENT_STREAMS.
const EXPECTED_STREAMS: usize = 100;
/// A spare connection is opened when less than 1/SPARE of a connection's streams is free.
const SPARE: usize = 4;
/// After a failed dial no spare connection is opened for this long.
const SPARE_PAUSE: Duration = Duration::from_secs(1);

/// A pool of connections that requests share. A cheap handle.
#[derive(Clone, Debug)]
pub(super) struct SharedPool(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    connector: Rc<Connector>,
    facts: Facts,
    max_connections: usize,
    max_waiting: usize,
    max_header: usize,
    connect_timeout: Duration,
    keep_alive: Duration,
    connections: RefCell<Vec<Kept>>,
    lifetime: RefCell<Lifetime>,
    dialing: Cell<usize>,
    // Connections opened so far; a connection's number is the count when it was added.
    opened: Cell<u64>,
    waiting: Cell<usize>,
    // The number of failed dials, and the last failure with its time.
    failures: Cell<u64>,
    failed: RefCell<Option<(Failure, Instant)>>,
    expected_streams: Cell<usize>,
    room: Rc<Room>,
    is_swept: Cell<bool>,
}

#[derive(Debug)]
struct Kept {
    connection: Http2Connection,
    number: u64,
    expires: Instant,
}

/// What a request needs from its connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Need {
    /// Its body, if it has one.
    pub(super) upload: Option<UploadLength>,
    /// Excludes connections up to this number: the request has just failed on one of them.
    pub(super) newer_than: u64,
}

/// The length of a request body in octets; `None`: unknown.
pub(super) type UploadLength = Option<u64>;

impl SharedPool {
    /// A pool without connections.
    pub(super) fn new(connector: Rc<Connector>, settings: &ProxySettings, facts: Facts) -> Self {
        Self(Rc::new(Inner {
            connector,
            facts,
            max_connections: settings.max_connections,
            max_waiting: settings.max_waiting,
            max_header: settings.max_response_header,
            connect_timeout: settings.connect_timeout,
            keep_alive: settings.keep_alive,
            connections: RefCell::default(),
            lifetime: RefCell::default(),
            dialing: Cell::new(0),
            opened: Cell::new(0),
            waiting: Cell::new(0),
            failures: Cell::new(0),
            failed: RefCell::default(),
            expected_streams: Cell::new(EXPECTED_STREAMS),
            room: Rc::default(),
            is_swept: Cell::new(false),
        }))
    }

    /// The number of the newest connection.
    pub(super) fn newest(&self) -> u64 {
        self.0.opened.get()
    }

    /// Returns a connection with room for another request. The request must be sent without
    /// awaiting anything first, since nothing is reserved.
    ///
    /// # Errors
    /// No connection has room and none can be opened: the backend cannot be reached, or
    /// `max_connections`, `max_waiting` or `connect_timeout` is exceeded.
    pub(super) async fn connection(&self, need: Need) -> Result<Http2Connection, Failure> {
        if let Some(connection) = self.find(need) {
            return Ok(connection);
        }
        let _waiting = Waiting::among(&self.0)?;
        let found = timeout(self.0.connect_timeout, self.wait(need)).await;
        found.unwrap_or_else(|_elapsed| self.find_any(need).ok_or(Failure::ConnectTimeout))
    }

    async fn wait(&self, need: Need) -> Result<Http2Connection, Failure> {
        let inner = &*self.0;
        let failures = inner.failures.get();
        let mut seen = inner.room.growths();
        loop {
            // Registered before the check below, so that no wake-up is missed.
            let mut room = pin!(inner.room.notified());
            room.as_mut().enable();
            if let Some(connection) = self.find(need) {
                if need.upload.is_some() {
                    // The upload may leave enough of the window for others: wake the next request.
                    inner.room.pass_on(&mut seen);
                }
                return Ok(connection);
            }
            if inner.failures.get() > failures && inner.dialing.get() == 0 {
                let failed = inner.failed.borrow().as_ref().map(|(failure, _)| failure.clone());
                let failure = failed.unwrap_or(Failure::ConnectTimeout);
                return self.find_any(need).ok_or(failure);
            }
            if self.needs_dial() && !self.dial() && inner.dialing.get() == 0 {
                let found = self.find_any(need);
                // A silent connection may yet acknowledge its PING, and have room again.
                if found.is_some() || !inner.has_silent() {
                    return found.ok_or(Failure::MaxConnections);
                }
            }
            inner.room.pass_on(&mut seen);
            room.await;
        }
    }

    /// A connection with room for the request, even if other uploads may stall its body. The
    /// fallback if no other connection can be opened.
    fn find_any(&self, need: Need) -> Option<Http2Connection> {
        self.find(Need { upload: None, ..need })
    }

    /// The first connection that fits. Filling the first ones lets the others become idle and
    /// expire.
    fn find(&self, need: Need) -> Option<Http2Connection> {
        let (mut found, mut room) = (None, 0);
        self.0.each(|kept, free| {
            room += free;
            let fits = found.is_none()
                && free > 0
                && kept.number > need.newer_than
                && need.upload.is_none_or(|length| kept.connection.takes_upload(length));
            if fits {
                kept.expires = Instant::now() + self.0.keep_alive;
                found = Some(kept.connection.clone());
            }
        });
        let connection = found?;
        // Minus the stream that this request takes.
        if (room - 1) * SPARE < self.0.expected_streams.get() && self.0.may_dial_spare() {
            self.dial();
        }
        Some(connection)
    }

    /// Whether more connections must be opened for the requests that wait.
    fn needs_dial(&self) -> bool {
        let dialing = self.0.dialing.get();
        dialing < MAX_DIALING && dialing * self.0.expected_streams.get() < self.0.waiting.get()
    }

    /// Starts to open a connection. Returns `false` if `max_connections` is reached.
    fn dial(&self) -> bool {
        let Some(place) = self.0.facts.admit(self.0.max_connections) else { return false };
        self.0.dialing.set(self.0.dialing.get() + 1);
        let pool = self.clone();
        // Owned by the pool; ends within connect_timeout. The pool keeps the connection even if the
        // request that needed it has been cancelled.
        drop(tokio::task::spawn_local(async move {
            let opened = pool.0.open(place).await;
            pool.dialed(opened);
        }));
        true
    }

    fn dialed(&self, opened: Result<Http2Connection, Failure>) {
        let inner = &*self.0;
        inner.dialing.set(inner.dialing.get() - 1);
        match opened {
            Ok(connection) => self.add(connection),
            Err(failure) => {
                inner.failures.set(inner.failures.get() + 1);
                inner.failed.replace(Some((failure, Instant::now())));
            }
        }
        inner.room.changed();
    }

    fn add(&self, connection: Http2Connection) {
        let inner = &*self.0;
        let streams = inner.lifetime.borrow().left(0).min(connection.max_streams());
        inner.expected_streams.set(streams.max(1));
        let number = inner.opened.get() + 1;
        inner.opened.set(number);
        let expires = Instant::now() + inner.keep_alive;
        inner.connections.borrow_mut().push(Kept { connection, number, expires });
        if !inner.is_swept.replace(true) {
            // Owned by the pool: the task ends when the pool is empty or dropped.
            drop(tokio::task::spawn_local(sweep(Rc::downgrade(&self.0))));
        }
    }
}

impl Inner {
    /// Opens a connection within `connect_timeout`.
    async fn open(&self, place: Place) -> Result<Http2Connection, Failure> {
        let place = Rc::new(place);
        let opening = async {
            let mut attempts = 1;
            loop {
                let socket = self.connector.connect(true).await;
                let socket = socket.map_err(|error| Failure::connect(&error))?;
                let (place, header) = (Rc::clone(&place), self.max_header);
                match Http2Connection::open(socket, place, &self.room, header).await {
                    Err(reason) if reason.is_plain_end() && attempts < MAX_OPENINGS => {
                        attempts += 1;
                    }
                    opened => return opened.map_err(|reason| Failure::connect(&reason)),
                }
            }
        };
        timeout(self.connect_timeout, opening).await.unwrap_or(Err(Failure::ConnectTimeout))
    }

    /// Visits each connection with the number of further requests that it takes. Removes
    /// connections that take no more, ever; the requests on them keep these open.
    fn each(&self, mut look: impl FnMut(&mut Kept, usize)) {
        let mut lifetime = self.lifetime.borrow_mut();
        self.connections.borrow_mut().retain_mut(|kept| {
            let Kept { connection, .. } = kept;
            if let Some(requests) = connection.goaway_after() {
                lifetime.ended_after(requests);
            } else if connection.open_streams() == 0 {
                lifetime.lived_to(connection.opened_streams());
            }
            if connection.is_unusable() {
                return false;
            }
            let room =
                connection.available_streams().min(lifetime.left(connection.opened_streams()));
            look(kept, room);
            true
        });
    }

    /// Whether a connection is waiting for a PING ACK and takes no requests until then.
    fn has_silent(&self) -> bool {
        self.connections.borrow().iter().any(|kept| kept.connection.is_silent())
    }

    /// Whether a spare connection may be opened.
    fn may_dial_spare(&self) -> bool {
        let failed = self.failed.borrow();
        let has_just_failed = failed.as_ref().is_some_and(|(_, at)| at.elapsed() < SPARE_PAUSE);
        self.dialing.get() == 0 && !has_just_failed
    }

    /// Drops connections that were idle for `keep_alive`; returns when the next one expires.
    fn sweep(&self) -> Option<Instant> {
        let now = Instant::now();
        self.each(|kept, _| {
            if kept.connection.open_streams() > 0 {
                kept.expires = now + self.keep_alive;
            }
        });
        let mut connections = self.connections.borrow_mut();
        connections.retain(|kept| kept.expires > now);
        connections.iter().map(|kept| kept.expires).min()
    }
}

async fn sweep(pool: Weak<Inner>) {
    const AT_LEAST: Duration = Duration::from_secs(1);
    while let Some(pool) = pool.upgrade() {
        let next = pool.sweep();
        pool.is_swept.set(next.is_some());
        drop(pool);
        let Some(next) = next else { return };
        let now = Instant::now();
        tokio::time::sleep_until(next.clamp(now + AT_LEAST, now + 10 * AT_LEAST)).await;
    }
}

/// Counts a waiting request until it is dropped.
#[derive(Debug)]
struct Waiting<'p>(&'p Inner);

impl<'p> Waiting<'p> {
    fn among(pool: &'p Inner) -> Result<Self, Failure> {
        if pool.waiting.get() >= pool.max_waiting {
            return Err(Failure::MaxWaiting);
        }
        pool.waiting.set(pool.waiting.get() + 1);
        Ok(Self(pool))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}
