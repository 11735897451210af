//! Who gets which event. Knows neither Redis nor HTTP.
//!
//! In the order of an event's way: [`channels`] numbers it, encodes it once, and puts it into the
//! batch of each shard that listens ([`port`], [`inbox`]); the [`shard`] finds the channel's
//! subscribers on its core and offers it to each ([`subscriber`]), where it waits in a [`queue`]
//! until the socket takes it. Beside that way, [`history`] keeps the newest events of each channel for
//! those who come back ([`resume`]), within a [`memory`] for all. Of a log, whose source keeps its
//! entries itself, a client's place is in the source's own ids ([`entries`]), and what is no longer
//! in the history is read again. The ways back are [`calls`], of the shards to the
//! hub, and the wishes of the hub for its source: who wants what, the newest wish for each thing
//! ([`interest`]).

mod channels;
mod drain_pace;
mod gap;
mod history;
mod inbox;
mod position;
mod requests;
mod shard;
mod subject;
mod subscriber;
#[cfg(test)]
mod tests;
mod timers;
mod watched;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

pub use channels::{Hub, LogPast, PastCall, PastKey, PastWanted, Wish};
pub use gap::GapReason;
pub use history::retention::{NameShape, Retention, RetentionRule, RetentionRules};
pub use position::event_id::{EventId, RunTag};
pub use position::log_positions::{MAX_LOGS, max_position_bytes};
pub use position::resume::{LastSeen, Replay};
pub use shard::{Shard, ShardLink, StreamOpening, StreamRequest};
pub use subscriber::{CloseReason, Subscriber, jittered};
pub use watched::{Watch, WatchGuard};

use crate::sse::encode;
use crate::sse::frame::Frame;

/// Bounds over all channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubSettings {
    /// Channels followed at once; a stream that needs one more is sent away for a while.
    pub max_channels: usize,
    /// What the histories of all channels may hold together, in bytes; the least recently used
    /// goes first.
    pub history_memory: usize,
    /// What may wait for all slow subscribers together, in bytes; then the fattest queues go.
    pub queue_memory: usize,
    /// What is kept of each channel. Of one that no rule names, what its streams ask for.
    pub retention: Arc<RetentionRules>,
}

/// Shards at most: a channel notes those that listen as the bits of a `u128`.
pub const MAX_SHARDS: usize = 128;

impl Default for HubSettings {
    fn default() -> Self {
        Self {
            max_channels: 100_000,
            history_memory: 256 << 20,
            queue_memory: 256 << 20,
            retention: Arc::default(),
        }
    }
}

/// How a stream is kept: what an events route says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// A comment is sent when nothing was written for so long.
    pub keep_alive: Duration,
    /// That comment, or what stands for it.
    pub keep_alive_text: Frame,
    /// The SSE `retry` field that opens every stream: how long a client waits before it returns.
    pub retry: Duration,
    /// A channel stays followed so long after its last listener left.
    pub linger: Duration,
    /// Whether a client is told of what it missed.
    pub gap_events: bool,
    /// What a client without an id is sent first.
    pub replay: Replay,
    /// What may wait for one subscriber, in bytes. An empty queue takes any event.
    pub max_queue_bytes: usize,
    /// What happens when more than that would wait.
    pub when_full: WhenFull,
    /// A stream is ended after this, or up to a quarter earlier, and its client comes back: perhaps to
    /// another gateway. `None`: never.
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
    /// The oldest events give way, and one `gap` tells of it.
    DropOldest,
    /// Only the newest event of each channel is kept: for dashboards. Where these do not fit either,
    /// the oldest of them give way, and one `gap` tells of it.
    Latest,
}

/// What is kept of a channel's past, while it is followed: the newest events within all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistorySettings {
    /// Events.
    pub count: usize,
    /// Bytes of their frames.
    pub bytes: usize,
    /// Time since they were received.
    pub age: Duration,
}

impl HistorySettings {
    /// Of a log a little is always kept: so much.
    pub const LEAST: Self = Self { count: 100, bytes: 256 << 10, age: Duration::from_secs(60) };
}

impl Default for HistorySettings {
    fn default() -> Self {
        Self { count: 1000, bytes: 4 << 20, age: Duration::from_secs(300) }
    }
}
