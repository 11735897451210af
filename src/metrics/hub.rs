//! The metrics of the hub. Those of its shards are in `shard`.

use ssegate_hub::Observer;

use super::{DropReason, Metrics, int};

impl Observer for Metrics {
    fn channels(&self, channels: usize) {
        self.1.channels.set(&self.0.channels, int(channels));
    }

    fn client_placed(&self, is_complete: bool) {
        let result = if is_complete { "complete" } else { "gap" };
        self.0.fleet_clients.with_label_values(&[result]).inc();
    }

    fn channel_refused(&self) {
        self.0.channels_refused.inc();
    }

    fn history_bytes(&self, bytes: usize) {
        self.1.history_bytes.set(&self.0.history_bytes, int(bytes));
    }

    fn events_dropped_by_overload(&self, events: u64) {
        self.count_dropped(DropReason::Overload, events);
    }
}
