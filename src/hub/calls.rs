//! What shards ask of the hub: to join and leave channels, and for pieces of the past.

use std::sync::Arc;
use std::time::Duration;

use super::HistorySettings;
use super::interest::{Interest, Wishes};
use super::position::Resume;
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
}

/// What each shard wants of channels.
pub(super) type Joins = Wishes<(usize, Topic), Wanted>;
/// What each subscriber of a shard asks for.
pub(super) type Replays = Wishes<(usize, MemberKey), ReplayCall>;

/// The calls of all shards. One of each kind for each thing, the newest: bounded by the channels
/// and the subscribers.
#[derive(Debug)]
pub(super) struct Calls {
    joins: Interest<(usize, Topic), Wanted>,
    replays: Interest<(usize, MemberKey), ReplayCall>,
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
        self.replays.wish((shard, member), call);
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
