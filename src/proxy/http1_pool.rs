//! The idle HTTP/1.1 connections of one shard to one upstream.
//!
//! Keeps connections between requests, and closes them when they expire. Does not open any, nor
//! does it count those in use.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::http1_connection::Http1Connection;
use super::pool_sweeper::{self, SweptPool};

/// The maximum number of idle connections; the one that was idle longest is closed.
const MAX_IDLE: usize = 256;

/// A pool of idle connections. A cheap handle.
#[derive(Clone, Debug)]
pub(super) struct Http1Pool(Rc<Http1PoolState>);

#[derive(Debug)]
struct Http1PoolState {
    // A stack: the connection used last is at the back, and is reused first.
    idle: RefCell<VecDeque<IdleConnection>>,
    keep_alive: Duration,
    has_sweeper: Cell<bool>,
}

#[derive(Debug)]
struct IdleConnection {
    connection: Http1Connection,
    expires: Instant,
}

impl Http1Pool {
    /// An empty pool that closes a connection after `keep_alive` without a request.
    pub(super) fn new(keep_alive: Duration) -> Self {
        Self(Rc::new(Http1PoolState {
            idle: RefCell::default(),
            keep_alive,
            has_sweeper: Cell::new(false),
        }))
    }

    /// Takes a connection on which a request can be sent now.
    pub(super) fn take(&self) -> Option<Http1Connection> {
        let mut idle = self.0.idle.borrow_mut();
        for index in (0..idle.len()).rev() {
            if idle[index].connection.is_closed() {
                idle.remove(index);
            } else if idle[index].connection.is_ready() {
                return idle.remove(index).map(|idle| idle.connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request, for `at_most` if the backend has announced a limit.
    /// Zero closes it.
    pub(super) fn put(&self, connection: Http1Connection, at_most: Option<Duration>) {
        let keep_alive = at_most.map_or(self.0.keep_alive, |most| most.min(self.0.keep_alive));
        if connection.is_closed() || keep_alive.is_zero() {
            return;
        }
        let expires = Instant::now() + keep_alive;
        let mut idle = self.0.idle.borrow_mut();
        if idle.len() >= MAX_IDLE {
            idle.pop_front();
        }
        idle.push_back(IdleConnection { connection, expires });
        pool_sweeper::ensure_swept(&self.0);
    }
}

impl SweptPool for Http1PoolState {
    fn sweep(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| idle.expires > now && !idle.connection.is_closed());
        idle.iter().map(|idle| idle.expires).min()
    }

    fn has_sweeper(&self) -> &Cell<bool> {
        &self.has_sweeper
    }
}
