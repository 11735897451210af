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

use super::ConnectionSettings;
use super::clients::Clients;
use super::connection::{self, ConnectionState, CutReason, ENFORCE_INTERVAL, Handler, Protocol};
use super::contain::Contained;
use super::descriptors::DescriptorShortage;
use super::listener::{Accepted, Listener};
use super::upload_memory::UploadMemory;
use crate::metrics::Metrics;

/// Serves connections on the thread that created it. A cheap handle.
pub struct ShardServer<H> {
    inner: Rc<Inner<H>>,
    // In a connection's handle: the settings at the time it was accepted.
    settings: Rc<ConnectionSettings>,
}

struct Inner<H> {
    handler: H,
    // The current settings, after any reload.
    settings: RefCell<Rc<ConnectionSettings>>,
    connections: RefCell<Slab<Connected>>,
    // When deadlines were last checked.
    round: Cell<Instant>,
    // False once the acceptors have ended and their channel is empty.
    is_accepting: Cell<bool>,
    is_finishing: Cell<bool>,
    all_gone: Notify,
    handshakes: Semaphore,
    bounds: Bounds,
    // Connections of this shard, read by the acceptors to find the least loaded shard.
    load: Arc<AtomicUsize>,
    metrics: Metrics,
}

/// The limits that the connections of all shards share. A cheap handle.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Usage per client address.
    pub clients: Clients,
    /// Whether the process is short of file descriptors.
    pub shortage: DescriptorShortage,
    /// The budget for HTTP/2 windows beyond each connection's own.
    pub upload_memory: UploadMemory,
}

impl Bounds {
    /// Returns the limits of a new process, with nothing in use.
    pub fn new(shortage: DescriptorShortage, metrics: Metrics) -> Self {
        Self { clients: Clients::default(), shortage, upload_memory: UploadMemory::new(metrics) }
    }
}

/// An entry of the slab. The time is stored here and not in the state, so that a check of thousands
/// of connections reads one dense array, and touches the state only of those that are due.
struct Connected {
    state: Rc<ConnectionState>,
    next_look: Cell<Instant>,
}

impl<H: Handler> ShardServer<H> {
    /// Creates a server without connections.
    pub fn new(
        handler: H,
        settings: ConnectionSettings,
        bounds: Bounds,
        load: Arc<AtomicUsize>,
        metrics: Metrics,
    ) -> Self {
        bounds.upload_memory.limit(settings.upload_memory);
        let settings = Rc::new(settings);
        let inner = Inner {
            handler,
            handshakes: Semaphore::new(settings.max_handshakes),
            settings: RefCell::new(Rc::clone(&settings)),
            bounds,
            connections: RefCell::default(),
            round: Cell::new(Instant::now()),
            is_accepting: Cell::new(true),
            is_finishing: Cell::new(false),
            all_gone: Notify::new(),
            load,
            metrics,
        };
        Self { inner: Rc::new(inner), settings }
    }

    /// Applies new settings: deadlines to all connections at once, everything else to connections
    /// that are accepted from now on.
    pub fn change(&self, settings: ConnectionSettings) {
        let (before, now) = (self.now().max_handshakes, settings.max_handshakes);
        self.inner.handshakes.add_permits(now.saturating_sub(before));
        self.inner.handshakes.forget_permits(before.saturating_sub(now));
        self.inner.bounds.upload_memory.limit(settings.upload_memory);
        self.inner.settings.replace(Rc::new(settings));
        self.look_at_all();
    }

    fn now(&self) -> Rc<ConnectionSettings> {
        Rc::clone(&self.inner.settings.borrow())
    }

    /// Serves the connections that acceptors hand over, and checks deadlines. When all acceptors
    /// have ended it goes on checking deadlines; the caller drops it.
    pub async fn run(&self, mut accepted: mpsc::Receiver<Accepted>, listeners: Vec<Rc<Listener>>) {
        let mut round = tokio::time::interval(ENFORCE_INTERVAL);
        loop {
            tokio::select! {
                next = accepted.recv() => match next {
                    Some(next) => self.welcome(next, &listeners),
                    None => break,
                },
                _ = round.tick() => self.enforce(),
            }
        }
        self.inner.is_accepting.set(false);
        self.note_if_all_gone();
        loop {
            round.tick().await;
            self.enforce();
        }
    }

    /// Starts a graceful shutdown of every connection: requests in progress finish, new ones are
    /// not accepted. Applies also to connections that acceptors still hand over.
    pub fn finish(&self) {
        self.inner.is_finishing.set(true);
        for (_, connection) in &*self.inner.connections.borrow() {
            connection.state.finish();
        }
        self.look_at_all();
    }

    /// Closes every connection now.
    pub fn cut(&self) {
        for (_, connection) in &*self.inner.connections.borrow() {
            connection.state.cut(CutReason::Stopped);
        }
    }

    /// Waits until no connection is left and no more can arrive.
    pub async fn all_gone(&self) {
        while !self.are_all_gone() {
            self.inner.all_gone.notified().await;
        }
    }

    fn are_all_gone(&self) -> bool {
        !self.inner.is_accepting.get() && self.inner.connections.borrow().is_empty()
    }

    fn note_if_all_gone(&self) {
        if self.are_all_gone() {
            self.inner.all_gone.notify_waiters();
        }
    }

    pub(super) fn handler(&self) -> &H {
        &self.inner.handler
    }

    pub(super) fn settings(&self) -> &ConnectionSettings {
        &self.settings
    }

    pub(super) fn clients(&self) -> &Clients {
        &self.inner.bounds.clients
    }

    pub(super) fn upload_memory(&self) -> &UploadMemory {
        &self.inner.bounds.upload_memory
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Waits for a permit to compute a handshake in this turn of the event loop. Limits how long a
    /// burst of handshakes delays open streams.
    pub(super) async fn handshake_permit(&self) -> SemaphorePermit<'_> {
        if let Ok(permit) = self.inner.handshakes.try_acquire() {
            return permit;
        }
        self.inner.metrics.handshake_delayed();
        self.inner.handshakes.acquire().await.expect("the semaphore is never closed")
    }

    /// Registers a connection until the guard is dropped.
    fn admit(&self, state: &Rc<ConnectionState>) -> impl Drop + use<H> {
        let next_look = Cell::new(self.inner.round.get());
        let connected = Connected { state: Rc::clone(state), next_look };
        let place = self.inner.connections.borrow_mut().insert(connected);
        if self.inner.is_finishing.get() {
            state.finish();
        }
        let server = self.clone();
        OnDrop(move || {
            server.inner.load.fetch_sub(1, Ordering::Relaxed);
            server.inner.connections.borrow_mut().remove(place);
            server.note_if_all_gone();
        })
    }

    /// Counts a connection under its protocol in the metrics until the guard is dropped.
    pub(super) fn speaks(&self, protocol: Protocol) -> impl Drop + use<H> {
        let metrics = self.inner.metrics.clone();
        metrics.connection_opened(protocol.as_str());
        OnDrop(move || metrics.connection_closed(protocol.as_str()))
    }

    fn welcome(&self, accepted: Accepted, listeners: &[Rc<Listener>]) {
        let Accepted { stream, peer, listener } = accepted;
        match tokio::net::TcpStream::from_std(stream) {
            Ok(stream) => self.serve(stream, peer, Rc::clone(&listeners[listener])),
            Err(error) => {
                self.inner.load.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(%error, "cannot serve an accepted connection");
            }
        }
    }

    fn serve(&self, stream: tokio::net::TcpStream, peer: SocketAddr, listener: Rc<Listener>) {
        let state = Rc::new(ConnectionState::new(peer, listener.tls.is_some()));
        // Registered before its task is first polled, so that a shutdown in between reaches it.
        let place = self.admit(&state);
        let server = Self { inner: Rc::clone(&self.inner), settings: self.now() };
        self.spawn(connection::serve(stream, listener, server, state, place));
    }

    /// Spawns a task of a connection. The shard owns it and ends it through [`ConnectionState`].
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let (contained, metrics) = (Contained::new(task), self.inner.metrics.clone());
        drop(tokio::task::spawn_local(Task { contained, metrics }));
    }

    /// When deadlines were last checked: a cheap clock, exact to [`ENFORCE_INTERVAL`].
    pub(super) fn time_of_round(&self) -> Instant {
        self.inner.round.get()
    }

    fn enforce(&self) {
        let (now, settings) = (Instant::now(), self.now());
        self.inner.round.set(now);
        for (_, Connected { state, next_look }) in &*self.inner.connections.borrow() {
            if now >= next_look.get() {
                next_look.set(state.enforce(now, &settings));
            }
        }
        if self.inner.bounds.shortage.is_on() {
            for (_, connection) in &*self.inner.connections.borrow() {
                connection.state.give_way(now);
            }
        }
    }

    /// Makes the next check visit every connection, because the settings or the state changed.
    fn look_at_all(&self) {
        for (_, connection) in &*self.inner.connections.borrow() {
            connection.next_look.set(self.inner.round.get());
        }
    }
}

impl<H> Clone for ShardServer<H> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner), settings: Rc::clone(&self.settings) }
    }
}

impl<H> fmt::Debug for ShardServer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = self.inner.connections.borrow().len();
        f.debug_struct("ShardServer").field("connections", &connections).finish_non_exhaustive()
    }
}

pin_project! {
    /// A connection's task. A panic ends only this task, and is counted.
    // Not an `async` block: its state machine would store the inner future twice.
    struct Task<F> {
        #[pin]
        contained: Contained<F>,
        metrics: Metrics,
    }
}

impl<F: Future<Output = ()>> Future for Task<F> {
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
