//! The connections to one upstream that one shard keeps while nobody needs them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;

/// Connections that are kept, at most.
const MAX_IDLE: usize = 64;

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
        let idle = RefCell::default();
        Self(Rc::new(Inner { idle, keep_alive, is_swept: Cell::new(false) }))
    }

    /// A connection that can be used now.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.0.idle.borrow_mut();
        idle.retain(|idle| !idle.connection.is_closed());
        let place = idle.iter().rposition(|idle| idle.connection.is_ready())?;
        idle.remove(place).map(|idle| idle.connection)
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(&self, connection: Connection) {
        if connection.is_closed() || self.0.keep_alive.is_zero() {
            return;
        }
        let expires = Instant::now() + self.0.keep_alive;
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

/// Closes what was kept for too long; ends when nothing is left.
async fn sweep(pool: std::rc::Weak<Inner>) {
    loop {
        let Some(next) = pool.upgrade().and_then(|pool| {
            let mut idle = pool.idle.borrow_mut();
            let now = Instant::now();
            idle.retain(|idle| idle.expires > now && !idle.connection.is_closed());
            let next = idle.iter().map(|idle| idle.expires).min();
            pool.is_swept.set(next.is_some());
            next
        }) else {
            return;
        };
        tokio::time::sleep_until(next).await;
    }
}
