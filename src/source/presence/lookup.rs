//! What a request wants to know of channels, and what it is told.

use ssegate_hub::ChannelName;
use tokio::sync::oneshot;

/// Who listens to a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelPresence {
    /// How many do.
    pub count: usize,
    /// Who they are, by the time at which they came; empty if only the number was asked for.
    pub members: Vec<PresentMember>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentMember {
    /// What it is called.
    pub id: String,
    /// When its first stream came, in milliseconds since 1970.
    pub since: u64,
    /// How many streams it has, at all gateways.
    pub connections: u64,
}

/// Why it is not known who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresenceAway {
    /// Redis cannot be reached, or refuses it.
    #[error("who listens cannot be found out now")]
    Away,
    /// Too many ask at the same time.
    #[error("too many requests ask who listens")]
    Busy,
}

/// A question on its way to the store.
#[derive(Debug)]
pub(crate) struct PresenceLookup {
    /// The channels, by their names at the source.
    pub(crate) channels: Vec<ChannelName>,
    /// Whether only the numbers are asked for.
    pub(crate) is_count: bool,
    /// Takes what is known of each channel, in their order.
    pub(crate) reply: oneshot::Sender<Result<Vec<ChannelPresence>, PresenceAway>>,
}

impl PresenceLookup {
    /// Replies, unless the client has left meanwhile.
    pub(crate) fn complete(self, result: Result<Vec<ChannelPresence>, PresenceAway>) {
        self.reply.send(result).unwrap_or_default();
    }
}
