//! Connects to backends that could not be connected to, until they can be.
//!
//! So an outage ends in the metrics, in `/readyz?verbose` and in the log also where no request comes that
//! would show it. Nothing is sent: a backend that is well is never probed.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::health::{BackendHealth, Health};
use crate::metrics::Metrics;

const PROBE_INTERVAL: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs as long as the gateway. One connection at a time to each backend.
pub(super) async fn watch(health: Health, metrics: Metrics) {
    let mut look = tokio::time::interval(PROBE_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
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

/// Gives the backend back if it can be connected to.
async fn probe(backend: Arc<BackendHealth>) -> Option<Arc<BackendHealth>> {
    let connecting = connect(backend.upstream());
    let is_reached = matches!(tokio::time::timeout(CONNECT_TIMEOUT, connecting).await, Ok(Ok(())));
    is_reached.then_some(backend)
}

/// To `http://host:port`, `https://host:port` or `unix:/path`.
async fn connect(upstream: &str) -> std::io::Result<()> {
    match upstream.strip_prefix("unix:") {
        Some(path) => UnixStream::connect(path).await.map(drop),
        None => {
            let (_, authority) = upstream.split_once("://").unwrap_or_default();
            TcpStream::connect(authority).await.map(drop)
        }
    }
}
