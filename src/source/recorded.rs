//! Recorded channels: how long what gateways record is kept, and where.

use std::time::Duration;

/// The channel on which gateways that record publish marks for each other.
pub(crate) const MARKS: &str = "ssegate:recorded";

/// The settings of recorded channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedSettings {
    /// What the key of a channel's log begins with, in Redis; `{channel}` comes behind it.
    pub prefix: String,
    /// About how many entries each log keeps.
    pub count: usize,
    /// How long an entry is kept, in whole milliseconds.
    pub age: Duration,
    /// What may wait to be recorded, of all channels together, in bytes.
    pub memory: usize,
}

impl Default for RecordedSettings {
    fn default() -> Self {
        Self {
            prefix: "ssegate:log:".to_owned(),
            count: 10_000,
            age: Duration::from_secs(24 * 60 * 60),
            memory: 64 << 20,
        }
    }
}

impl RecordedSettings {
    /// The key of the log of this channel. The braces are a hash tag: what belongs to one channel is at one node of a
    /// Redis Cluster.
    pub(crate) fn log_key(&self, channel: &str) -> String {
        format!("{}{{{channel}}}", self.prefix)
    }

    /// The key that has the last mark.
    pub(crate) fn mark_key(&self) -> String {
        format!("{}mark", self.prefix)
    }
}
