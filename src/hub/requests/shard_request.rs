//! What shards ask of the hub: to join and leave channels, and for pieces of the past.

use std::sync::Arc;
use std::time::Duration;

use crate::event::Topic;
use crate::hub::HistorySettings;
use crate::hub::position::resume::Resume;
use crate::hub::requests::coalescing_queue::{Interest, Wishes};
use crate::hub::timers::StreamKey;

/// What a shard wants of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Wanted {
    /// To be dealt its events.
    Joined(Joining),
    /// Nothing any more.
    Left,
}

/// How a shard joins a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Joining {
    pub(in crate::hub) linger: Duration,
    pub(in crate::hub) history: Option<HistorySettings>,
    /// Comes back with the answer: one to an older wish, that was withdrawn meanwhile, must not be
    /// taken for the answer to this one.
    pub(in crate::hub) ticket: u64,
}

/// A piece of the past, for one subscriber.
#[derive(Clone, Debug)]
pub(in crate::hub) struct ReplayCall {
    pub(in crate::hub) topics: Arc<[Topic]>,
    pub(in crate::hub) resume: Resume,
    pub(in crate::hub) max_bytes: usize,
    /// Comes back with the answer: one that is no longer awaited is passed over.
    pub(in crate::hub) ticket: u64,
}

/// A subscriber, and the shard that it is on.
pub(in crate::hub) type Caller = (usize, StreamKey);

/// What each shard wants of channels.
pub(in crate::hub) type Joins = Wishes<(usize, Topic), Wanted>;
/// What each subscriber of a shard asks for; `None`: nothing any more.
pub(in crate::hub) type Replays = Wishes<Caller, Option<ReplayCall>>;

/// The calls of all shards. One of each kind for each thing, the newest: bounded by the channels
/// and the subscribers.
#[derive(Debug)]
pub(in crate::hub) struct Calls {
    joins: Interest<(usize, Topic), Wanted>,
    replays: Interest<Caller, Option<ReplayCall>>,
}

impl Calls {
    pub(in crate::hub) fn new() -> Self {
        Self { joins: Interest::new(), replays: Interest::new() }
    }

    pub(in crate::hub) fn join(&self, shard: usize, topic: Topic, joining: Joining) {
        self.joins.wish((shard, topic), Wanted::Joined(joining));
    }

    pub(in crate::hub) fn leave(&self, shard: usize, topic: Topic) {
        self.joins.wish((shard, topic), Wanted::Left);
    }

    pub(in crate::hub) fn replay(&self, shard: usize, member: StreamKey, call: ReplayCall) {
        self.replays.wish((shard, member), Some(call));
    }

    /// The subscriber is gone: what it asked for is not needed.
    pub(in crate::hub) fn withdraw_replay(&self, shard: usize, member: StreamKey) {
        self.replays.wish((shard, member), None);
    }

    /// Waits until there is a call. Cancel safe.
    pub(in crate::hub) async fn wait(&self) {
        tokio::select! {
            () = self.joins.wait() => {}
            () = self.replays.wait() => {}
        }
    }

    /// Takes all of them. The replays are taken first, so that whoever asked for one has its joins
    /// among those that are taken with it or before it.
    pub(in crate::hub) fn take(&self) -> (Joins, Replays) {
        let replays = self.replays.take();
        (self.joins.take(), replays)
    }
}
