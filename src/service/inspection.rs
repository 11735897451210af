//! What the status page asks the threads that have the streams and the channels.
//!
//! Questions cross over to the threads through bounded queues, and are answered there in slices. Nothing is
//! shared, and nothing is kept for the page while it has no viewer.

use std::cmp::Reverse;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use ssegate_hub::{
    BusyChannel, LastSeen, SlowStream, StreamOpening, StreamRequest, StreamSettings, Topic,
    WhenFull,
};
use ssegate_sse::frame::Form;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Service;
use super::stream_feed::StreamFeed;
use crate::route::{self, ChannelError, Channels, Route, Router};
use crate::server::connection::ConnectionState;

/// Questions that may wait for a thread: the page asks one at a time, and followers are few.
const MAX_QUESTIONS: usize = 16;
/// The queue of a stream that the page follows. Events that do not fit are dropped, and the page gets a gap.
const MAX_QUEUE_BYTES: usize = 256 << 10;
/// From this delay on a reader is slow: an event waits in every queue for a moment.
const SLOW: Duration = Duration::from_millis(250);

/// A question to the thread of the hub.
#[derive(Debug)]
pub struct HubQuestion {
    /// The most channels that are named.
    pub max: usize,
    /// Receives the answer.
    pub reply: oneshot::Sender<HubView>,
}

/// The view of the thread of the hub.
#[derive(Clone, Debug, Default)]
pub struct HubView {
    /// The busiest channels since the question before, the busiest first.
    pub busiest: Vec<BusyChannel>,
    /// The bound of the queues of all streams, in bytes.
    pub max_queue_bytes: usize,
    /// The bound of the histories of all channels, in bytes.
    pub max_history_bytes: usize,
    /// The most channels that are followed.
    pub max_channels: usize,
}

/// A question to the thread of a shard.
#[derive(Debug)]
pub enum ShardQuestion {
    /// The slow readers, and the number of readers of each of these channels.
    Readers {
        /// The channels.
        topics: Arc<[Topic]>,
        /// The most readers that are listed.
        max: usize,
        /// Receives the answer.
        reply: oneshot::Sender<ShardView>,
    },
    /// Follows a channel for the page, as a client of its route would.
    Follow {
        /// Its name, as clients of the route know it.
        channel: String,
        /// The id of the last event that the page has.
        last_event_id: Option<Vec<u8>>,
        /// Receives the text of the stream. Dropped at its end.
        frames: mpsc::Sender<Bytes>,
        /// Whether the channel is followed.
        reply: oneshot::Sender<Result<(), FollowError>>,
    },
}

/// The view of the thread of a shard.
#[derive(Clone, Debug, Default)]
pub struct ShardView {
    /// The slowest readers, the slowest first.
    pub slowest: Vec<SlowReader>,
    /// The view of each channel that was asked for.
    pub topics: Vec<TopicView>,
}

/// The view of a channel on one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicView {
    /// The number of the shard's streams with the channel.
    pub readers: usize,
    /// Its name as clients know it; `None` if no route has it.
    pub known_as: Option<String>,
}

/// A client that reads slowly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowReader {
    /// The path of its route; `None` after a reload that removed it.
    pub route: Option<String>,
    /// A hash of its address, with a key that never leaves the process.
    pub client: u32,
    /// Bytes of events that wait for it.
    pub queued_bytes: usize,
    /// The name of its first channel at the source.
    pub channel: Option<String>,
    /// The number of its channels.
    pub channels: usize,
    /// The delay of the first event that waits, since it was received.
    pub behind: Duration,
}

/// Why a channel is not followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// No route has it.
    #[error("no route of gateway.yaml has a channel of this name")]
    NoRoute,
    /// The name is not valid, or not for clients.
    #[error("{0}")]
    Channel(#[from] ChannelError),
}

/// The threads that the status page asks. A cheap handle.
#[derive(Clone, Debug)]
pub struct StatusInspection {
    /// The thread of the hub.
    pub hub: mpsc::Sender<HubQuestion>,
    /// The threads of the shards.
    pub shards: Arc<[mpsc::Sender<ShardQuestion>]>,
}

/// The receivers of the questions: for the hub, and for each shard.
pub type Questions = (mpsc::Receiver<HubQuestion>, Vec<mpsc::Receiver<ShardQuestion>>);

impl StatusInspection {
    /// Creates the handle, and the receivers of the questions for the hub and for each of `shards` shards.
    pub fn new(shards: usize) -> (Self, Questions) {
        let (hub, hub_questions) = mpsc::channel(MAX_QUESTIONS);
        let (shards, shard_questions): (Vec<_>, _) =
            (0..shards).map(|_| mpsc::channel(MAX_QUESTIONS)).unzip();
        (Self { hub, shards: shards.into() }, (hub_questions, shard_questions))
    }
}

impl Service {
    /// Answers the questions of the status page to this shard. Never returns.
    pub async fn answer(&self, mut questions: mpsc::Receiver<ShardQuestion>) {
        // They end with the page, or with the shard.
        let mut followers = JoinSet::new();
        loop {
            let question = tokio::select! {
                question = questions.recv() => question,
                Some(_ended) = followers.join_next() => continue,
            };
            match question {
                // An error means that the status page no longer waits.
                Some(ShardQuestion::Readers { topics, max, reply }) => {
                    drop(reply.send(self.view(&topics, max).await));
                }
                Some(ShardQuestion::Follow { channel, last_event_id, frames, reply }) => {
                    let followed = self.follow(&channel, last_event_id).map(|(feed, cut)| {
                        drop(followers.spawn_local(pass_on(feed, frames, cut)));
                    });
                    drop(reply.send(followed));
                }
                // The gateway is shutting down.
                None => std::future::pending().await,
            }
        }
    }

    /// Returns a tag that identifies a stream by its route and its client.
    pub(super) fn tag<B>(
        &self,
        route: &Route,
        request: &Request<B>,
        connection: &ConnectionState,
    ) -> u64 {
        let client = self.0.requests.borrow().client_of(request, connection);
        u64::from(short_hash(&route.label)) << 32 | u64::from(client_hash(client))
    }

    async fn view(&self, topics: &[Topic], max: usize) -> ShardView {
        let mut slowest = self.shards().slowest(max, SLOW).await;
        slowest.extend(self.sharing().slowest(max, SLOW).await);
        slowest.sort_by_key(|slow| Reverse(slow.behind));
        slowest.truncate(max);
        let routes = self.routes();
        let reader = |slow: SlowStream| SlowReader::new(slow, routes.router());
        let view = |topic: &Topic| TopicView {
            readers: self.shards().readers(topic),
            known_as: known_as(routes.router(), topic.subscription.name.in_redis()),
        };
        ShardView {
            slowest: slowest.into_iter().map(reader).collect(),
            topics: topics.iter().map(view).collect(),
        }
    }

    /// Subscribes to a channel as its route does.
    fn follow(
        &self,
        name: &str,
        last_event_id: Option<Vec<u8>>,
    ) -> Result<(StreamFeed, CancellationToken), FollowError> {
        let routes = self.routes();
        let channels = channels_of(routes.router(), name).ok_or(FollowError::NoRoute)?;
        let topics = channels.topics_of([name].into_iter())?;
        let settings = StreamSettings {
            max_queue_bytes: MAX_QUEUE_BYTES,
            when_full: WhenFull::DropOldest,
            gap_events: true,
            max_age: None,
            ..StreamSettings::clone(channels.stream())
        };
        let cut = CancellationToken::new();
        let request = StreamRequest {
            topics,
            settings: Arc::new(settings),
            prefix_bytes: channels.prefix_bytes(),
            history: channels.history(),
            last_seen: LastSeen::up_to(last_event_id),
            opening: StreamOpening::default(),
            expires_at: None,
            cut: {
                let cut = cut.clone();
                Box::new(move || cut.cancel())
            },
            tag: 0,
        };
        Ok((self.shards().subscribe(channels.server(), request), cut))
    }
}

impl SlowReader {
    fn new(slow: SlowStream, router: &Router) -> Self {
        let SlowStream { tag, queued_bytes, channel, channels, behind } = slow;
        let channel = channel.map(|topic| topic.subscription.name.in_redis().to_owned());
        let [route, client] = [tag >> 32, tag & u64::from(u32::MAX)]
            .map(|half| u32::try_from(half).expect("a half of 64 bits has 32"));
        let mut labels = router.routes().iter().map(|route| &*route.label);
        let route = labels.find(|label| short_hash(label) == route).map(str::to_owned);
        Self { route, client, queued_bytes, channel, channels, behind }
    }
}

/// The channels of the route that says how a channel is read.
fn channels_of<'r>(router: &'r Router, name: &str) -> Option<&'r Channels> {
    let follower = router.follower(None, name)?;
    let is_it = |route: &&Arc<Route>| std::ptr::eq(&*route.settings, follower.route);
    let route = router.routes().iter().find(is_it)?;
    let handed_over = || route.handover.as_ref().map(|handover| &handover.channels);
    route.channels.as_ref().or_else(handed_over)
}

/// The name of a channel as clients of its route know it.
fn known_as(router: &Router, name: &str) -> Option<String> {
    let mut followers = router.routes().iter().flat_map(|route| route::streams(&route.settings));
    followers.find_map(|follower| {
        let name = name.strip_prefix(&follower.events.strip_prefix)?;
        follower.events.literal_bytes_of(name).map(|_| name.to_owned())
    })
}

/// Sends the text of a stream to the page, until one of them ends. Waits for the page without delaying the
/// channel: what the page has not read stays in the queue of the stream, within its bound.
async fn pass_on(mut feed: StreamFeed, frames: mpsc::Sender<Bytes>, cut: CancellationToken) {
    let passing = async {
        while let Ok(place) = frames.reserve().await {
            let next = std::future::poll_fn(|context| feed.poll_next(Form::Text, context));
            match next.await {
                Some(text) => place.send(text),
                None => return,
            }
        }
    };
    tokio::select! {
        () = passing => {}
        () = frames.closed() => {}
        () = cut.cancelled() => {}
    }
}

/// One key for all shards, so that a client has one hash.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

fn short_hash(text: &str) -> u32 {
    first_half(KEY.hash_one(text))
}

fn client_hash(client: IpAddr) -> u32 {
    first_half(KEY.hash_one(client))
}

fn first_half(hash: u64) -> u32 {
    u32::try_from(hash >> 32).expect("half of 64 bits are 32")
}
