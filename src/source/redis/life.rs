//! How often we try again, and how often we speak of it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use redis::ConnectionInfo;
use tokio::time::Instant;

use super::SourceErrorKind;
use super::error::SourceError;
use crate::health::Health;
use crate::metrics::Metrics;

/// Waits between attempts to connect: doubled from the first to the cap, each drawn anew between
/// nothing and that ("full jitter").
const FIRST_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(1);
/// How often what was refused is asked for again.
pub(super) const ASK_AGAIN_INTERVAL: Duration = Duration::from_secs(1);
/// Refused names that are asked for again together.
const MAX_AGAIN: usize = 64;
/// A failure of the same kind is logged again only after this.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How long to wait before this attempt to connect.
pub(super) fn wait_before(attempt: u32) -> Duration {
    let most = FIRST_WAIT.saturating_mul(1 << attempt.min(8)).min(MAX_WAIT);
    most.mul_f64(fastrand::f64())
}

/// Some of what was refused, to be asked for again: others each time, so that one of many that is allowed
/// later has its turn.
pub(super) fn some_of<T: Clone>(refused: &HashSet<T>) -> Vec<T> {
    let start = fastrand::usize(..refused.len().max(1));
    refused.iter().cycle().skip(start).take(MAX_AGAIN.min(refused.len())).cloned().collect()
}

/// Counts failures, and logs those that are news.
#[derive(Debug)]
pub(super) struct Reporter {
    address: String,
    // When a failure of each kind was logged last.
    last_logged: HashMap<SourceErrorKind, Instant>,
    metrics: Metrics,
    health: Health,
    // Which part of the health it is.
    note: NoteFailure,
}

/// Notes the kind of a failure, and what it was.
type NoteFailure = fn(&Health, &'static str, &str);

impl Reporter {
    pub(super) fn new(
        info: &ConnectionInfo,
        metrics: Metrics,
        (health, note): (Health, NoteFailure),
    ) -> Self {
        Self {
            address: info.addr().to_string(),
            last_logged: HashMap::new(),
            metrics,
            health,
            note,
        }
    }

    pub(super) fn report(&mut self, error: &SourceError, what: &'static str) {
        let kind = error.kind();
        self.metrics.source_error(kind.as_str());
        (self.note)(&self.health, kind.as_str(), &error.to_string());
        if self.last_logged.get(&kind).is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            self.last_logged.insert(kind, Instant::now());
            tracing::warn!(address = self.address, kind = kind.as_str(), %error, "{what}");
        }
    }
}
