//! Metrics, health and connection counts of one route's proxy.
//!
//! Counts what happens, decides with [`Health`] what is logged, and bounds the open connections.
//! Does not know how requests are sent.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::error::Failure;
use crate::health::{BackendHealth, Health, ResponseTimes};
use crate::log_limit::LogLimit;
use crate::metrics::RouteMetrics;
use crate::route::{Route, UpstreamAddress};
use crate::server::upload_memory::UploadMemory;

/// Records what happens to the requests of one route. A cheap handle.
#[derive(Clone, Debug)]
pub(super) struct Recorder(Rc<RecorderShared>);

#[derive(Debug)]
struct RecorderShared {
    // Open connections of all shards.
    connections: Arc<AtomicUsize>,
    // The index of the route.
    route_index: usize,
    metrics: Arc<RouteMetrics>,
    health: Health,
    memory: UploadMemory,
    // Limits log lines of failures that do not count against the backend.
    neutral_failures: LogLimit,
}

impl Recorder {
    pub(super) fn new(
        route: &Route,
        metrics: Arc<RouteMetrics>,
        health: Health,
        memory: UploadMemory,
    ) -> Self {
        let connections = Arc::clone(&route.upstream_connections);
        let neutral_failures = LogLimit::new();
        let route_index = route.index;
        Self(Rc::new(RecorderShared {
            connections,
            route_index,
            metrics,
            health,
            memory,
            neutral_failures,
        }))
    }

    /// The health of an upstream of this route, shared by all shards.
    pub(super) fn backend(&self, upstream: &UpstreamAddress) -> Arc<BackendHealth> {
        let backend = self.0.health.backend(self.route(), &upstream.to_string());
        self.0.metrics.upstream_up(backend.upstream(), !backend.is_unreachable());
        backend
    }

    /// The response times of this upstream on this route, measured against `p99_warning`.
    pub(super) fn response_times(
        &self,
        backend: &BackendHealth,
        limit: Duration,
    ) -> Arc<ResponseTimes> {
        backend.response_times(self.0.route_index, limit)
    }

    /// The label of the route.
    pub(super) fn route(&self) -> &str {
        self.0.metrics.label()
    }

    /// Records a failed request. `Some`: log it, with the number of lines suppressed before.
    pub(super) fn failed(&self, backend: &BackendHealth, failure: &Failure) -> Option<u64> {
        self.0.metrics.upstream_failed(failure.as_str());
        if failure.is_client_error() {
            return None;
        }
        if failure.is_unreachable() {
            self.set_reachable(backend, false);
        }
        let now = Instant::now();
        if failure.is_health_neutral() {
            return self.0.neutral_failures.pass(failure.as_str(), now);
        }
        backend.failed(failure.as_str(), &failure.to_string(), now)
    }

    /// Records a response head, `duration` after the request was begun.
    pub(super) fn responded(&self, backend: &BackendHealth, duration: Duration) {
        self.0.metrics.upstream_responded(duration);
        backend.responded();
        self.set_reachable(backend, true);
    }

    fn set_reachable(&self, backend: &BackendHealth, is_reachable: bool) {
        if backend.set_unreachable(!is_reachable) {
            self.0.metrics.upstream_up(backend.upstream(), is_reachable);
        }
    }

    /// Records and logs a response body that ended before it was complete.
    pub(super) fn body_cut(&self, backend: &BackendHealth, is_timeout: bool, error: &str) {
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
                "the body of a backend's response ended early"
            );
        }
    }

    /// Records a retry after a connection failed.
    pub(super) fn retried(&self, reason: &'static str) {
        self.0.metrics.upstream_retried(reason);
    }

    /// A slot for another connection; `None` if `max` are open.
    pub(super) fn acquire_slot(&self, max: usize) -> Option<ConnectionSlot> {
        let connections = &self.0.connections;
        if connections.fetch_add(1, Ordering::Relaxed) >= max {
            connections.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.0.metrics.upstream_connected();
        Some(ConnectionSlot(self.clone()))
    }

    /// Counts a tunnel for as long as the guard lives.
    pub(super) fn tunnel(&self) -> TunnelGuard {
        self.0.metrics.tunnel_opened();
        TunnelGuard(self.clone())
    }
}

/// A slot of `max_connections`: counts an open connection until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot(Recorder);

impl ConnectionSlot {
    /// The memory from which HTTP/2 stream windows grow.
    pub(super) fn upload_memory(&self) -> &UploadMemory {
        &self.0.0.memory
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let RecorderShared { connections, metrics, .. } = &*self.0.0;
        connections.fetch_sub(1, Ordering::Relaxed);
        metrics.upstream_disconnected();
    }
}

/// Counts an open tunnel until it is dropped.
#[derive(Debug)]
pub(super) struct TunnelGuard(Recorder);

impl Drop for TunnelGuard {
    fn drop(&mut self) {
        self.0.0.metrics.tunnel_closed();
    }
}
