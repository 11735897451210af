//! The shards of this thread: one of the hub of each server.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ssegate_hub::{
    Ids, LastSeen, Shard, SlowStream, StreamOpening, StreamRequest, StreamSettings, Topic,
};

use super::joined::stream::JoinedStream;
use super::joined::{JoinedId, MAX_FLEET_PARTS, PartKey, UNKNOWN};
use super::stream_feed::StreamFeed;
use crate::route::{ServerChoice, ServerList};

/// Longer than any stream: only one of its parts sends keep-alives.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The shard of the hub of each server, on this thread. A cheap handle.
#[derive(Clone, Debug)]
pub struct StreamShards {
    // In the order of the servers: one or more.
    shards: Rc<[Shard]>,
    servers: ServerList,
    // For each server, whether its sharded channels are in the orders of several nodes.
    has_node_orders: Rc<[bool]>,
}

/// The topics of a stream at one server, and the ids that the client has of them from other servers.
type PartTopics = (Vec<Topic>, Vec<Option<String>>);

impl StreamShards {
    /// `shards` are in the order of `servers`.
    pub fn new(shards: &[Shard], servers: ServerList) -> Self {
        Self { shards: shards.into(), servers, has_node_orders: Rc::default() }
    }

    /// Sets for each server whether gateways can resume each other's ids of sharded channels there.
    #[must_use]
    pub fn with_node_orders(self, has_node_orders: &[bool]) -> Self {
        Self { has_node_orders: has_node_orders.into(), ..self }
    }

    /// The shard of the first server.
    pub(super) fn first(&self) -> &Shard {
        &self.shards[0]
    }

    /// Opens a stream at the servers of its topics, of which there is at least one.
    pub(super) fn subscribe(&self, choice: &ServerChoice, request: StreamRequest) -> StreamFeed {
        if *choice != ServerChoice::ByName {
            return self.subscribe_at(self.server_of(choice, ""), request);
        }
        let mut parts = self.divide(&request);
        match parts.pop_first() {
            Some((server, (topics, channel_ids))) if parts.is_empty() => {
                let mut request = StreamRequest { topics, ..request };
                request.last_seen =
                    self.seen_at(server, &request.topics, &request.last_seen, channel_ids);
                self.shards[server].subscribe(request).into()
            }
            first => self.join(first.into_iter().chain(parts), request),
        }
    }

    /// Opens a stream at one server. Each sharded channel is a part with a position of its own, since it may move to
    /// another node at any time.
    fn subscribe_at(&self, server: usize, mut request: StreamRequest) -> StreamFeed {
        let is_known = |topic: &Topic| {
            topic.ids == Ids::Ours && topic.subscription.name.as_sharded().is_some()
        };
        let has_orders = self.has_node_orders.get(server) == Some(&true);
        if !has_orders || request.history.is_none() || !request.topics.iter().all(is_known) {
            return self.shards[server].subscribe(request).into();
        }
        match request.topics.len() {
            1 => {
                let channel_ids = request.last_seen.channel_ids.clone();
                request.last_seen =
                    self.seen_at(server, &request.topics, &request.last_seen, channel_ids);
            }
            2..=MAX_FLEET_PARTS => {
                let part = |(index, topic): (usize, &Topic)| {
                    let id = request.last_seen.channel_ids.get(index).cloned();
                    (server, (vec![topic.clone()], id.into_iter().collect()))
                };
                let parts: Vec<_> = request.topics.iter().enumerate().map(part).collect();
                return self.join(parts.into_iter(), request);
            }
            // An id with so many parts would be too long, and other gateways would not know it.
            _ => {}
        }
        self.shards[server].subscribe(request).into()
    }

    /// The number of these channels that have no subscriber on this thread.
    pub(super) fn unfollowed(&self, choice: &ServerChoice, topics: &[Topic]) -> usize {
        let of = |topic: &Topic| {
            let server = self.server_of(choice, topic.subscription.name.in_redis());
            self.shards[server].unfollowed(std::slice::from_ref(topic))
        };
        topics.iter().map(of).sum()
    }

    /// The slowest readers of each shard, at most `max` for each server.
    pub(super) async fn slowest(&self, max: usize, behind: Duration) -> Vec<SlowStream> {
        let mut slowest = Vec::new();
        for shard in &*self.shards {
            slowest.extend(shard.slowest(max, behind).await);
        }
        slowest
    }

    /// The number of streams with this topic, over all servers.
    pub(super) fn readers(&self, topic: &Topic) -> usize {
        self.shards.iter().map(|shard| shard.readers(topic)).sum()
    }

    fn server_of(&self, choice: &ServerChoice, channel: &str) -> usize {
        let server = self.servers.server_of(choice, channel);
        server.expect("a reload with routes of other servers is refused")
    }

    /// Divides the topics among the servers. A pattern is at all of them.
    fn divide(&self, request: &StreamRequest) -> BTreeMap<usize, PartTopics> {
        let mut parts: BTreeMap<usize, PartTopics> = BTreeMap::new();
        for (index, topic) in request.topics.iter().enumerate() {
            let servers = match topic.subscription.is_pattern {
                true => 0..self.servers.count(),
                false => {
                    let name = topic.subscription.name.in_redis();
                    let server = self.server_of(&ServerChoice::ByName, name);
                    server..server + 1
                }
            };
            for server in servers {
                let (topics, ids) = parts.entry(server).or_default();
                topics.push(topic.clone());
                if let Some(id) = request.last_seen.channel_ids.get(index) {
                    ids.push(id.clone());
                }
            }
        }
        parts
    }

    /// The ids that a client has for the topics at a server.
    fn seen_at(
        &self,
        server: usize,
        topics: &[Topic],
        seen: &LastSeen,
        channel_ids: Vec<Option<String>>,
    ) -> LastSeen {
        let id = seen.id.as_deref().map(|id| {
            if !JoinedId::is_one(id) {
                return id.to_vec();
            }
            let joined = JoinedId::read(id, self.servers.count());
            let part = joined.map(|joined| joined.part(PartKey::new(server, topics)).to_vec());
            part.unwrap_or_else(|| UNKNOWN.to_vec())
        });
        LastSeen { id, channel_ids }
    }

    fn join(
        &self,
        parts: impl Iterator<Item = (usize, PartTopics)>,
        request: StreamRequest,
    ) -> StreamFeed {
        let StreamRequest { topics, settings, prefix_bytes, history, last_seen, .. } = request;
        let StreamRequest { opening, expires_at, cut, tag, .. } = request;
        let is_log = topics.first().is_some_and(|topic| topic.ids.is_log());
        let has_positions = is_log || history.is_some();
        let cut: Rc<dyn Fn()> = cut.into();
        let further = StreamSettings { keep_alive: NEVER, max_age: None, ..(*settings).clone() };
        let further = Arc::new(further);
        let part = |(index, (server, (topics, channel_ids))): (usize, (usize, PartTopics))| {
            let key = PartKey::new(server, &topics);
            let mut seen = self.seen_at(server, &topics, &last_seen, channel_ids);
            let is_joined = last_seen.id.as_deref().is_some_and(JoinedId::is_one);
            // The id of an entry is not a position in the logs at another server.
            if let Some(id) = seen.id.as_mut().filter(|_| is_log && !is_joined) {
                *id = UNKNOWN.to_vec();
            }
            let known = seen.id.as_deref().filter(|id| is_joined && *id != UNKNOWN);
            let known = known.and_then(|id| String::from_utf8(id.to_vec()).ok());
            let cut = Rc::clone(&cut);
            let request = StreamRequest {
                topics,
                settings: if index == 0 { Arc::clone(&settings) } else { Arc::clone(&further) },
                prefix_bytes,
                history,
                last_seen: seen,
                opening: StreamOpening {
                    is_continued: opening.is_continued || index > 0,
                    // The joined stream needs the position of each part.
                    ready_has_position: has_positions,
                },
                expires_at,
                cut: Box::new(move || cut()),
                tag,
            };
            (key, known, self.shards[server].subscribe(request))
        };
        let parts = parts.enumerate().map(part).collect();
        let what = (has_positions, opening.ready_has_position);
        StreamFeed::Joined(Box::new(JoinedStream::new(self.servers.count(), parts, what)))
    }
}
