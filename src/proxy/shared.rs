//! The connections over HTTP/2 to one upstream that one shard keeps, with many requests on each.
//!
//! A request is given a connection with room for it. Where there is none, it waits while another is
//! opened: `max_connections` bounds these, `max_waiting` the requests that wait, and `connect_timeout`
//! how long. Another connection is also opened before the last one is full, or is about to be ended by
//! its backend ([`Lifetime`]).

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::connect::Connector;
use super::error::Failure;
use super::facts::{Facts, Place};
use super::http2::Connection;
use super::lifetime::Lifetime;
use super::room::Room;
use crate::route::ProxySettings;

/// Connections that are opened at the same time, for requests that wait.
const MAX_DIALING: usize = 8;
/// How often a connection is opened that its backend closes at once, without a fault: nothing was sent
/// on it.
const MAX_OPENINGS: u32 = 3;
/// Streams that a new connection is expected to take, until a backend has said how many.
const EXPECTED_STREAMS: usize = 100;
/// Another connection is opened when less than this part of one is free.
const SPARE: usize = 4;
/// After a dial has failed, none is tried for so long that no request waits for.
const SPARE_PAUSE: Duration = Duration::from_secs(1);

/// A cheap handle.
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
    // Connections that were opened so far; each has the number that it made of it.
    opened: Cell<u64>,
    waiting: Cell<usize>,
    // How many dials have failed, and why and when the last one did.
    failures: Cell<u64>,
    failed: RefCell<Option<(Failure, Instant)>>,
    expected_streams: Cell<usize>,
    room: Rc<Room>,
    is_swept: Cell<bool>,
}

#[derive(Debug)]
struct Kept {
    connection: Connection,
    number: u64,
    expires: Instant,
}

/// What a request needs of its connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Need {
    /// Whether it has a body; its length, where that is known.
    pub(super) upload: Option<UploadLength>,
    /// Connections up to this number will not do: one of them has just failed.
    pub(super) newer_than: u64,
}

/// The length of a request's body, in octets; `None`: it is not known.
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

    /// A connection with room for one request more, which has to be sent at once.
    ///
    /// # Errors
    /// There is none, and none can be opened.
    pub(super) async fn connection(&self, need: Need) -> Result<Connection, Failure> {
        if let Some(connection) = self.find(need) {
            return Ok(connection);
        }
        let _waiting = Waiting::among(&self.0)?;
        let found = timeout(self.0.connect_timeout, self.wait(need)).await;
        found.unwrap_or_else(|_elapsed| self.find_any(need).ok_or(Failure::ConnectTimeout))
    }

    async fn wait(&self, need: Need) -> Result<Connection, Failure> {
        let inner = &*self.0;
        let failures = inner.failures.get();
        let mut seen = inner.room.growths();
        loop {
            // From here on nothing is missed.
            let mut room = pin!(inner.room.notified());
            room.as_mut().enable();
            if let Some(connection) = self.find(need) {
                if need.upload.is_some() {
                    // It has not taken a whole connection's credit: others may fit beside it.
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
                // One that is silent may still answer its PING.
                if found.is_some() || !inner.has_silent() {
                    return found.ok_or(Failure::MaxConnections);
                }
            }
            inner.room.pass_on(&mut seen);
            room.await;
        }
    }

    /// A connection with room for the request, though other uploads may hold up its body: where no other
    /// connection can be opened that is better than none.
    fn find_any(&self, need: Need) -> Option<Connection> {
        self.find(Need { upload: None, ..need })
    }

    /// The first connection that takes this request. So the others may become idle.
    fn find(&self, need: Need) -> Option<Connection> {
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
        // One of them is for this request.
        if (room - 1) * SPARE < self.0.expected_streams.get() && self.0.may_dial_spare() {
            self.dial();
        }
        Some(connection)
    }

    /// Whether the connections that are being opened are too few for the requests that wait.
    fn needs_dial(&self) -> bool {
        let dialing = self.0.dialing.get();
        dialing < MAX_DIALING && dialing * self.0.expected_streams.get() < self.0.waiting.get()
    }

    /// Begins to open a connection. Returns whether there may be one more.
    fn dial(&self) -> bool {
        let Some(place) = self.0.facts.admit(self.0.max_connections) else { return false };
        self.0.dialing.set(self.0.dialing.get() + 1);
        let pool = self.clone();
        // Ends within connect_timeout. What it opens belongs to the pool, also when the request that it
        // was meant for has gone.
        drop(tokio::task::spawn_local(async move {
            let opened = pool.0.open(place).await;
            pool.dialed(opened);
        }));
        true
    }

    fn dialed(&self, opened: Result<Connection, Failure>) {
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

    fn add(&self, connection: Connection) {
        let inner = &*self.0;
        let streams = inner.lifetime.borrow().left(0).min(connection.max_streams());
        inner.expected_streams.set(streams.max(1));
        let number = inner.opened.get() + 1;
        inner.opened.set(number);
        let expires = Instant::now() + inner.keep_alive;
        inner.connections.borrow_mut().push(Kept { connection, number, expires });
        if !inner.is_swept.replace(true) {
            // Its owner is the pool: it ends when the pool is empty, or gone.
            drop(tokio::task::spawn_local(sweep(Rc::downgrade(&self.0))));
        }
    }
}

impl Inner {
    async fn open(&self, place: Place) -> Result<Connection, Failure> {
        let place = Rc::new(place);
        let opening = async {
            let mut attempts = 1;
            loop {
                let socket = self.connector.connect(true).await;
                let socket = socket.map_err(|error| Failure::connect(&error))?;
                let (place, header) = (Rc::clone(&place), self.max_header);
                match Connection::open(socket, place, &self.room, header).await {
                    Err(reason) if reason.is_plain_end() && attempts < MAX_OPENINGS => {
                        attempts += 1;
                    }
                    opened => return opened.map_err(|reason| Failure::connect(&reason)),
                }
            }
        };
        timeout(self.connect_timeout, opening).await.unwrap_or(Err(Failure::ConnectTimeout))
    }

    /// Looks at each connection, and at how many requests more it takes. Those that take no more, ever,
    /// are removed: the requests that run on them keep them open.
    fn each(&self, mut look: impl FnMut(&mut Kept, usize)) {
        let mut lifetime = self.lifetime.borrow_mut();
        self.connections.borrow_mut().retain_mut(|kept| {
            let Kept { connection, .. } = kept;
            if let Some(requests) = connection.ended_after() {
                lifetime.ended_after(requests);
            } else if connection.streams() == 0 {
                lifetime.lived_to(connection.opened());
            }
            if connection.is_over() {
                return false;
            }
            let room = connection.room().min(lifetime.left(connection.opened()));
            look(kept, room);
            true
        });
    }

    /// Whether a connection takes no requests until the backend answers a PING.
    fn has_silent(&self) -> bool {
        self.connections.borrow().iter().any(|kept| kept.connection.is_silent())
    }

    /// Whether a connection may be opened that no request waits for.
    fn may_dial_spare(&self) -> bool {
        let failed = self.failed.borrow();
        let has_just_failed = failed.as_ref().is_some_and(|(_, at)| at.elapsed() < SPARE_PAUSE);
        self.dialing.get() == 0 && !has_just_failed
    }

    /// Closes what was kept for too long; returns when the next one is due.
    fn sweep(&self) -> Option<Instant> {
        let now = Instant::now();
        self.each(|kept, _| {
            if kept.connection.streams() > 0 {
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

/// A request among those that wait.
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
