//! How often we try again, and how often we speak of it.

use std::time::Duration;

use redis::ConnectionInfo;
use tokio::time::Instant;

use super::SourceErrorKind;
use super::error::SourceError;
use crate::metrics::Metrics;

/// Waits between attempts to connect: doubled from the first to the cap, each drawn anew between
/// nothing and that ("full jitter").
const FIRST_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(1);
/// The same failure is logged again only after this.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How long to wait before this attempt to connect.
pub(super) fn wait_before(attempt: u32) -> Duration {
    let most = FIRST_WAIT.saturating_mul(1 << attempt.min(8)).min(MAX_WAIT);
    most.mul_f64(fastrand::f64())
}

/// Counts failures, and logs those that are news.
#[derive(Debug)]
pub(super) struct Reporter {
    address: String,
    last_logged: Option<(SourceErrorKind, Instant)>,
    metrics: Metrics,
}

impl Reporter {
    pub(super) fn new(info: &ConnectionInfo, metrics: Metrics) -> Self {
        Self { address: info.addr().to_string(), last_logged: None, metrics }
    }

    pub(super) fn report(&mut self, error: &SourceError, what: &'static str) {
        let kind = error.kind();
        self.metrics.source_error(kind.as_str());
        let is_news =
            self.last_logged.is_none_or(|(last, at)| last != kind || at.elapsed() >= LOG_INTERVAL);
        if is_news {
            self.last_logged = Some((kind, Instant::now()));
            tracing::warn!(address = self.address, kind = kind.as_str(), %error, "{what}");
        }
    }
}
