//! Requests for the presence of channels, and the results.

use ssegate_hub::ChannelName;
use tokio::sync::oneshot;

/// The presence of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelPresence {
    /// The number of members.
    pub count: usize,
    /// The members, in the order in which they joined; empty if only the number was requested.
    pub members: Vec<PresentMember>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentMember {
    /// The id of the member.
    pub id: String,
    /// When its first stream was opened, in milliseconds since 1970.
    pub since: u64,
    /// The number of its streams, over all gateways.
    pub connections: u64,
}

/// Why the members are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresenceAway {
    /// Redis cannot be reached, or refuses it.
    #[error("presence cannot be read from Redis now")]
    Away,
    /// Too many requests wait at the same time.
    #[error("too many requests for presence at once")]
    Busy,
}

/// A request on its way to the store.
#[derive(Debug)]
pub(crate) struct PresenceLookup {
    /// The channels, by their names at the source.
    pub(crate) channels: Vec<ChannelName>,
    /// Whether only the numbers are requested.
    pub(crate) is_count: bool,
    /// Receives the presence of each channel, in their order.
    pub(crate) reply: oneshot::Sender<Result<Vec<ChannelPresence>, PresenceAway>>,
}

impl PresenceLookup {
    /// Replies, unless the client has left meanwhile.
    pub(crate) fn complete(self, result: Result<Vec<ChannelPresence>, PresenceAway>) {
        self.reply.send(result).unwrap_or_default();
    }
}
