//! The metrics of shared streams: of the hub whose channels they are, and of their readers.

use std::fmt;

use ssegate_hub::Observer;

use super::{DropReason, Metrics, int};

/// The metrics of the hub of shared streams.
pub struct SharedHubMetrics(Metrics);

impl Observer for SharedHubMetrics {
    fn history_bytes(&self, bytes: usize) {
        self.0.0.shared_history_bytes.set(int(bytes));
    }

    fn channel_refused(&self) {
        self.0.0.channels_refused.inc();
    }

    fn events_dropped_by_overload(&self, events: u64) {
        self.0.count_dropped(DropReason::Overload, events);
    }
}

impl Metrics {
    /// The metrics of the hub of shared streams.
    pub fn for_shared_hub(&self) -> SharedHubMetrics {
        SharedHubMetrics(self.clone())
    }

    /// Adds to the number of shared streams, or subtracts if negative.
    pub fn shared_upstreams(&self, more: i64) {
        self.0.shared_upstreams.add(more);
    }

    /// Adds to the number of readers of shared streams, or subtracts if negative.
    pub fn shared_readers(&self, more: i64) {
        self.0.shared_readers.add(more);
    }

    /// A request was served from a shared stream.
    pub fn shared_request(&self, how: &str) {
        self.0.shared_requests.with_label_values(&[how]).inc();
    }

    /// A request on a route that shares streams was forwarded alone.
    pub fn shared_alone(&self, reason: &str) {
        self.0.shared_alone.with_label_values(&[reason]).inc();
    }

    /// The request for a shared stream is sent to the backend again.
    pub fn shared_retried(&self, reason: &str) {
        self.0.shared_retries.with_label_values(&[reason]).inc();
    }

    /// A shared stream has ended.
    pub fn shared_ended(&self, reason: &str) {
        self.0.shared_ended.with_label_values(&[reason]).inc();
    }
}

impl fmt::Debug for SharedHubMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedHubMetrics").finish_non_exhaustive()
    }
}
