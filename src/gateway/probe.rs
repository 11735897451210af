//! Probes backends to which no connection could be opened, until one can.
//!
//! So the recovery shows in the metrics, in `/readyz?verbose` and in the log without waiting for a
//! request. A probe makes the TLS handshake of an `https` backend, and sends no data. Backends that work are not probed.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::dial::{self, TcpTuning};
use crate::health::{BackendHealth, BackendTls, Health};
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
    can_connect(&backend).await.then_some(backend)
}

/// Connects to `http://host:port`, `https://host:port` or `unix:/path` as a request does, and closes the
/// connection.
async fn can_connect(backend: &BackendHealth) -> bool {
    let (upstream, deadline) = (backend.upstream(), Instant::now() + CONNECT_TIMEOUT);
    if let Some(path) = upstream.strip_prefix("unix:") {
        return dial::unix(path.as_ref(), deadline).await.is_ok();
    }
    let (_, authority) = upstream.split_once("://").unwrap_or_default();
    let Some((host, Ok(port))) =
        authority.rsplit_once(':').map(|(host, port)| (host, port.parse()))
    else {
        return false;
    };
    let Ok(stream) = dial::tcp(host, port, &TcpTuning::default(), deadline).await else {
        return false;
    };
    let Some(BackendTls { config, name }) = backend.tls() else { return true };
    match dial::tls(stream, &config, name, deadline).await {
        Ok(stream) => {
            config.alpn_protocols.is_empty() || stream.get_ref().1.alpn_protocol().is_some()
        }
        Err(_failed) => false,
    }
}
