//! The connections over HTTP/1.1 to one upstream that one shard keeps.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;

/// Connections that nobody uses, at most.
const MAX_IDLE: usize = 256;

/// A cheap handle.
#[derive(Clone, Debug)]
pub(super) struct Pool(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    // The one that was used last is at the back, and used first.
    idle: RefCell<VecDeque<Idle>>,
    keep_alive: Duration,
    is_swept: Cell<bool>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    expires: Instant,
}

impl Pool {
    /// A pool that keeps each connection for so long.
    pub(super) fn new(keep_alive: Duration) -> Self {
        Self(Rc::new(Inner { idle: RefCell::default(), keep_alive, is_swept: Cell::new(false) }))
    }

    /// A connection that can be used now.
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
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| idle.expires > now && !idle.connection.is_closed());
        idle.iter().map(|idle| idle.expires).min()
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
