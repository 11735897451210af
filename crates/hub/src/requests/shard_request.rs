//! What the shards request of the hub: to join and leave channels, and pages of their past.

use std::sync::Arc;
use std::time::Duration;

use super::coalescing_queue::CoalescingQueue;
use crate::Topic;
use crate::history::retention::HistorySettings;
use crate::position::resume::Resume;
use crate::timed_streams::StreamKey;

/// What a shard requests.
#[derive(Debug)]
pub(crate) enum ShardRequest {
    /// The first subscriber on a shard has asked for a channel.
    Join(JoinRequest),
    /// The last subscriber on a shard has left a channel.
    Leave { shard: usize, topic: Topic },
    /// A subscriber needs a page of the past.
    Replay(ReplayRequest),
    /// The subscriber has left: it needs no page any more.
    CancelReplay(StreamAddress),
}

/// A request for the events of a channel.
#[derive(Debug)]
pub(crate) struct JoinRequest {
    pub(crate) shard: usize,
    pub(crate) topic: Topic,
    pub(crate) linger: Duration,
    pub(crate) history: Option<HistorySettings>,
    /// Comes back with the response, so that a response to an older request, since withdrawn, is not taken
    /// for the response to this one.
    pub(crate) ticket: u64,
}

/// A request for the next page of the past, for one subscriber.
#[derive(Clone, Debug)]
pub(crate) struct ReplayRequest {
    pub(crate) stream: StreamAddress,
    pub(crate) topics: Arc<[Topic]>,
    pub(crate) resume: Resume,
    pub(crate) max_bytes: usize,
    /// Comes back with the response, which is ignored if the stream does not wait for it any more.
    pub(crate) ticket: u64,
}

/// A stream, and the shard that it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StreamAddress {
    pub(crate) shard: usize,
    pub(crate) key: StreamKey,
}

/// What a request is about: a newer request about the same replaces it.
#[derive(Debug, PartialEq, Eq, Hash)]
enum RequestKey {
    Channel(usize, Topic),
    Stream(StreamAddress),
}

impl ShardRequest {
    fn key(&self) -> RequestKey {
        match self {
            Self::Join(JoinRequest { shard, topic, .. }) | Self::Leave { shard, topic } => {
                RequestKey::Channel(*shard, topic.clone())
            }
            Self::Replay(ReplayRequest { stream, .. }) | Self::CancelReplay(stream) => {
                RequestKey::Stream(*stream)
            }
        }
    }

    /// Leaves come first: they may make the room that a join needs. Joins come before replays: a page
    /// is requested by a stream whose shard has joined its channels.
    fn order(&self) -> u8 {
        match self {
            Self::Leave { .. } => 0,
            Self::Join(_) => 1,
            Self::Replay(_) | Self::CancelReplay(_) => 2,
        }
    }
}

/// The requests of all shards that the hub has not served yet.
#[derive(Debug)]
pub(crate) struct ShardRequests(CoalescingQueue<RequestKey, ShardRequest>);

impl ShardRequests {
    pub(crate) fn new() -> Self {
        Self(CoalescingQueue::new())
    }

    pub(crate) fn put(&self, request: ShardRequest) {
        self.0.put(request.key(), request);
    }

    /// Waits until there is a request. Cancel safe.
    pub(crate) async fn wait(&self) {
        self.0.wait().await;
    }

    /// Takes all requests, in the order in which they are to be served.
    pub(crate) fn take(&self) -> Vec<ShardRequest> {
        let mut requests: Vec<_> = self.0.take().into_values().collect();
        requests.sort_by_key(ShardRequest::order);
        requests
    }
}
