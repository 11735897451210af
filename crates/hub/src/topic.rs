//! What the hub calls a channel.

use ssegate_format::Format;

use super::channel_name::ChannelName;

/// A channel of the hub: a subscription, with the format and the ids of its events.
///
/// Two routes that read the same Redis channel in different ways have two topics, each with its own
/// frames.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topic {
    /// What the source subscribes to.
    pub subscription: Subscription,
    /// How its payloads are decoded.
    pub format: Format,
    /// Where the ids of its events come from.
    pub ids: Ids,
}

impl Topic {
    /// Whether its source reports losses for each channel by itself.
    pub(crate) fn is_sharded(&self) -> bool {
        self.ids != Ids::Entries && self.subscription.name.as_sharded().is_some()
    }
}

/// A subscription of the source: `SUBSCRIBE name` or `PSUBSCRIBE name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subscription {
    /// The channel, or the pattern.
    pub name: ChannelName,
    /// Whether `name` is a pattern.
    pub is_pattern: bool,
}

/// Where the SSE ids of a channel's events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ids {
    /// The hub numbers the events: the route keeps history, from which a client can resume.
    Ours,
    /// The publisher may set them: the route keeps no history.
    Publisher,
    /// The source assigns them: the channel is a log, whose source stores and numbers its entries.
    Entries,
    /// The source assigns them to messages as it receives them: the channel is recorded. Gateways append what
    /// is published to a log, and the source reads the past from there.
    Recorded,
    /// The publisher may set them, and the hub numbers the events that have none: the channel is the event stream of
    /// another server, with a history. A client may resume from either. It must be the only channel of a stream.
    Mixed,
}

impl Ids {
    /// Whether the channel is a log, whose source keeps its past.
    pub fn is_log(self) -> bool {
        matches!(self, Self::Entries | Self::Recorded)
    }
}
