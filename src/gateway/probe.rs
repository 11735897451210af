//! Probes backends that refused connections, until one succeeds.
//!
//! So the recovery shows in the metrics, in `/readyz?verbose` and in the log without waiting for a
//! request. A probe sends no data. Backends that work are not probed.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::health::{BackendHealth, Health};
use crate::metrics::Metrics;

const PROBE_INTERVAL: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs as long as the gateway. Opens one connection at a time to each backend.
pub(super) async fn watch(health: Health, metrics: Metrics) {
    let mut interval = tokio::time::interval(PROBE_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let unreachable = health.backends().into_iter().filter(|backend| backend.needs_probe());
        let mut probes: JoinSet<_> = unreachable.map(probe).collect();
        while let Some(probed) = probes.join_next().await {
            let Ok(Some(backend)) = probed else { continue };
            if backend.connected() {
                metrics.upstream_reached(backend.route(), backend.upstream());
            }
        }
    }
}

/// Returns the backend if a connection succeeds.
async fn probe(backend: Arc<BackendHealth>) -> Option<Arc<BackendHealth>> {
    let connecting = connect(backend.upstream());
    let is_reached = matches!(tokio::time::timeout(CONNECT_TIMEOUT, connecting).await, Ok(Ok(())));
    is_reached.then_some(backend)
}

/// Connects to `http://host:port`, `https://host:port` or `unix:/path`, and closes the connection.
async fn connect(upstream: &str) -> std::io::Result<()> {
    match upstream.strip_prefix("unix:") {
        Some(path) => UnixStream::connect(path).await.map(drop),
        None => {
            let (_, authority) = upstream.split_once("://").unwrap_or_default();
            TcpStream::connect(authority).await.map(drop)
        }
    }
}
