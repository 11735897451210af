//! Whether an upstream is slow, measured against the `p99_warning` of one route.
//!
//! Counts over all shards, and logs changes. Two routes may share a path and an upstream, such as
//! one for GET and one for POST: each counts its own responses against its own limit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::incident::Incident;
use super::latency_window::{LatencyChange, LatencyWindow};

/// The response times of an upstream on one route.
#[derive(Debug)]
pub struct ResponseTimes {
    limit: Duration,
    responses: AtomicU64,
    slow_responses: AtomicU64,
    state: Mutex<ResponseTimesState>,
}

#[derive(Debug, Default)]
struct ResponseTimesState {
    window: LatencyWindow,
    // `Some` while it is slow.
    incident: Option<Incident>,
}

impl ResponseTimes {
    pub(super) fn new(limit: Duration) -> Self {
        let (responses, slow_responses) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { limit, responses, slow_responses, state: Mutex::default() }
    }

    /// The route's `p99_warning`: the upstream is slow when more than 1% of the responses take
    /// longer.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Counts a response head.
    pub fn record_response(&self) {
        self.responses.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that has waited longer than the limit. Its response may still be pending.
    pub fn record_slow(&self) {
        self.slow_responses.fetch_add(1, Ordering::Relaxed);
    }

    /// The problem, if the upstream is slow.
    pub(super) fn incident(&self) -> Option<String> {
        self.lock().incident.as_ref().map(ToString::to_string)
    }

    /// Logs when the upstream becomes slow, and when it recovers. Called once a second.
    pub(super) fn tick(&self, route: &str, upstream: &str) {
        let limit = self.limit;
        let responses = self.responses.load(Ordering::Relaxed);
        let slow = self.slow_responses.load(Ordering::Relaxed);
        let mut state = self.lock();
        match state.window.tick(responses, slow) {
            LatencyChange::Unchanged => {}
            LatencyChange::Slow { responses, slow } => {
                let error =
                    format!("{slow} of {responses} responses in a minute took over {limit:?}");
                state.incident = Some(Incident::new("slow", error, SystemTime::now()));
                tracing::warn!(
                    route, upstream, p99_warning = ?limit, slow, responses,
                    "the backend is slow: over 1% of responses in a minute exceed p99_warning",
                );
            }
            LatencyChange::Recovered => {
                state.incident = None;
                tracing::info!(
                    route, upstream, p99_warning = ?limit, "the backend is no longer slow"
                );
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, ResponseTimesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
