//! The connections to the nodes whose sharded channels are listened to, and which channel is at which.
//!
//! Subscribes where the slots are, and again elsewhere where a node refuses. What is heard, and what it means for clients
//! that a channel is lost, is for those who listen.

use std::task::{Context, Poll};
use std::time::Duration;

use ssegate_hub::{ChannelName, OrderId};
use tokio::time::Instant;

use super::super::cluster::{Cluster, Redirect};
use super::super::error::SourceError;
use super::super::retry::{RETRY_INTERVAL, backoff};
use super::super::server::RedisServer;
use super::channels::{ShardPlace, ShardedChannels};
use super::node::{ShardCommand, ShardNode};
use super::node_fleet::NodeFleet;

/// So long nothing is subscribed to until a node of the Cluster has said which node owns which slot. A replica takes
/// subscriptions, too, and each of them would end, and be a gap, once its owner is known.
const VIEW_WAIT: Duration = Duration::from_secs(1);
/// When a slot is asked for again that nobody owns for the moment.
const NO_OWNER_DELAY: Duration = Duration::from_millis(100);
/// Channels that were refused, and are asked for again within [`RETRY_INTERVAL`]; more take longer.
const RETRIED_AT_ONCE: u32 = 64;
/// Times that a channel is asked for elsewhere at once: two nodes may each name the other for a moment.
const MAX_REDIRECTS: u32 = 5;

/// What a connection to a node begins with: the order in the hub, and its fleet.
pub(super) type NodeStart = (OrderId, Option<NodeFleet>);

/// The connections, and what is subscribed where.
#[derive(Debug)]
pub(super) struct ShardLinks {
    server: RedisServer,
    // `None`: one server has all slots.
    cluster: Option<Cluster>,
    max_event_bytes: usize,
    pub(super) channels: ShardedChannels,
    pub(super) nodes: Vec<ShardNode>,
    // Of the map by which channels were last compared with their places.
    map_version: u64,
    // Since when something is to be subscribed to.
    since: Option<Instant>,
}

impl ShardLinks {
    /// Without connections.
    pub(super) fn new(server: RedisServer, max_event_bytes: usize) -> Self {
        Self {
            cluster: server.cluster().cloned(),
            server,
            max_event_bytes,
            channels: ShardedChannels::default(),
            nodes: Vec::new(),
            map_version: 0,
            since: None,
        }
    }

    /// Whether anything is to be listened to, or is.
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.nodes.is_empty()
    }

    /// The Cluster; `None`: it is one server.
    pub(super) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// Begins to connect to a node.
    pub(super) fn connect(&mut self, place: ShardPlace, (order, fleet): NodeStart) {
        let at = (place, order);
        self.nodes.push(ShardNode::open(&self.server, at, fleet, self.max_event_bytes));
    }

    /// Sends a command to a node; where there is no connection yet, on one that begins with what `start` returns.
    pub(super) fn send(
        &mut self,
        place: &ShardPlace,
        command: ShardCommand,
        start: impl FnOnce(&ShardPlace) -> NodeStart,
    ) {
        let at = self.nodes.iter().position(|node| node.place == *place).unwrap_or_else(|| {
            self.connect(place.clone(), start(place));
            self.nodes.len() - 1
        });
        self.nodes[at].send(command);
    }

    /// Sends `SSUBSCRIBE` for what is to be subscribed to, one for each slot.
    pub(super) fn subscribe_due(
        &mut self,
        now: Instant,
        mut start: impl FnMut(&ShardPlace) -> NodeStart,
    ) {
        if self.awaits_view(now) {
            return;
        }
        for (slot, names) in self.channels.take_due(now) {
            let place = self.owner(slot, &names);
            self.channels.ask(&names, &place);
            self.send(&place, ShardCommand::Subscribe(names), &mut start);
        }
    }

    fn awaits_view(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        self.cluster.as_ref().is_some_and(|cluster| !cluster.has_view()) && now < since + VIEW_WAIT
    }

    /// Where a slot is; where nothing is known of it, one node after the other.
    fn owner(&self, slot: u16, names: &[ChannelName]) -> ShardPlace {
        let tries = names.first().map_or(0, |name| self.channels.tries(name));
        self.cluster.as_ref()?.owner_or_any(slot, tries)
    }

    /// Polls the nodes from `at` on. Sets `at` to the first one that has read something or has failed, and returns which;
    /// `None`: all others are pending.
    pub(super) fn poll_from(
        &mut self,
        at: &mut usize,
        cx: &mut Context<'_>,
    ) -> Option<Result<(), SourceError>> {
        while let Some(node) = self.nodes.get_mut(*at) {
            if let Poll::Ready(polled) = node.poll(cx) {
                return Some(polled);
            }
            *at += 1;
        }
        None
    }

    /// Sends a `PING` to nodes from `at` on that are silent. Sets `at` to the first one that is silent for too long, and
    /// returns why; `None`: no other is.
    pub(super) fn next_silent(&mut self, at: &mut usize, now: Instant) -> Option<SourceError> {
        while let Some(node) = self.nodes.get_mut(*at) {
            if let Err(error) = node.check_liveness(now) {
                return Some(error);
            }
            *at += 1;
        }
        None
    }

    /// A node has refused to subscribe to these channels: they are asked for again, here or elsewhere. Returns the one
    /// that is denied.
    pub(super) fn refused(
        &mut self,
        place: &ShardPlace,
        mut names: Vec<ChannelName>,
        message: &[u8],
        now: Instant,
    ) -> Option<ChannelName> {
        let redirect = place.as_ref().and_then(|address| Redirect::of(message, address));
        match (redirect, &self.cluster) {
            (Some(Redirect::Moved(slot, owner)), Some(cluster)) => {
                cluster.moved(slot, &owner);
                for name in &names {
                    let is_often = self.channels.tries(name) >= MAX_REDIRECTS;
                    let wait = if is_often { NO_OWNER_DELAY } else { Duration::ZERO };
                    self.channels.retry(name, place, now + wait);
                }
                None
            }
            (Some(_), _) => {
                self.outdate();
                names
                    .iter()
                    .for_each(|name| self.channels.retry(name, place, now + NO_OWNER_DELAY));
                None
            }
            // One name that is denied fails the whole command.
            (None, _) if names.len() > 1 => {
                names.iter().for_each(|name| self.channels.retry_alone(name, place, now));
                None
            }
            (None, _) => {
                let denied = names.pop()?;
                let wait = RETRY_INTERVAL * (1 + self.channels.refused() / RETRIED_AT_ONCE);
                self.channels.retry_alone(&denied, place, now + wait);
                Some(denied)
            }
        }
    }

    /// The connection to a node is lost, or could not be opened. Returns it, and the channels that were subscribed to there.
    pub(super) fn lose(&mut self, at: usize) -> (ShardNode, Vec<ChannelName>) {
        let node = self.nodes.swap_remove(at);
        let lost = self.channels.lose_place(&node.place, |tries| Instant::now() + backoff(tries));
        self.outdate();
        (node, lost)
    }

    /// Compares the channels with what is known of the slots. Returns whether that has changed.
    pub(super) fn compare(&mut self, now: Instant) -> bool {
        let Some(cluster) = &self.cluster else { return false };
        let version = cluster.version();
        let has_changed = std::mem::replace(&mut self.map_version, version) != version;
        if has_changed {
            self.channels.compare(|slot| cluster.owner(slot), now);
        }
        has_changed
    }

    /// Takes the connections that nothing is asked of, and that `is_kept` does not keep.
    pub(super) fn take_unneeded(
        &mut self,
        is_kept: impl Fn(&ShardPlace) -> bool,
    ) -> Vec<ShardNode> {
        let channels = &self.channels;
        let is_unneeded = |node: &mut ShardNode| {
            node.is_idle() && !is_kept(&node.place) && !channels.has_any_at(&node.place)
        };
        self.nodes.extract_if(.., is_unneeded).collect()
    }

    /// What is known of the slots may be old: the nodes are asked.
    pub(super) fn outdate(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.outdate();
        }
    }
}

#[cfg(test)]
mod tests {
    use redis::{ConnectionAddr, RedisConnectionInfo};
    use ssegate_hub::{ChannelName, OrderId};
    use tokio::time::Instant;

    use super::{ShardLinks, VIEW_WAIT};
    use crate::source::redis::cluster::{ClusterView, slot_of};
    use crate::source::redis::location::{ClusterAddress, RedisLocation};
    use crate::source::redis::server::RedisServer;

    fn node(port: u16) -> ConnectionAddr {
        ConnectionAddr::Tcp("127.0.0.1".to_owned(), port)
    }

    /// Of a Cluster of which the node 1 is known, which follow a channel.
    fn links() -> (ShardLinks, Instant) {
        let address = ClusterAddress::new(vec![node(1)]).expect("a node");
        let location = RedisLocation::cluster(address, RedisConnectionInfo::default());
        let mut links = ShardLinks::new(RedisServer::new(location), 1 << 20);
        links.channels.follow(ChannelName::sharded("a").expect("a name"));
        (links, Instant::now())
    }

    fn places(links: &mut ShardLinks, now: Instant) -> Vec<Option<ConnectionAddr>> {
        links.subscribe_due(now, |_| (OrderId::PLAIN, None));
        links.nodes.iter().map(|node| node.place.clone()).collect()
    }

    #[test]
    fn nothing_is_subscribed_to_until_the_owner_can_be_known() {
        let (mut links, now) = links();
        assert!(places(&mut links, now).is_empty());
        let cluster = links.cluster().expect("it is one").clone();
        cluster.moved(slot_of(b"a"), &node(2));
        cluster.learn(ClusterView { is_ok: true, slots: None });
        assert_eq!(places(&mut links, now), [Some(node(2))]);
    }

    #[test]
    fn where_no_node_says_what_it_knows_any_is_tried() {
        let (mut links, now) = links();
        assert!(places(&mut links, now).is_empty());
        assert_eq!(places(&mut links, now + VIEW_WAIT), [Some(node(1))]);
    }
}
