//! Retries: when to reconnect, when to retry what was refused, and how often to log failures.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

use super::SourceErrorKind;
use super::error::SourceError;
use crate::health::Health;
use crate::metrics::Metrics;

/// Backoff between connection attempts: doubles from the first value up to the cap, with full
/// jitter (each wait is a random part of it).
const FIRST_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(1);
/// How often refused names are retried.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Refused names retried together, at most.
const MAX_RETRIED: usize = 64;
/// Minimum time between two log lines about failures of the same kind.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The backoff before this connection attempt.
pub(super) fn backoff(attempt: u32) -> Duration {
    let most = FIRST_WAIT.saturating_mul(1 << attempt.min(8)).min(MAX_WAIT);
    most.mul_f64(fastrand::f64())
}

/// A random sample of the refused names, to be retried. A new sample each time, so that each of
/// many names is retried eventually.
pub(super) fn sample_to_retry<T: Clone>(refused: &HashSet<T>) -> Vec<T> {
    let start = fastrand::usize(..refused.len().max(1));
    refused.iter().cycle().skip(start).take(MAX_RETRIED.min(refused.len())).cloned().collect()
}

/// Counts failures, and logs each kind at most once per [`LOG_INTERVAL`].
#[derive(Debug)]
pub(super) struct FailureLog {
    address: String,
    // When a failure of each kind was last logged.
    last_logged: HashMap<SourceErrorKind, Instant>,
    metrics: Metrics,
    health: Health,
    // Records the failure in the part of the health that it affects.
    record: RecordFailure,
}

/// Records the kind and the text of a failure.
type RecordFailure = fn(&Health, &'static str, &str);

impl FailureLog {
    pub(super) fn new(
        address: impl Display,
        metrics: Metrics,
        (health, record): (Health, RecordFailure),
    ) -> Self {
        Self { address: address.to_string(), last_logged: HashMap::new(), metrics, health, record }
    }

    pub(super) fn report(&mut self, error: &SourceError, what: &'static str) {
        let kind = error.kind();
        self.metrics.source_error(kind.as_str());
        (self.record)(&self.health, kind.as_str(), &format!("{}: {error}", self.address));
        if self.last_logged.get(&kind).is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            self.last_logged.insert(kind, Instant::now());
            tracing::warn!(address = self.address, kind = kind.as_str(), %error, "{what}");
        }
    }
}
