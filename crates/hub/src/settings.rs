//! The settings of the hub and of a stream. Those of a channel's history are in
//! [`retention`](super::history::retention).

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ssegate_format::Format;
use ssegate_sse::encode;
use ssegate_sse::frame::Frame;

use super::history::retention::RetentionRules;
use super::position::resume::Replay;
use crate::ChannelName;

/// The most shards: a channel has one bit of a `u128` for each.
pub const MAX_SHARDS: usize = 128;

/// Bounds over all channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubSettings {
    /// The most channels that are followed at once. A stream that needs one more is closed, and its client
    /// told to come back.
    pub max_channels: usize,
    /// What the histories of all channels may hold together, in bytes. The least recently used is evicted
    /// first.
    pub history_memory: usize,
    /// What of the histories the next process is given, in bytes: those used last first.
    pub handover_bytes: usize,
    /// What the queues of all subscribers may hold together, in bytes. The streams with the largest queues
    /// are closed first.
    pub queue_memory: usize,
    /// What is kept of each channel. For a channel that no rule matches, what its streams request.
    pub retention: Arc<RetentionRules>,
    /// The patterns that are followed from the start, before a client asks for their channels.
    pub followed: Arc<[FollowedPattern]>,
}

/// A pattern that the hub follows as long as it has this setting.
///
/// What it brings goes into the history of each channel that it matches, as `retention` says, in this format and
/// with ids of the hub. Such a channel is opened with its first message, and stays until there is no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedPattern {
    /// The pattern, as the source takes it.
    pub pattern: ChannelName,
    /// How payloads are decoded.
    pub format: Format,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self {
            max_channels: 100_000,
            history_memory: 256 << 20,
            handover_bytes: 64 << 20,
            queue_memory: 256 << 20,
            retention: Arc::default(),
            followed: Arc::default(),
        }
    }
}

/// How a stream is kept, as its events route says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// A keep-alive is sent when nothing was written for this long.
    pub keep_alive: Duration,
    /// The keep-alive: a comment, or what the route says.
    pub keep_alive_text: Frame,
    /// The SSE `retry` field that opens every stream: how long a client waits before it comes back.
    pub retry: Duration,
    /// How long a channel is followed after its last subscriber has left.
    pub linger: Duration,
    /// Whether a client is sent a `gap` where events may be missing.
    pub gap_events: bool,
    /// What of the past a client without an id is sent first.
    pub replay: Replay,
    /// The bound of the stream's queue, in bytes. An empty queue takes any event.
    pub max_queue_bytes: usize,
    /// What happens when more than that would be queued.
    pub when_full: WhenFull,
    /// How long a stream is open; up to a quarter less, so that clients do not come back together, and
    /// some come back to another gateway. `None`: for ever.
    pub max_age: Option<Duration>,
}

/// One for all routes.
static COMMENT: LazyLock<Frame> = LazyLock::new(encode::comment);

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(15),
            keep_alive_text: COMMENT.clone(),
            retry: Duration::from_secs(3),
            linger: Duration::from_secs(300),
            gap_events: true,
            replay: Replay::None,
            max_queue_bytes: 1 << 20,
            when_full: WhenFull::default(),
            max_age: None,
        }
    }
}

/// What happens to a subscriber whose queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It is closed; the client comes back.
    #[default]
    Disconnect,
    /// The oldest events are dropped, and one `gap` is sent for them.
    DropOldest,
    /// Only the newest event of each channel is kept: for dashboards. If these do not fit either, the oldest
    /// of them are dropped, and one `gap` is sent for them.
    Latest,
}
