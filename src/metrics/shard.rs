//! The metrics that a shard records for each event.
//!
//! They are kept on the shard's thread and added to the shared counters at its ticks, so that
//! shards do not contend for a cache line on every event.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Duration;

use prometheus::local::{LocalHistogram, LocalIntCounter};
use ssegate_hub::{GapReason, Observer};

use super::{DropReason, Metrics, int};

/// The metrics of one shard.
pub struct ShardMetrics {
    events_sent: RefCell<LocalIntCounter>,
    stream_bytes_sent: RefCell<LocalIntCounter>,
    delivery_latency: RefCell<LocalHistogram>,
    queue_bytes: Cell<i64>,
    shared: Metrics,
}

impl Metrics {
    /// The metrics of a new shard.
    pub fn for_shard(&self) -> ShardMetrics {
        ShardMetrics {
            events_sent: RefCell::new(self.0.events_sent.local()),
            stream_bytes_sent: RefCell::new(self.0.stream_bytes_sent.local()),
            delivery_latency: RefCell::new(self.0.delivery_latency.local()),
            queue_bytes: Cell::new(0),
            shared: self.clone(),
        }
    }
}

impl Observer for ShardMetrics {
    fn events_dropped_by_overflow(&self, events: u64) {
        self.shared.count_dropped(DropReason::Overflow, events);
    }

    fn gap(&self, reason: GapReason) {
        self.shared.0.gaps.with_label_values(&[reason.as_str()]).inc();
    }

    fn subscribed(&self, channels: usize) {
        self.shared.0.subscriptions.add(int(channels));
    }

    fn unsubscribed(&self, channels: usize) {
        self.shared.0.subscriptions.sub(int(channels));
    }

    fn bytes_sent(&self, bytes: usize) {
        self.stream_bytes_sent.borrow_mut().inc_by(bytes as u64);
    }

    fn event_sent(&self, latency: Duration) {
        self.events_sent.borrow_mut().inc();
        self.delivery_latency.borrow_mut().observe(latency.as_secs_f64());
    }

    /// Adds the local values to the shared counters.
    fn tick(&self, queue_bytes: usize) {
        let queue_bytes = int(queue_bytes);
        self.shared.0.queue_bytes.add(queue_bytes - self.queue_bytes.replace(queue_bytes));
        self.events_sent.borrow_mut().flush();
        self.stream_bytes_sent.borrow_mut().flush();
        self.delivery_latency.borrow_mut().flush();
    }
}

impl fmt::Debug for ShardMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardMetrics").finish_non_exhaustive()
    }
}
