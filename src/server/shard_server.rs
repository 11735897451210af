//! The connections of one shard: their tasks, and the periodic check of their deadlines.
//!
//! Runs on the shard's thread. Knows nothing of what requests mean: that is the [`Handler`]'s
//! business.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use slab::Slab;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::connection::{self, ConnectionState, CutReason};
use super::handler::Handler;
use super::limits::GlobalLimits;
use super::listener::{Accepted, Listener};
use super::settings::ConnectionSettings;
use super::shard_context::ShardContext;
use crate::metrics::Metrics;

/// How often a shard checks the deadlines of its connections.
pub(super) const ENFORCE_INTERVAL: Duration = Duration::from_millis(500);

/// Serves connections on the thread that created it. A cheap handle.
pub struct ShardServer<H>(Rc<ShardServerState<H>>);

struct ShardServerState<H> {
    // With the current settings, after any reload.
    context: RefCell<ShardContext<H>>,
    connections: RefCell<Slab<ConnectionEntry>>,
    // False once the acceptors have ended and their channel is empty.
    is_accepting: Cell<bool>,
    is_draining: Cell<bool>,
    all_closed: Notify,
    // Connections of this shard, read by the acceptors to find the least loaded shard.
    load: Arc<AtomicUsize>,
}

/// An entry of the slab. The time is stored here and not in the state, so that a check of thousands
/// of connections reads one dense array, and touches the state only of those that are due.
struct ConnectionEntry {
    state: Rc<ConnectionState>,
    next_check: Cell<Instant>,
}

impl<H: Handler> ShardServer<H> {
    /// Creates a server without connections.
    pub fn new(
        handler: H,
        settings: ConnectionSettings,
        limits: GlobalLimits,
        load: Arc<AtomicUsize>,
        metrics: Metrics,
    ) -> Self {
        Self(Rc::new(ShardServerState {
            context: RefCell::new(ShardContext::new(handler, settings, limits, metrics)),
            connections: RefCell::default(),
            is_accepting: Cell::new(true),
            is_draining: Cell::new(false),
            all_closed: Notify::new(),
            load,
        }))
    }

    /// Applies new settings: deadlines to all connections at once, everything else to connections
    /// that are accepted from now on.
    pub fn update_settings(&self, settings: ConnectionSettings) {
        self.0.context.borrow_mut().update_settings(settings);
        self.check_all_next();
    }

    fn context(&self) -> ShardContext<H> {
        self.0.context.borrow().clone()
    }

    /// Serves the connections that acceptors hand over, and checks deadlines. When all acceptors
    /// have ended it goes on checking deadlines; the caller drops it.
    pub async fn run(&self, mut accepted: mpsc::Receiver<Accepted>, listeners: Vec<Rc<Listener>>) {
        let mut interval = tokio::time::interval(ENFORCE_INTERVAL);
        loop {
            tokio::select! {
                next = accepted.recv() => match next {
                    Some(next) => self.accept(next, &listeners),
                    None => break,
                },
                _ = interval.tick() => self.enforce(),
            }
        }
        self.0.is_accepting.set(false);
        self.notify_if_all_closed();
        loop {
            interval.tick().await;
            self.enforce();
        }
    }

    /// Starts a graceful shutdown of every connection: requests in progress finish, new ones are
    /// not accepted. Applies also to connections that acceptors still hand over.
    pub fn drain(&self) {
        self.0.is_draining.set(true);
        let now = Instant::now();
        for (_, connection) in &*self.0.connections.borrow() {
            connection.state.drain(now);
        }
        self.check_all_next();
    }

    /// Closes every connection now.
    pub fn cut(&self) {
        for (_, connection) in &*self.0.connections.borrow() {
            connection.state.cut(CutReason::Stopped);
        }
    }

    /// Waits until no connection is left and no more can arrive.
    pub async fn all_closed(&self) {
        while !self.are_all_closed() {
            self.0.all_closed.notified().await;
        }
    }

    fn are_all_closed(&self) -> bool {
        !self.0.is_accepting.get() && self.0.connections.borrow().is_empty()
    }

    fn notify_if_all_closed(&self) {
        if self.are_all_closed() {
            self.0.all_closed.notify_waiters();
        }
    }

    /// Registers a connection until the guard is dropped.
    fn register(&self, state: &Rc<ConnectionState>) -> impl Drop + use<H> {
        let next_check = Cell::new(self.0.context.borrow().last_check());
        let entry = ConnectionEntry { state: Rc::clone(state), next_check };
        let key = self.0.connections.borrow_mut().insert(entry);
        if self.0.is_draining.get() {
            state.drain(Instant::now());
        }
        let server = self.clone();
        OnDrop(move || {
            server.0.load.fetch_sub(1, Ordering::Relaxed);
            server.0.connections.borrow_mut().remove(key);
            server.notify_if_all_closed();
        })
    }

    fn accept(&self, accepted: Accepted, listeners: &[Rc<Listener>]) {
        let Accepted { stream, peer, listener } = accepted;
        match tokio::net::TcpStream::from_std(stream) {
            Ok(stream) => self.serve(stream, peer, Rc::clone(&listeners[listener])),
            Err(error) => {
                self.0.load.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(%error, "cannot serve an accepted connection");
            }
        }
    }

    fn serve(&self, stream: tokio::net::TcpStream, peer: SocketAddr, listener: Rc<Listener>) {
        let state = Rc::new(ConnectionState::new(peer, listener.tls.is_some(), Instant::now()));
        // Registered before its task is first polled, so that a shutdown in between reaches it.
        let registration = self.register(&state);
        let context = self.context();
        let task = connection::serve(stream, listener, context.clone(), state, registration);
        context.spawn(task);
    }

    fn enforce(&self) {
        let (now, context) = (Instant::now(), self.context());
        context.set_last_check(now);
        for (_, ConnectionEntry { state, next_check }) in &*self.0.connections.borrow() {
            if now >= next_check.get() {
                next_check.set(state.enforce(now, context.settings()));
            }
        }
        if context.is_short_of_descriptors() {
            for (_, connection) in &*self.0.connections.borrow() {
                connection.state.close_if_idle(now);
            }
        }
    }

    /// Makes the next check visit every connection, because the settings or the state changed.
    fn check_all_next(&self) {
        let last_check = self.0.context.borrow().last_check();
        for (_, connection) in &*self.0.connections.borrow() {
            connection.next_check.set(last_check);
        }
    }
}

impl<H> Clone for ShardServer<H> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<H> fmt::Debug for ShardServer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = self.0.connections.borrow().len();
        f.debug_struct("ShardServer").field("connections", &connections).finish_non_exhaustive()
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
