//! The connections to one upstream that one shard keeps.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;
use super::shared::SharedConnection;

/// Connections that nobody uses, at most.
const MAX_IDLE: usize = 256;

/// A cheap handle.
#[derive(Clone, Debug)]
pub(super) struct Pool(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    // The one that was used last is at the back, and used first.
    idle: RefCell<VecDeque<Idle>>,
    // Over HTTP/2: all of them, also those in use.
    shared: RefCell<Vec<Shared>>,
    keep_alive: Duration,
    is_swept: Cell<bool>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    expires: Instant,
}

#[derive(Debug)]
struct Shared {
    connection: SharedConnection,
    expires: Instant,
}

impl Pool {
    /// A pool that keeps each connection for so long.
    pub(super) fn new(keep_alive: Duration) -> Self {
        Self(Rc::new(Inner {
            idle: RefCell::default(),
            shared: RefCell::default(),
            keep_alive,
            is_swept: Cell::new(false),
        }))
    }

    /// A connection over HTTP/1.1 that can be used now.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.0.idle.borrow_mut();
        for place in (0..idle.len()).rev() {
            if idle[place].connection.is_closed() {
                idle.remove(place);
            } else if idle[place].connection.is_ready() {
                return idle.remove(place).map(|idle| idle.connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request; for so long at most, where the backend says so.
    pub(super) fn put(&self, connection: Connection, at_most: Option<Duration>) {
        let keep_alive = at_most.map_or(self.0.keep_alive, |most| most.min(self.0.keep_alive));
        if connection.is_closed() || keep_alive.is_zero() {
            return;
        }
        let expires = Instant::now() + keep_alive;
        let mut idle = self.0.idle.borrow_mut();
        if idle.len() >= MAX_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, expires });
        self.keep_swept();
    }

    /// A connection over HTTP/2 with room for one request more.
    pub(super) fn share(&self) -> Option<SharedConnection> {
        let mut shared = self.0.shared.borrow_mut();
        let found = shared.iter_mut().find(|shared| shared.connection.has_room())?;
        found.expires = Instant::now() + self.0.keep_alive;
        Some(found.connection.clone())
    }

    /// Keeps a connection for the next requests.
    pub(super) fn add(&self, connection: &SharedConnection) {
        let expires = Instant::now() + self.0.keep_alive;
        let connection = connection.clone();
        self.0.shared.borrow_mut().push(Shared { connection, expires });
        self.keep_swept();
    }

    fn keep_swept(&self) {
        if !self.0.is_swept.replace(true) {
            // Its owner is the pool: it ends when the pool is empty, or gone.
            drop(tokio::task::spawn_local(sweep(Rc::downgrade(&self.0))));
        }
    }
}

impl Inner {
    /// Closes what was kept for too long; says when the next one is due.
    fn sweep(&self) -> Option<Instant> {
        let now = Instant::now();
        let (mut idle, mut shared) = (self.idle.borrow_mut(), self.shared.borrow_mut());
        idle.retain(|idle| idle.expires > now && !idle.connection.is_closed());
        for shared in shared.iter_mut().filter(|shared| shared.connection.requests() > 0) {
            shared.expires = now + self.keep_alive;
        }
        shared.retain(|shared| shared.expires > now && !shared.connection.is_closed());
        let idle = idle.iter().map(|idle| idle.expires);
        idle.chain(shared.iter().map(|shared| shared.expires)).min()
    }
}

async fn sweep(pool: Weak<Inner>) {
    // A backend may well close many connections at once: they are not kept much longer.
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
