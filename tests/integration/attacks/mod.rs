//! Attacks on a gateway that meanwhile serves fifty others, over every protocol: they miss nothing,
//! memory stays within its bound, the attacker is cut off, and a metric says so.

/// A bug of our own.
mod bug;
/// Connections that come to nothing, and TLS.
mod connections;
/// Those who are served.
pub(crate) mod crowd;
/// What is asked for and what is published: ids, names, payloads.
mod events;
/// Frames of HTTP/2.
mod http2;
/// Who does not read.
mod readers;
/// Requests that are none.
mod requests;
/// What is said a little at a time.
mod slow;
/// What was measured.
pub(crate) mod table;

use std::sync::Arc;
use std::time::Duration;

use crowd::{Crowd, PACE, READERS};

use crate::support::{Gateway, GatewayBuilder, Redis, Site};

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
        Self::with(Redis::start().await, |builder| builder.settings(settings)).await
    }

    /// The same before this Redis, with more to say of the gateway.
    async fn with(redis: Redis, more: impl FnOnce(GatewayBuilder) -> GatewayBuilder) -> Self {
        Self::at(PACE, redis, more).await
    }

    /// The same, with so long between what is published for the crowd.
    async fn at(
        pace: Duration,
        redis: Redis,
        more: impl FnOnce(GatewayBuilder) -> GatewayBuilder,
    ) -> Self {
        let redis = Arc::new(redis);
        let (site, silent) = (Site::start("hello").await, Site::silent().await);
        let builder =
            Gateway::build(&redis).route(&site.route("/site")).route(&silent.route("/silent"));
        let gateway = Arc::new(more(builder).start().await);
        let crowd = Crowd::of(READERS, pace, &gateway, &redis).await;
        Self { gateway, redis, crowd, site, silent }
    }

    /// The sum of a metric's samples with this label, or of all.
    async fn count(&self, metric: &str, label: &str) -> f64 {
        let labels = [label];
        // No label: all of them.
        let labels = if label.is_empty() { &labels[..0] } else { &labels };
        self.gateway.metrics().await.sum(metric, labels)
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
