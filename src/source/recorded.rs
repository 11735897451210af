//! Recorded channels: where gateways record them, and for how long.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The channel on which gateways that record publish marks for each other.
pub(crate) const MARKS: &str = "ssegate:recorded";

/// The settings of recorded channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedSettings {
    /// The prefix of the key of a channel's log in Redis; `{channel}` follows.
    pub prefix: String,
    /// About how many entries each log keeps.
    pub count: usize,
    /// How long an entry is kept, in whole milliseconds.
    pub age: Duration,
    /// The bound of what waits to be recorded, over all channels, in bytes.
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
    /// The key of the log of this channel. The braces are a hash tag, so that all keys of one channel are at one node
    /// of a Redis Cluster.
    pub(crate) fn log_key(&self, channel: &str) -> String {
        format!("{}{{{channel}}}", self.prefix)
    }

    /// The key of the last mark.
    pub(crate) fn mark_key(&self) -> String {
        format!("{}mark", self.prefix)
    }
}

/// Ends the recording of channels before a gateway exits. A cheap handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordingEnd {
    begun: CancellationToken,
    asked: CancellationToken,
    done: CancellationToken,
}

impl RecordingEnd {
    /// How long a gateway waits at its exit until the last messages are appended.
    pub(crate) const MOST: Duration = Duration::from_secs(3);

    /// Records that channels are recorded from now on.
    pub(crate) fn begin(&self) {
        self.begun.cancel();
    }

    /// Waits until the gateway is about to exit. Cancel safe.
    pub(crate) async fn asked(&self) {
        self.asked.cancelled().await;
    }

    /// Records that the logs have all messages that were received.
    pub(crate) fn finish(&self) {
        self.done.cancel();
    }
}

/// The [`RecordingEnd`]s of each server of a gateway, in order: for channels, and for sharded channels. A cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct RecordingEnds(Vec<[RecordingEnd; 2]>);

impl RecordingEnds {
    /// Creates the handles for this many servers.
    pub(crate) fn new(servers: usize) -> Self {
        Self((0..servers).map(|_| Default::default()).collect())
    }

    /// The handles of each server.
    pub(crate) fn all(&self) -> &[[RecordingEnd; 2]] {
        &self.0
    }

    /// Waits until the logs have what this gateway received and are sealed, or until that takes too long.
    pub(crate) async fn end(&self) {
        let begun = || self.0.iter().flatten().filter(|end| end.begun.is_cancelled());
        begun().for_each(|end| end.asked.cancel());
        let all_done = async {
            for end in begun() {
                end.done.cancelled().await;
            }
        };
        if timeout(RecordingEnd::MOST, all_done).await.is_err() {
            tracing::warn!(
                "the newest events of recorded channels may be missing in their logs: Redis is away or too slow"
            );
        }
    }
}
