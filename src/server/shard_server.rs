//! The connections of one shard: their tasks, and the periodic check of their deadlines.
//!
//! Runs on the shard's thread. Knows nothing of what requests mean: that is the [`Handler`]'s
//! business.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use slab::Slab;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc};
use tokio::time::Instant;

use super::clients::Clients;
use super::connection::{
    self, ConnectionState, CutReason, ENFORCE_INTERVAL, Handler, HttpProtocol,
};
use super::contain::Contained;
use super::descriptors::DescriptorShortage;
use super::listener::{Accepted, Listener};
use super::settings::ConnectionSettings;
use super::upload_memory::UploadMemory;
use crate::metrics::Metrics;

/// Serves connections on the thread that created it. A cheap handle.
pub struct ShardServer<H> {
    shared: Rc<ShardServerState<H>>,
    // In a connection's handle: the settings at the time it was accepted.
    settings: Rc<ConnectionSettings>,
}

struct ShardServerState<H> {
    handler: H,
    // The current settings, after any reload.
    settings: RefCell<Rc<ConnectionSettings>>,
    connections: RefCell<Slab<ConnectionEntry>>,
    // When deadlines were last checked.
    last_check: Cell<Instant>,
    // False once the acceptors have ended and their channel is empty.
    is_accepting: Cell<bool>,
    is_draining: Cell<bool>,
    all_closed: Notify,
    handshakes: Semaphore,
    limits: GlobalLimits,
    // Connections of this shard, read by the acceptors to find the least loaded shard.
    load: Arc<AtomicUsize>,
    metrics: Metrics,
}

/// The limits that the connections of all shards share. A cheap handle.
#[derive(Clone, Debug)]
pub struct GlobalLimits {
    /// Usage per client address.
    pub clients: Clients,
    /// Whether the process is short of file descriptors.
    pub shortage: DescriptorShortage,
    /// The budget for HTTP/2 windows beyond each connection's own.
    pub upload_memory: UploadMemory,
}

impl GlobalLimits {
    /// Returns the limits of a new process, with nothing in use.
    pub fn new(shortage: DescriptorShortage, metrics: Metrics) -> Self {
        Self { clients: Clients::default(), shortage, upload_memory: UploadMemory::new(metrics) }
    }
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
        limits.upload_memory.set_limit(settings.upload_memory);
        let settings = Rc::new(settings);
        let shared = ShardServerState {
            handler,
            handshakes: Semaphore::new(settings.max_handshakes),
            settings: RefCell::new(Rc::clone(&settings)),
            limits,
            connections: RefCell::default(),
            last_check: Cell::new(Instant::now()),
            is_accepting: Cell::new(true),
            is_draining: Cell::new(false),
            all_closed: Notify::new(),
            load,
            metrics,
        };
        Self { shared: Rc::new(shared), settings }
    }

    /// Applies new settings: deadlines to all connections at once, everything else to connections
    /// that are accepted from now on.
    pub fn update_settings(&self, settings: ConnectionSettings) {
        let (before, now) = (self.current_settings().max_handshakes, settings.max_handshakes);
        self.shared.handshakes.add_permits(now.saturating_sub(before));
        self.shared.handshakes.forget_permits(before.saturating_sub(now));
        self.shared.limits.upload_memory.set_limit(settings.upload_memory);
        self.shared.settings.replace(Rc::new(settings));
        self.check_all_next();
    }

    fn current_settings(&self) -> Rc<ConnectionSettings> {
        Rc::clone(&self.shared.settings.borrow())
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
        self.shared.is_accepting.set(false);
        self.notify_if_all_closed();
        loop {
            interval.tick().await;
            self.enforce();
        }
    }

    /// Starts a graceful shutdown of every connection: requests in progress finish, new ones are
    /// not accepted. Applies also to connections that acceptors still hand over.
    pub fn drain(&self) {
        self.shared.is_draining.set(true);
        let now = Instant::now();
        for (_, connection) in &*self.shared.connections.borrow() {
            connection.state.drain(now);
        }
        self.check_all_next();
    }

    /// Closes every connection now.
    pub fn cut(&self) {
        for (_, connection) in &*self.shared.connections.borrow() {
            connection.state.cut(CutReason::Stopped);
        }
    }

    /// Waits until no connection is left and no more can arrive.
    pub async fn all_closed(&self) {
        while !self.are_all_closed() {
            self.shared.all_closed.notified().await;
        }
    }

    fn are_all_closed(&self) -> bool {
        !self.shared.is_accepting.get() && self.shared.connections.borrow().is_empty()
    }

    fn notify_if_all_closed(&self) {
        if self.are_all_closed() {
            self.shared.all_closed.notify_waiters();
        }
    }

    pub(super) fn handler(&self) -> &H {
        &self.shared.handler
    }

    pub(super) fn settings(&self) -> &ConnectionSettings {
        &self.settings
    }

    pub(super) fn clients(&self) -> &Clients {
        &self.shared.limits.clients
    }

    pub(super) fn upload_memory(&self) -> &UploadMemory {
        &self.shared.limits.upload_memory
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Waits for a permit to compute a handshake in this turn of the event loop. Limits how long a
    /// burst of handshakes delays open streams.
    pub(super) async fn handshake_permit(&self) -> SemaphorePermit<'_> {
        if let Ok(permit) = self.shared.handshakes.try_acquire() {
            return permit;
        }
        self.shared.metrics.handshake_delayed();
        self.shared.handshakes.acquire().await.expect("the semaphore is never closed")
    }

    /// Registers a connection until the guard is dropped.
    fn register(&self, state: &Rc<ConnectionState>) -> impl Drop + use<H> {
        let next_check = Cell::new(self.shared.last_check.get());
        let entry = ConnectionEntry { state: Rc::clone(state), next_check };
        let key = self.shared.connections.borrow_mut().insert(entry);
        if self.shared.is_draining.get() {
            state.drain(Instant::now());
        }
        let server = self.clone();
        OnDrop(move || {
            server.shared.load.fetch_sub(1, Ordering::Relaxed);
            server.shared.connections.borrow_mut().remove(key);
            server.notify_if_all_closed();
        })
    }

    /// Counts a connection under its protocol in the metrics until the guard is dropped.
    pub(super) fn count_protocol(&self, protocol: HttpProtocol) -> impl Drop + use<H> {
        let metrics = self.shared.metrics.clone();
        metrics.connection_opened(protocol.as_str());
        OnDrop(move || metrics.connection_closed(protocol.as_str()))
    }

    fn accept(&self, accepted: Accepted, listeners: &[Rc<Listener>]) {
        let Accepted { stream, peer, listener } = accepted;
        match tokio::net::TcpStream::from_std(stream) {
            Ok(stream) => self.serve(stream, peer, Rc::clone(&listeners[listener])),
            Err(error) => {
                self.shared.load.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(%error, "cannot serve an accepted connection");
            }
        }
    }

    fn serve(&self, stream: tokio::net::TcpStream, peer: SocketAddr, listener: Rc<Listener>) {
        let state = Rc::new(ConnectionState::new(peer, listener.tls.is_some(), Instant::now()));
        // Registered before its task is first polled, so that a shutdown in between reaches it.
        let registration = self.register(&state);
        let server = Self { shared: Rc::clone(&self.shared), settings: self.current_settings() };
        self.spawn(connection::serve(stream, listener, server, state, registration));
    }

    /// Spawns a task of a connection. The shard owns it and ends it through [`ConnectionState`].
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let (contained, metrics) = (Contained::new(task), self.shared.metrics.clone());
        drop(tokio::task::spawn_local(ContainedTask { contained, metrics }));
    }

    /// When deadlines were last checked: a cheap clock, exact to [`ENFORCE_INTERVAL`].
    pub(super) fn last_check(&self) -> Instant {
        self.shared.last_check.get()
    }

    fn enforce(&self) {
        let (now, settings) = (Instant::now(), self.current_settings());
        self.shared.last_check.set(now);
        for (_, ConnectionEntry { state, next_check }) in &*self.shared.connections.borrow() {
            if now >= next_check.get() {
                next_check.set(state.enforce(now, &settings));
            }
        }
        if self.shared.limits.shortage.is_on() {
            for (_, connection) in &*self.shared.connections.borrow() {
                connection.state.close_if_idle(now);
            }
        }
    }

    /// Makes the next check visit every connection, because the settings or the state changed.
    fn check_all_next(&self) {
        for (_, connection) in &*self.shared.connections.borrow() {
            connection.next_check.set(self.shared.last_check.get());
        }
    }
}

impl<H> Clone for ShardServer<H> {
    fn clone(&self) -> Self {
        Self { shared: Rc::clone(&self.shared), settings: Rc::clone(&self.settings) }
    }
}

impl<H> fmt::Debug for ShardServer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = self.shared.connections.borrow().len();
        f.debug_struct("ShardServer").field("connections", &connections).finish_non_exhaustive()
    }
}

pin_project! {
    /// A connection's task. A panic ends only this task, and is counted.
    // Not an `async` block: its state machine would store the inner future twice.
    struct ContainedTask<F> {
        #[pin]
        contained: Contained<F>,
        metrics: Metrics,
    }
}

impl<F: Future<Output = ()>> Future for ContainedTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = self.project();
        let ended = ready!(task.contained.poll(cx));
        if ended.is_err() {
            task.metrics.panicked("connection");
        }
        Poll::Ready(())
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
