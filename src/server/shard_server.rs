//! The connections of one core: who is connected, and the rounds that enforce their deadlines.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slab::Slab;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc};
use tokio::time::Instant;

use super::ConnectionSettings;
use super::connection::{self, ConnectionState, CutReason, ENFORCE_INTERVAL, Handler, Protocol};
use super::listener::{Accepted, Listener};
use crate::metrics::Metrics;

/// Serves connections on the thread that it was made on: a cheap handle.
pub struct ShardServer<H>(Rc<Inner<H>>);

struct Inner<H> {
    handler: H,
    settings: ConnectionSettings,
    connections: RefCell<Slab<Rc<ConnectionState>>>,
    all_gone: Notify,
    handshakes: Semaphore,
    // Connections of this shard, for the acceptor that looks for the least loaded.
    load: Arc<AtomicUsize>,
    metrics: Metrics,
}

impl<H: Handler> ShardServer<H> {
    /// A server without connections.
    pub fn new(
        handler: H,
        settings: ConnectionSettings,
        load: Arc<AtomicUsize>,
        metrics: Metrics,
    ) -> Self {
        Self(Rc::new(Inner {
            handler,
            handshakes: Semaphore::new(settings.max_handshakes),
            settings,
            connections: RefCell::default(),
            all_gone: Notify::new(),
            load,
            metrics,
        }))
    }

    /// Serves what the acceptors hand over, and makes the rounds. Ends when the acceptors are gone;
    /// connections go on.
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
        loop {
            round.tick().await;
            self.enforce();
        }
    }

    /// Lets every connection finish what runs on it, and begin nothing new.
    pub fn finish(&self) {
        for (_, connection) in &*self.0.connections.borrow() {
            connection.finish();
        }
    }

    /// Ends every connection now.
    pub fn cut(&self) {
        for (_, connection) in &*self.0.connections.borrow() {
            connection.cut(CutReason::Stopped);
        }
    }

    /// Waits until no connection is left.
    pub async fn all_gone(&self) {
        while !self.0.connections.borrow().is_empty() {
            self.0.all_gone.notified().await;
        }
    }

    pub(super) fn handler(&self) -> &H {
        &self.0.handler
    }

    pub(super) fn settings(&self) -> &ConnectionSettings {
        &self.0.settings
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// A place among the handshakes that this turn of the loop works on: a storm of them leaves time
    /// for open streams.
    pub(super) async fn handshake_permit(&self) -> SemaphorePermit<'_> {
        self.0.handshakes.acquire().await.expect("the semaphore is never closed")
    }

    /// Counts a connection for as long as the guard lives.
    pub(super) fn admit(&self, state: &Rc<ConnectionState>) -> impl Drop + use<H> {
        let place = self.0.connections.borrow_mut().insert(Rc::clone(state));
        let inner = Rc::clone(&self.0);
        OnDrop(move || {
            inner.load.fetch_sub(1, Ordering::Relaxed);
            let mut connections = inner.connections.borrow_mut();
            connections.remove(place);
            if connections.is_empty() {
                inner.all_gone.notify_waiters();
            }
        })
    }

    /// Shows a connection under its protocol for as long as the guard lives.
    pub(super) fn speaks(&self, protocol: Protocol) -> impl Drop + use<H> {
        let metrics = self.0.metrics.clone();
        metrics.connection_opened(protocol.as_str());
        OnDrop(move || metrics.connection_closed(protocol.as_str()))
    }

    fn welcome(&self, accepted: Accepted, listeners: &[Rc<Listener>]) {
        let Accepted { stream, peer, listener } = accepted;
        match tokio::net::TcpStream::from_std(stream) {
            Ok(stream) => self.spawn(stream, peer, Rc::clone(&listeners[listener])),
            Err(error) => {
                self.0.load.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(%error, "an accepted connection cannot be served");
            }
        }
    }

    fn spawn(&self, stream: tokio::net::TcpStream, peer: SocketAddr, listener: Rc<Listener>) {
        // Its owner is this shard, which ends it through its state.
        drop(tokio::task::spawn_local(connection::serve(stream, peer, listener, self.clone())));
    }

    fn enforce(&self) {
        let now = Instant::now();
        for (_, connection) in &*self.0.connections.borrow() {
            connection.enforce(now, &self.0.settings);
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
