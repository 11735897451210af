//! The metrics that a shard records for each event.
//!
//! They are kept on the shard's thread and added to the shared counters at its ticks, so that
//! shards do not contend for a cache line on every event.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::{Duration, SystemTime};

use prometheus::local::{LocalHistogram, LocalIntCounter};
use ssegate_hub::{GapReason, Observer};

use super::{DropReason, Metrics, int};

/// An entry id whose time is longer ago than this is taken for a number, not a time.
const MAX_PUBLISH_LATENCY: Duration = Duration::from_secs(86_400);

/// The metrics of one shard.
pub struct ShardMetrics {
    events_sent: RefCell<LocalIntCounter>,
    stream_bytes_sent: RefCell<LocalIntCounter>,
    delivery_latency: RefCell<LocalHistogram>,
    publish_latency: RefCell<LocalHistogram>,
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
            publish_latency: RefCell::new(self.0.publish_latency.local()),
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

    fn entry_delivered(&self, milliseconds: u64) {
        if let Some(age) = published_ago(milliseconds, SystemTime::now()) {
            self.publish_latency.borrow_mut().observe(age.as_secs_f64());
        }
    }

    /// Adds the local values to the shared counters.
    fn tick(&self, queue_bytes: usize) {
        let queue_bytes = int(queue_bytes);
        self.shared.0.queue_bytes.add(queue_bytes - self.queue_bytes.replace(queue_bytes));
        self.events_sent.borrow_mut().flush();
        self.stream_bytes_sent.borrow_mut().flush();
        self.delivery_latency.borrow_mut().flush();
        self.publish_latency.borrow_mut().flush();
    }
}

/// How long ago an entry with these milliseconds in its id was published; `None` if they are not a time. An id can be
/// any number, so one that is more than a day from now is not taken for a time. One that is ahead of this machine's
/// clock by less was published just now, by a machine whose clock differs.
fn published_ago(milliseconds: u64, now: SystemTime) -> Option<Duration> {
    let published = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds))?;
    match now.duration_since(published) {
        Ok(ago) => (ago <= MAX_PUBLISH_LATENCY).then_some(ago),
        Err(ahead) => (ahead.duration() <= MAX_PUBLISH_LATENCY).then_some(Duration::ZERO),
    }
}

impl fmt::Debug for ShardMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardMetrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::published_ago;

    #[test]
    fn only_an_id_that_is_a_time_says_when_an_entry_was_published() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_000);
        for (milliseconds, expected) in [
            (1_799_999_999_990, Some(10)),
            (1_800_000_000_000, Some(0)),
            // The clock of Redis is ahead.
            (1_800_000_000_500, Some(0)),
            (1_799_913_600_000, Some(86_400_000)),
            (1_799_913_599_999, None),
            (1_800_086_400_001, None),
            (1, None),
            (u64::MAX, None),
        ] {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(published_ago(milliseconds, now), expected, "{milliseconds}");
        }
    }
}
