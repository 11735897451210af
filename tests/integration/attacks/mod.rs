//! Attacks on a gateway that meanwhile serves fifty others, over every protocol: they miss nothing,
//! memory stays within its bound, the attacker is cut off, and a metric says so.

/// Connections that come to nothing, and TLS.
mod connections;
/// Those who are served.
mod crowd;
/// Frames of HTTP/2.
mod http2;
/// Who does not read.
mod readers;
/// Requests that are none.
mod requests;
/// What was measured.
mod table;

use std::sync::Arc;

use crowd::Crowd;

use crate::support::{Gateway, Redis, Site};

/// A gateway with a crowd, and with a backend behind `/site` and one that never answers behind
/// `/silent`.
struct Scene {
    gateway: Arc<Gateway>,
    redis: Arc<Redis>,
    crowd: Crowd,
    site: Site,
    silent: Site,
}

impl Scene {
    async fn set(settings: &str) -> Self {
        let redis = Arc::new(Redis::start().await);
        let (site, silent) = (Site::start("hello").await, Site::silent().await);
        let gateway = Gateway::build(&redis)
            .settings(settings)
            .route(&site.route("/site"))
            .route(&silent.route("/silent"))
            .start()
            .await;
        let gateway = Arc::new(gateway);
        let crowd = Crowd::gather(&gateway, &redis).await;
        Self { gateway, redis, crowd, site, silent }
    }

    /// How many connections were cut for this reason.
    async fn cut(&self, reason: &str) -> f64 {
        let label = format!("reason=\"{reason}\"");
        self.gateway.metrics().await.sum("ssegate_connections_cut_total", &[&label])
    }

    /// Waits until so many more were cut for this reason than `before`.
    async fn is_cut(&self, reason: &str, before: f64, more: f64) {
        let label = format!("reason=\"{reason}\"");
        self.gateway.counts("ssegate_connections_cut_total", &[&label], before + more).await;
    }
}
