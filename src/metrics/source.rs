//! The metrics of the source: of its connections, and of the sentinels that name its server.

use super::{Metrics, int};

impl Metrics {
    /// Sets the number of connections that read Redis Streams.
    pub fn stream_connections(&self, connections: usize) {
        self.1.stream_connections.set(&self.0.stream_connections, int(connections));
    }

    /// The subscriptions were compared with those that Redis reports.
    pub fn self_check(&self, result: &str) {
        self.0.self_checks.with_label_values(&[result]).inc();
    }

    /// The source has reconnected.
    pub fn source_reconnected(&self) {
        self.0.source_reconnects.inc();
    }

    /// Sets how many sentinels are in each state.
    pub fn sentinels(&self, counts: [(&str, usize); 4]) {
        for ((state, number), share) in counts.into_iter().zip(&self.1.sentinels) {
            share.set(&self.0.sentinels.with_label_values(&[state]), int(number));
        }
    }

    /// The master has changed, so many times.
    pub fn master_changes(&self, changes: u64) {
        self.0.master_changes.inc_by(changes);
    }

    /// Entries were added to the logs of recorded channels, some of them gaps.
    pub fn recorded_appended(&self, entries: u64, gaps: u64) {
        self.0.recorded_entries.inc_by(entries);
        self.0.recorded_gaps.inc_by(gaps);
    }

    /// Messages of a recorded channel will not be recorded.
    pub fn recorded_dropped(&self, messages: usize) {
        self.0.recorded_dropped.inc_by(messages as u64);
    }

    /// Sets what waits to be recorded, in bytes.
    pub fn recorded_waiting(&self, bytes: usize) {
        self.1.recorded_waiting.set(&self.0.recorded_waiting, int(bytes));
    }

    /// The source has received messages.
    pub fn source_messages(&self, messages: u64) {
        self.0.source_messages.inc_by(messages);
    }

    /// The source has failed.
    pub fn source_error(&self, kind: &str) {
        self.0.source_errors.with_label_values(&[kind]).inc();
    }
}
