//! Keeps a set of keys fresh: when it is fetched, and what is said about it.

use std::time::Duration;

use super::fetch::{FetchedKeys, JwksError};
use super::remote_keys::RemoteKeys;
use crate::health::Health;
use crate::metrics::Metrics;

/// The time between two fetches where the response has no `max-age`.
const INTERVAL: Duration = Duration::from_secs(600);
/// The bounds of a server's `max-age`.
const MIN_INTERVAL: Duration = Duration::from_secs(60);
const MAX_INTERVAL: Duration = Duration::from_secs(86_400);
/// The first pause after a failure. Each further failure doubles it, up to `MAX_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Fetches the keys at once, then whenever they are old or a request demands it. Never returns: dropped when no route
/// needs the keys any more.
pub(super) async fn keep_fresh(
    keys: &RemoteKeys,
    fetch: impl AsyncFn() -> Result<FetchedKeys, JwksError>,
    mut report: FetchReport,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        keys.fetch_begun();
        let fetched = fetch().await;
        report.ended(fetched.as_ref().err());
        let wait = match fetched {
            Ok(FetchedKeys { keys: fetched, max_age }) => {
                keys.fetch_ended(Some(fetched));
                pause = FIRST_PAUSE;
                max_age.unwrap_or(INTERVAL).clamp(MIN_INTERVAL, MAX_INTERVAL)
            }
            Err(_) => {
                keys.fetch_ended(None);
                let wait = pause;
                pause = (2 * pause).min(MAX_PAUSE);
                wait
            }
        };
        tokio::select! {
            () = tokio::time::sleep(earlier(wait)) => {}
            () = keys.wanted() => {}
        }
    }
}

/// Up to a tenth earlier, so that many gateways do not fetch at the same moment.
fn earlier(wait: Duration) -> Duration {
    wait.mul_f64(1.0 - 0.1 * fastrand::f64())
}

/// Reports the result of each fetch of one set: in the metrics, in `/readyz?verbose` and in the log. An outage is
/// logged once for each kind of failure, and so is its end.
#[derive(Debug)]
pub(super) struct FetchReport {
    /// The URL, without secrets.
    pub(super) url: String,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    pub(super) failing: Vec<&'static str>,
}

impl FetchReport {
    fn ended(&mut self, error: Option<&JwksError>) {
        let Self { url, health, metrics, failing } = self;
        let Some(error) = error else {
            metrics.jwks_fetched("success");
            if !failing.is_empty() {
                tracing::info!(%url, "the keys are fetched again");
            }
            failing.clear();
            return health.set_key_set(url, None);
        };
        let kind = error.kind().as_str();
        metrics.jwks_fetched(kind);
        health.set_key_set(url, Some(error.to_string()));
        if !failing.contains(&kind) {
            failing.push(kind);
            tracing::warn!(%url, kind, %error, "cannot fetch the keys; those fetched before stay in use");
        }
    }
}

impl Drop for FetchReport {
    fn drop(&mut self) {
        self.health.set_key_set(&self.url, None);
    }
}

#[cfg(test)]
mod tests;
