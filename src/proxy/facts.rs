//! What the proxy of one route records.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::error::Failure;
use crate::health::{Backend, Health, Slowness};
use crate::log_limit::LogLimit;
use crate::metrics::RouteMetrics;
use crate::route::{Route, UpstreamAddress};
use crate::server::upload_memory::UploadMemory;

/// The counters of one route: a cheap handle.
#[derive(Clone, Debug)]
pub(super) struct Facts(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    // Of all shards.
    connections: Arc<AtomicUsize>,
    // Of the route, among all routes.
    place: usize,
    metrics: Arc<RouteMetrics>,
    health: Health,
    memory: UploadMemory,
    // Of failures that say nothing of how a backend is.
    no_trouble: LogLimit,
}

impl Facts {
    pub(super) fn new(
        route: &Route,
        metrics: Arc<RouteMetrics>,
        health: Health,
        memory: UploadMemory,
    ) -> Self {
        let connections = Arc::clone(&route.upstream_connections);
        let no_trouble = LogLimit::new();
        let place = route.index;
        Self(Rc::new(Inner { connections, place, metrics, health, memory, no_trouble }))
    }

    /// What is known of an upstream of this route.
    pub(super) fn backend(&self, upstream: &UpstreamAddress) -> Arc<Backend> {
        let backend = self.0.health.backend(self.route(), &upstream.to_string());
        self.0.metrics.upstream_up(backend.upstream(), !backend.is_unreachable());
        backend
    }

    /// Whether this upstream is slow to respond to this route, by its `p99_warning`.
    pub(super) fn slowness(&self, backend: &Backend, limit: Duration) -> Arc<Slowness> {
        backend.slowness(self.0.place, limit)
    }

    pub(super) fn route(&self) -> &str {
        self.0.metrics.label()
    }

    /// A request failed. `Some`: that is to be logged, and stands for so many others.
    pub(super) fn failed(&self, backend: &Backend, failure: &Failure) -> Option<u64> {
        self.0.metrics.upstream_failed(failure.as_str());
        if failure.is_of_the_client() {
            return None;
        }
        if failure.is_unreachable() {
            self.set_reachable(backend, false);
        }
        let now = Instant::now();
        if failure.is_no_trouble() {
            return self.0.no_trouble.pass(failure.as_str(), now);
        }
        backend.failed(failure.as_str(), &failure.to_string(), now)
    }

    /// A backend has sent the head of its response, so long after the request began.
    pub(super) fn responded(&self, backend: &Backend, duration: Duration) {
        self.0.metrics.upstream_responded(duration);
        backend.responded();
        self.set_reachable(backend, true);
    }

    fn set_reachable(&self, backend: &Backend, is_reachable: bool) {
        if backend.set_unreachable(!is_reachable) {
            self.0.metrics.upstream_up(backend.upstream(), is_reachable);
        }
    }

    /// A body of the backend's ended before it was complete.
    pub(super) fn body_cut(&self, backend: &Backend, is_timeout: bool, error: &str) {
        let kind = if is_timeout { "idle_timeout" } else { "body" };
        self.0.metrics.upstream_failed(kind);
        if let Some(held_back) = backend.failed(kind, error, Instant::now()) {
            let (route, upstream) = (backend.route(), backend.upstream());
            tracing::warn!(
                route,
                upstream,
                kind,
                error,
                held_back,
                "the body of a backend's response broke off"
            );
        }
    }

    /// A request is sent again after its connection has failed it.
    pub(super) fn retried(&self, reason: &'static str) {
        self.0.metrics.upstream_retried(reason);
    }

    /// A place for one connection more, as long as there are fewer than `max`.
    pub(super) fn admit(&self, max: usize) -> Option<Place> {
        let connections = &self.0.connections;
        if connections.fetch_add(1, Ordering::Relaxed) >= max {
            connections.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.0.metrics.upstream_connected();
        Some(Place(self.clone()))
    }

    /// Counts a tunnel for as long as the guard lives.
    pub(super) fn tunnel(&self) -> Tunnel {
        self.0.metrics.tunnel_opened();
        Tunnel(self.clone())
    }
}

/// A connection among those that are counted.
#[derive(Debug)]
pub(super) struct Place(Facts);

impl Place {
    /// What lends windows over HTTP/2 more than they begin with.
    pub(super) fn upload_memory(&self) -> &UploadMemory {
        &self.0.0.memory
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Inner { connections, metrics, .. } = &*self.0.0;
        connections.fetch_sub(1, Ordering::Relaxed);
        metrics.upstream_disconnected();
    }
}

/// A tunnel among those that are counted.
#[derive(Debug)]
pub(super) struct Tunnel(Facts);

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.0.0.metrics.tunnel_closed();
    }
}
