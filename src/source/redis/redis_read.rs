//! What the gateway reads from a Redis, as far as the routes say it.

use std::sync::Arc;

use ssegate_hub::{ChannelName, Subscription};

use crate::route::PresenceSettings;
use crate::source::recorded::RecordedSettings;

/// What the gateway reads from Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisRead {
    /// A pub/sub channel or pattern.
    Subscription(Subscription),
    /// A sharded channel, by the name that the hub has for it.
    Sharded(ChannelName),
    /// A Redis Stream.
    Stream(ChannelName),
    /// The control channel, with what is kept beside it.
    Control(ChannelName),
    /// What gateways of a fleet publish for each other.
    Fleet,
    /// The same, at each node of a Cluster: for its sharded channels.
    NodeFleet,
    /// Who listens, on a route with these settings.
    Presence(Arc<PresenceSettings>),
    /// Streams that are kept for all gateways.
    Kept,
    /// What is recorded, and the marks of gateways.
    Recorded(RecordedSettings),
    /// The same of sharded channels.
    ShardedRecorded(RecordedSettings),
}
