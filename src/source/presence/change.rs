//! What has changed at this gateway since it last wrote to the store.

use std::sync::Arc;

use ssegate_hub::ChannelName;
use tokio::time::Instant;

use crate::route::PresenceSettings;

/// What has changed in one channel.
#[derive(Clone, Debug)]
pub(crate) struct ChannelChange {
    /// The channel, by its name at the source.
    pub(crate) name: ChannelName,
    /// The length of the prefix of its name that clients do not see, in bytes.
    pub(crate) prefix_bytes: usize,
    /// The settings of the route.
    pub(crate) settings: Arc<PresenceSettings>,
    /// The store may not know that this gateway has members here.
    pub(crate) is_beginning: bool,
    /// What happens to the lease of this gateway.
    pub(crate) lease: LeaseChange,
    /// The members that have changed; none: the lease is renewed.
    pub(crate) members: Vec<MemberChange>,
}

/// What happens to the lease of this gateway in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseChange {
    /// The gateway has members here.
    Renewed,
    /// It has none any more.
    Ended,
    /// The change is about other gateways only: the lease of this one stays as it is.
    Kept,
}

/// What has changed of one member.
#[derive(Clone, Debug)]
pub(crate) struct MemberChange {
    /// The id of the member.
    pub(crate) id: Arc<str>,
    /// Its streams at this gateway; `None`: it has left.
    pub(crate) streams: Option<u32>,
    /// When its first stream was opened.
    pub(crate) since: Instant,
}

/// The result of a change at the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChangeOutcome {
    /// The store has the change, except for the members at these indexes: it had no room for them.
    Known(Vec<usize>),
    /// The store has lost what this gateway wrote about the channel: all of it has to be written
    /// again.
    Lost,
}
