//! What a shard records for each event, without sharing a cache line with the others.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Duration;

use prometheus::local::{LocalHistogram, LocalIntCounter};

use super::{Metrics, int};

/// What one shard records for each event: kept on its own thread, and added up at its ticks.
pub struct ShardMetrics {
    events_sent: RefCell<LocalIntCounter>,
    stream_bytes_sent: RefCell<LocalIntCounter>,
    delivery_latency: RefCell<LocalHistogram>,
    queue_bytes: Cell<i64>,
    shared: Metrics,
}

impl Metrics {
    /// What one shard records, without sharing a cache line for each event.
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

impl ShardMetrics {
    /// An event was handed to a socket, so long after it was received.
    pub fn event_sent(&self, latency: Duration) {
        self.events_sent.borrow_mut().inc();
        self.delivery_latency.borrow_mut().observe(latency.as_secs_f64());
    }

    /// Bytes of a stream were handed to a socket.
    pub fn stream_bytes_sent(&self, bytes: usize) {
        self.stream_bytes_sent.borrow_mut().inc_by(bytes as u64);
    }

    /// So many bytes wait in the queues of this shard now.
    pub fn queue_bytes(&self, bytes: usize) {
        let bytes = int(bytes);
        self.shared.0.queue_bytes.add(bytes - self.queue_bytes.replace(bytes));
    }

    /// Adds up what was kept here.
    pub fn flush(&self) {
        self.events_sent.borrow_mut().flush();
        self.stream_bytes_sent.borrow_mut().flush();
        self.delivery_latency.borrow_mut().flush();
    }

    /// What is recorded less often than for each event.
    pub fn shared(&self) -> &Metrics {
        &self.shared
    }
}

impl fmt::Debug for ShardMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardMetrics").finish_non_exhaustive()
    }
}
