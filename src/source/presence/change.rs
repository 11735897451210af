//! What has changed at this gateway since the store was told.

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
    /// What becomes of the lease of this gateway.
    pub(crate) lease: LeaseChange,
    /// The members that have changed; none: the lease is renewed.
    pub(crate) members: Vec<MemberChange>,
}

/// What becomes of the lease of this gateway in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseChange {
    /// The gateway has members here.
    Renewed,
    /// It has none any more.
    Ended,
    /// It speaks of others alone: whether it has members here is not said.
    Kept,
}

/// What has changed of one member.
#[derive(Clone, Debug)]
pub(crate) struct MemberChange {
    /// What it is called.
    pub(crate) id: Arc<str>,
    /// Its streams at this gateway; `None`: it has left.
    pub(crate) streams: Option<u32>,
    /// When its first stream came.
    pub(crate) since: Instant,
}

/// What the store has made of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChangeOutcome {
    /// It is known now, but for the members at these places, for which there was no room.
    Known(Vec<usize>),
    /// The store has lost what this gateway had said of the channel: all of it has to be said again.
    Lost,
}
