//! The metrics of the hub and of its shards.

use std::time::Duration;

use ssegate_hub::{GapReason, Observer};

use super::{Metrics, ShardMetrics};

impl Observer for Metrics {
    fn channels(&self, channels: usize) {
        self.channels(channels);
    }

    fn channel_refused(&self) {
        self.channel_refused();
    }

    fn history_bytes(&self, bytes: usize) {
        self.history_bytes(bytes);
    }

    fn events_dropped_by_overload(&self, events: u64) {
        self.events_dropped_by_overload(events);
    }
}

impl Observer for ShardMetrics {
    fn events_dropped_by_overflow(&self, events: u64) {
        self.shared().events_dropped_by_overflow(events);
    }

    fn gap(&self, reason: GapReason) {
        self.shared().gap(reason.as_str());
    }

    fn subscribed(&self, channels: usize) {
        self.shared().subscribed(channels);
    }

    fn unsubscribed(&self, channels: usize) {
        self.shared().unsubscribed(channels);
    }

    fn bytes_sent(&self, bytes: usize) {
        self.stream_bytes_sent(bytes);
    }

    fn event_sent(&self, latency: Duration) {
        self.event_sent(latency);
    }

    fn tick(&self, queue_bytes: usize) {
        self.queue_bytes(queue_bytes);
        self.flush();
    }
}
