//! What shards ask of the hub: to join and leave channels, and for pieces of the past.

use std::sync::Arc;
use std::time::Duration;

use super::HistorySettings;
use super::interest::{Interest, Wishes};
use super::resume::Resume;
use super::rounds::MemberKey;
use crate::event::Topic;

/// What a shard wants of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// To be dealt its events.
    Joined(Joining),
    /// Nothing any more.
    Left,
}

/// How a shard joins a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Joining {
    pub(super) linger: Duration,
    pub(super) history: Option<HistorySettings>,
    /// Comes back with the answer: one to an older wish, that was withdrawn meanwhile, must not be
    /// taken for the answer to this one.
    pub(super) ticket: u64,
}

/// A piece of the past, for one subscriber.
#[derive(Clone, Debug)]
pub(super) struct ReplayCall {
    pub(super) topics: Arc<[Topic]>,
    pub(super) resume: Resume,
    pub(super) max_bytes: usize,
    /// Comes back with the answer: one that is no longer awaited is passed over.
    pub(super) ticket: u64,
}

/// A subscriber, and the shard that it is on.
pub(super) type Caller = (usize, MemberKey);

/// What each shard wants of channels.
pub(super) type Joins = Wishes<(usize, Topic), Wanted>;
/// What each subscriber of a shard asks for; `None`: nothing any more.
pub(super) type Replays = Wishes<Caller, Option<ReplayCall>>;

/// The calls of all shards. One of each kind for each thing, the newest: bounded by the channels
/// and the subscribers.
#[derive(Debug)]
pub(super) struct Calls {
    joins: Interest<(usize, Topic), Wanted>,
    replays: Interest<Caller, Option<ReplayCall>>,
}

impl Calls {
    pub(super) fn new() -> Self {
        Self { joins: Interest::new(), replays: Interest::new() }
    }

    pub(super) fn join(&self, shard: usize, topic: Topic, joining: Joining) {
        self.joins.wish((shard, topic), Wanted::Joined(joining));
    }

    pub(super) fn leave(&self, shard: usize, topic: Topic) {
        self.joins.wish((shard, topic), Wanted::Left);
    }

    pub(super) fn replay(&self, shard: usize, member: MemberKey, call: ReplayCall) {
        self.replays.wish((shard, member), Some(call));
    }

    /// The subscriber is gone: what it asked for is not needed.
    pub(super) fn withdraw_replay(&self, shard: usize, member: MemberKey) {
        self.replays.wish((shard, member), None);
    }

    /// Waits until there is a call. Cancel safe.
    pub(super) async fn wait(&self) {
        tokio::select! {
            () = self.joins.wait() => {}
            () = self.replays.wait() => {}
        }
    }

    /// Takes all of them. The replays are taken first, so that whoever asked for one has its joins
    /// among those that are taken with it or before it.
    pub(super) fn take(&self) -> (Joins, Replays) {
        let replays = self.replays.take();
        (self.joins.take(), replays)
    }
}
