//! Retries: when to reconnect, when to retry what was refused, and how often to log failures.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::SourceErrorKind;
use super::error::SourceError;
use super::lost_nodes::NodeLoss;
use super::server::RedisServer;
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
    // `None`: the embedded bus.
    server: Option<RedisServer>,
    // As at the start; a failover may change it.
    address: String,
    // When a failure of each kind was last logged.
    last_logged: HashMap<SourceErrorKind, Instant>,
    metrics: Metrics,
    health: Health,
    // Records the failure in the part of the health that it affects.
    record: RecordFailure,
}

/// Records the kind and the text of a failure.
pub(super) type RecordFailure = fn(&Health, &'static str, &str);

impl FailureLog {
    pub(super) fn new(
        server: &RedisServer,
        metrics: Metrics,
        (health, record): (Health, RecordFailure),
    ) -> Self {
        Self::at(server.to_string(), Some(server.clone()), metrics, (health, record))
    }

    /// As [`Self::new`], for the server at `address`, which may not be a Redis.
    pub(super) fn at(
        address: String,
        server: Option<RedisServer>,
        metrics: Metrics,
        (health, record): (Health, RecordFailure),
    ) -> Self {
        Self { server, address, last_logged: HashMap::new(), metrics, health, record }
    }

    fn explain(&self, error: &SourceError) -> String {
        self.server.as_ref().map_or_else(|| error.to_string(), |server| server.explain(error))
    }

    /// Counts a failure without logging it: it was logged before, and continues.
    pub(super) fn note(&self, error: &SourceError) {
        self.note_as(self.record, error);
    }

    fn note_as(&self, record: RecordFailure, error: &SourceError) {
        let (kind, text) = (error.kind().as_str(), self.explain(error));
        self.metrics.source_error(kind);
        record(&self.health, kind, &format!("{}: {text}", self.address));
    }

    pub(super) fn report(&mut self, error: &SourceError, what: &'static str) {
        self.report_as(self.record, error, what);
    }

    /// As [`Self::report`], for a failure that affects another part of the health.
    pub(super) fn report_as(
        &mut self,
        record: RecordFailure,
        error: &SourceError,
        what: &'static str,
    ) {
        self.note_as(record, error);
        let kind = error.kind();
        if self.last_logged.get(&kind).is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            self.last_logged.insert(kind, Instant::now());
            self.log(error, what);
        }
    }

    /// Counts the loss of a connection to a node, and logs it if it is new.
    pub(super) fn lost(&self, error: &SourceError, what: &'static str, loss: NodeLoss) {
        if loss != NodeLoss::Idle {
            self.note(error);
        }
        if loss == NodeLoss::New {
            self.log(error, what);
        }
    }

    fn log(&self, error: &SourceError, what: &'static str) {
        let (address, kind, error) = (&self.address, error.kind().as_str(), self.explain(error));
        tracing::warn!(address, kind, error, "{what}");
    }
}
