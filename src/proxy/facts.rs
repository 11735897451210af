//! What the proxy of one route records.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::Failure;
use crate::metrics::RouteMetrics;

/// The counters of one route: a cheap handle.
#[derive(Clone, Debug)]
pub(super) struct Facts(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    // Of all shards.
    connections: Arc<AtomicUsize>,
    metrics: Arc<RouteMetrics>,
}

impl Facts {
    pub(super) fn new(connections: Arc<AtomicUsize>, metrics: Arc<RouteMetrics>) -> Self {
        Self(Rc::new(Inner { connections, metrics }))
    }

    pub(super) fn route(&self) -> &str {
        self.0.metrics.label()
    }

    pub(super) fn failed(&self, failure: &Failure) {
        self.0.metrics.upstream_failed(failure.as_str());
    }

    /// A body of the backend's ended before it was complete.
    pub(super) fn body_cut(&self, is_timeout: bool) {
        let kind = if is_timeout { "idle_timeout" } else { "body" };
        self.0.metrics.upstream_failed(kind);
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

impl Drop for Place {
    fn drop(&mut self) {
        let Inner { connections, metrics } = &*self.0.0;
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
