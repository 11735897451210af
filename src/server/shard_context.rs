//! What the connections of one shard share: who handles their requests, their settings and limits, and
//! their metrics.
//!
//! Does not know which connections there are: that is [`shard_server`](super::shard_server).

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::clients::Clients;
use super::connection::HttpProtocol;
use super::contain::Contained;
use super::limits::GlobalLimits;
use super::settings::ConnectionSettings;
use super::upload_memory::UploadMemory;
use crate::metrics::Metrics;

/// The shard, as one of its connections sees it. A cheap handle.
#[derive(Debug)]
pub(super) struct ShardContext<H> {
    shared: Rc<ShardContextState<H>>,
    // In a connection's handle: the settings at the time it was accepted.
    settings: Rc<ConnectionSettings>,
}

#[derive(Debug)]
struct ShardContextState<H> {
    handler: H,
    // When deadlines were last checked.
    last_check: Cell<Instant>,
    handshakes: Semaphore,
    limits: GlobalLimits,
    metrics: Metrics,
}

impl<H> ShardContext<H> {
    pub(super) fn new(
        handler: H,
        settings: ConnectionSettings,
        limits: GlobalLimits,
        metrics: Metrics,
    ) -> Self {
        limits.upload_memory.set_limit(settings.upload_memory);
        let shared = ShardContextState {
            handler,
            last_check: Cell::new(Instant::now()),
            handshakes: Semaphore::new(settings.max_handshakes),
            limits,
            metrics,
        };
        Self { shared: Rc::new(shared), settings: Rc::new(settings) }
    }

    /// Applies new settings to this handle and to those cloned from it from now on; limits that
    /// connections share to all.
    pub(super) fn update_settings(&mut self, settings: ConnectionSettings) {
        let (before, now) = (self.settings.max_handshakes, settings.max_handshakes);
        self.shared.handshakes.add_permits(now.saturating_sub(before));
        self.shared.handshakes.forget_permits(before.saturating_sub(now));
        self.shared.limits.upload_memory.set_limit(settings.upload_memory);
        self.settings = Rc::new(settings);
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

    /// Whether the process is short of file descriptors.
    pub(super) fn is_short_of_descriptors(&self) -> bool {
        self.shared.limits.shortage.is_on()
    }

    /// When deadlines were last checked: a cheap clock, exact to
    /// [`ENFORCE_INTERVAL`](super::shard_server::ENFORCE_INTERVAL).
    pub(super) fn last_check(&self) -> Instant {
        self.shared.last_check.get()
    }

    pub(super) fn set_last_check(&self, now: Instant) {
        self.shared.last_check.set(now);
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

    /// Counts a connection under its protocol in the metrics until the guard is dropped.
    pub(super) fn count_protocol(&self, protocol: HttpProtocol) -> ProtocolCount {
        self.shared.metrics.connection_opened(protocol.as_str());
        ProtocolCount { metrics: self.shared.metrics.clone(), protocol }
    }

    /// Spawns a task of a connection. The shard owns it and ends it through
    /// [`ConnectionState`](super::connection::ConnectionState).
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let (contained, metrics) = (Contained::new(task), self.shared.metrics.clone());
        drop(tokio::task::spawn_local(ContainedTask { contained, metrics }));
    }
}

impl<H> Clone for ShardContext<H> {
    fn clone(&self) -> Self {
        Self { shared: Rc::clone(&self.shared), settings: Rc::clone(&self.settings) }
    }
}

/// A connection that is counted under its protocol.
#[derive(Debug)]
pub(super) struct ProtocolCount {
    metrics: Metrics,
    protocol: HttpProtocol,
}

impl Drop for ProtocolCount {
    fn drop(&mut self) {
        self.metrics.connection_closed(self.protocol.as_str());
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
