//! The metrics of the source: of its connections, and of the sentinels that name its server.

use super::{Metrics, int};

impl Metrics {
    /// The source has connected or disconnected.
    pub fn source_connected(&self, is_connected: bool) {
        self.0.source_connected.set(i64::from(is_connected));
    }

    /// Sets the number of connections that read Redis Streams.
    pub fn stream_connections(&self, connections: usize) {
        self.0.stream_connections.set(int(connections));
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
        for (state, number) in counts {
            self.0.sentinels.with_label_values(&[state]).set(int(number));
        }
    }

    /// Another server has become the master, so many times.
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
        self.0.recorded_waiting.set(int(bytes));
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
