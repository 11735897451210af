//! The HTTP/2 connections of one shard to one upstream.
//!
//! A request gets a connection with room for another stream. If there is none, it waits while one
//! is opened: `max_connections` bounds the connections, `max_waiting` the requests that wait, and
//! `connect_timeout` the wait. A spare connection is opened in advance, before the last one is full
//! or before the backend is expected to close it ([`RequestLimit`]). Does not send requests itself.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use ssegate_http2::error::ErrorCode;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::capacity::CapacityNotify;
use super::connect::Connector;
use super::error::Failure;
use super::http2::{Http2Connection, Reason};
use super::pool_sweeper::{self, SweptPool};
use super::recorder::{ConnectionSlot, Recorder};
use super::request_limit::RequestLimit;
use crate::route::ProxySettings;

/// The maximum number of connections being opened at the same time.
const MAX_DIALING: usize = 8;
/// How many times to connect if the new connection is lost at once. Nothing was sent on it, so this is safe.
const MAX_OPENINGS: u32 = 5;
/// The same if the backend says GOAWAY with NO_ERROR: a worker that a reload has ended says it on each connection that it
/// has just accepted, and several reloads may follow each other.
const MAX_GOAWAY_OPENINGS: u32 = 8;
/// The pause before the second of them, which doubles with each: of five 150 ms in all, of eight 1.3 s. `connect_timeout`
/// ends it earlier.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The streams expected on a new connection until a backend has sent MAX_CONCURRENT_STREAMS.
const EXPECTED_STREAMS: usize = 100;
/// A spare connection is opened when less than 1/SPARE of a connection's streams is free.
const SPARE: usize = 4;
/// After a failed dial no spare connection is opened for this long.
const SPARE_PAUSE: Duration = Duration::from_secs(1);

/// A pool of connections that requests share. A cheap handle.
#[derive(Clone, Debug)]
pub(super) struct Http2Pool(Rc<Http2PoolState>);

#[derive(Debug)]
struct Http2PoolState {
    connector: Rc<Connector>,
    recorder: Recorder,
    max_connections: usize,
    max_waiting: usize,
    max_header: usize,
    connect_timeout: Duration,
    keep_alive: Duration,
    connections: RefCell<Vec<PooledConnection>>,
    request_limit: RefCell<RequestLimit>,
    dialing: Cell<usize>,
    // Connections opened so far; a connection's number is the count when it was added.
    opened: Cell<u64>,
    waiting: Cell<usize>,
    // The number of failed dials, and the last failure with its time.
    failures: Cell<u64>,
    failed: RefCell<Option<(Failure, Instant)>>,
    expected_streams: Cell<usize>,
    capacity: Rc<CapacityNotify>,
    has_sweeper: Cell<bool>,
}

#[derive(Debug)]
struct PooledConnection {
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

impl Http2Pool {
    /// A pool without connections.
    pub(super) fn new(
        connector: Rc<Connector>,
        settings: &ProxySettings,
        recorder: Recorder,
    ) -> Self {
        Self(Rc::new(Http2PoolState {
            connector,
            recorder,
            max_connections: settings.max_connections,
            max_waiting: settings.max_waiting,
            max_header: settings.max_response_header,
            connect_timeout: settings.connect_timeout,
            keep_alive: settings.keep_alive,
            connections: RefCell::default(),
            request_limit: RefCell::default(),
            dialing: Cell::new(0),
            opened: Cell::new(0),
            waiting: Cell::new(0),
            failures: Cell::new(0),
            failed: RefCell::default(),
            expected_streams: Cell::new(EXPECTED_STREAMS),
            capacity: Rc::default(),
            has_sweeper: Cell::new(false),
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
        let _waiting = WaitingGuard::new(&self.0)?;
        let found = timeout(self.0.connect_timeout, self.wait(need)).await;
        found.unwrap_or_else(|_elapsed| self.find_any(need).ok_or(Failure::ConnectTimeout))
    }

    async fn wait(&self, need: Need) -> Result<Http2Connection, Failure> {
        let state = &*self.0;
        let failures = state.failures.get();
        let mut seen = state.capacity.version();
        loop {
            // Registered before the check below, so that no wake-up is missed.
            let mut notified = pin!(state.capacity.notified());
            notified.as_mut().enable();
            if let Some(connection) = self.find(need) {
                if need.upload.is_some() {
                    // The upload may leave enough of the window for others: wake the next request.
                    state.capacity.pass_on(&mut seen);
                }
                return Ok(connection);
            }
            if state.failures.get() > failures && state.dialing.get() == 0 {
                let failed = state.failed.borrow().as_ref().map(|(failure, _)| failure.clone());
                let failure = failed.unwrap_or(Failure::ConnectTimeout);
                return self.find_any(need).ok_or(failure);
            }
            if self.needs_dial() && !self.dial() && state.dialing.get() == 0 {
                let found = self.find_any(need);
                // A silent connection may yet acknowledge its PING, and have room again.
                if found.is_some() || !state.has_silent() {
                    return found.ok_or(Failure::MaxConnections);
                }
            }
            state.capacity.pass_on(&mut seen);
            notified.await;
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
        self.0.visit(|pooled, free| {
            room += free;
            let fits = found.is_none()
                && free > 0
                && pooled.number > need.newer_than
                && need.upload.is_none_or(|length| pooled.connection.takes_upload(length));
            if fits {
                pooled.expires = Instant::now() + self.0.keep_alive;
                found = Some(pooled.connection.clone());
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
        let Some(slot) = self.0.recorder.acquire_slot(self.0.max_connections) else { return false };
        self.0.dialing.set(self.0.dialing.get() + 1);
        let pool = self.clone();
        // Owned by the pool; ends within connect_timeout. The pool keeps the connection even if the
        // request that needed it has been cancelled.
        drop(tokio::task::spawn_local(async move {
            let opened = pool.0.open(slot).await;
            pool.dialed(opened);
        }));
        true
    }

    fn dialed(&self, opened: Result<Http2Connection, Failure>) {
        let state = &*self.0;
        state.dialing.set(state.dialing.get() - 1);
        match opened {
            Ok(connection) => self.add(connection),
            Err(failure) => {
                state.failures.set(state.failures.get() + 1);
                state.failed.replace(Some((failure, Instant::now())));
            }
        }
        state.capacity.notify_all();
    }

    fn add(&self, connection: Http2Connection) {
        let state = &*self.0;
        let streams = state.request_limit.borrow().remaining(0).min(connection.max_streams());
        state.expected_streams.set(streams.max(1));
        let number = state.opened.get() + 1;
        state.opened.set(number);
        let expires = Instant::now() + state.keep_alive;
        state.connections.borrow_mut().push(PooledConnection { connection, number, expires });
        pool_sweeper::ensure_swept(&self.0);
    }
}

impl Http2PoolState {
    /// Opens a connection within `connect_timeout`.
    async fn open(&self, slot: ConnectionSlot) -> Result<Http2Connection, Failure> {
        let slot = Rc::new(slot);
        let deadline = Instant::now() + self.connect_timeout;
        let opening = async {
            let (mut openings, mut pause) = (1, FIRST_PAUSE);
            loop {
                let socket = self.connector.connect(true, deadline).await?;
                let (slot, header) = (Rc::clone(&slot), self.max_header);
                match Http2Connection::open(socket, slot, &self.capacity, header).await {
                    Err(reason) if openings < max_openings(&reason) => {
                        sleep(pause).await;
                        (openings, pause) = (openings + 1, pause * 2);
                    }
                    opened => return opened.map_err(|reason| Failure::connect(&reason)),
                }
            }
        };
        timeout_at(deadline, opening).await.unwrap_or(Err(Failure::ConnectTimeout))
    }

    /// Visits each connection with the number of further requests that it takes. Removes
    /// connections that take no more, ever; the requests on them keep these open.
    fn visit(&self, mut visit: impl FnMut(&mut PooledConnection, usize)) {
        let mut request_limit = self.request_limit.borrow_mut();
        self.connections.borrow_mut().retain_mut(|pooled| {
            let PooledConnection { connection, .. } = pooled;
            if let Some(requests) = connection.goaway_after() {
                request_limit.goaway_after(requests);
            } else if connection.open_streams() == 0 {
                request_limit.survived(connection.opened_streams());
            }
            if connection.is_unusable() {
                return false;
            }
            let room = connection
                .available_streams()
                .min(request_limit.remaining(connection.opened_streams()));
            visit(pooled, room);
            true
        });
    }

    /// Whether a connection is waiting for a PING ACK and takes no requests until then.
    fn has_silent(&self) -> bool {
        self.connections.borrow().iter().any(|pooled| pooled.connection.is_silent())
    }

    /// Whether a spare connection may be opened.
    fn may_dial_spare(&self) -> bool {
        let failed = self.failed.borrow();
        let has_just_failed = failed.as_ref().is_some_and(|(_, at)| at.elapsed() < SPARE_PAUSE);
        self.dialing.get() == 0 && !has_just_failed
    }
}

/// How many times to connect if new connections end for this reason.
fn max_openings(reason: &Reason) -> u32 {
    match reason {
        Reason::GoAway(ErrorCode::NO_ERROR, _) => MAX_GOAWAY_OPENINGS,
        Reason::ConnectionLost(_) => MAX_OPENINGS,
        _ => 1,
    }
}

impl SweptPool for Http2PoolState {
    /// Drops connections that were idle for `keep_alive`; returns when the next one expires.
    fn sweep(&self) -> Option<Instant> {
        let now = Instant::now();
        self.visit(|pooled, _| {
            if pooled.connection.open_streams() > 0 {
                pooled.expires = now + self.keep_alive;
            }
        });
        let mut connections = self.connections.borrow_mut();
        connections.retain(|pooled| pooled.expires > now);
        connections.iter().map(|pooled| pooled.expires).min()
    }

    fn has_sweeper(&self) -> &Cell<bool> {
        &self.has_sweeper
    }
}

/// Counts a waiting request until it is dropped.
#[derive(Debug)]
struct WaitingGuard<'p>(&'p Http2PoolState);

impl<'p> WaitingGuard<'p> {
    fn new(pool: &'p Http2PoolState) -> Result<Self, Failure> {
        if pool.waiting.get() >= pool.max_waiting {
            return Err(Failure::MaxWaiting);
        }
        pool.waiting.set(pool.waiting.get() + 1);
        Ok(Self(pool))
    }
}

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}
