//! The connections to the nodes for sharded channels, and which channel is subscribed at which node.
//!
//! Subscribes at the owners of slots, and at another node after a refusal. What to do with messages, and with lost
//! channels, is left to the caller.

use std::task::{Context, Poll};
use std::time::Duration;

use ssegate_hub::{ChannelName, OrderId};
use ssegate_resp::Value;
use tokio::time::Instant;

use super::super::cluster::{Cluster, Redirect, slot_of};
use super::super::error::SourceError;
use super::super::lost_nodes::{NodeLoss, NodeOutages};
use super::super::retry::{RETRY_INTERVAL, backoff};
use super::super::server::RedisServer;
use super::channels::{ShardPlace, ShardedChannels};
use super::node::{ShardCommand, ShardNode};
use super::node_fleet::NodeFleet;
use super::role::NodeRole;

/// How long subscriptions wait for the first slot map. A replica accepts subscriptions, too: each would end with a gap
/// once the owner is known.
const VIEW_WAIT: Duration = Duration::from_secs(1);
/// The wait before the next attempt for a slot that has no owner at the moment.
const NO_OWNER_DELAY: Duration = Duration::from_millis(100);
/// The most refused channels that are retried within [`RETRY_INTERVAL`]; more take longer.
const RETRIED_AT_ONCE: u32 = 64;
/// Redirects that are followed without a wait: two nodes may name each other for a moment. After as many, a replica's
/// subscription counts: the slot may have no owner that can be reached.
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
    // When the first channel was due to be subscribed.
    since: Option<Instant>,
    // The number of slot maps received when channels were last compared with them.
    looks: u64,
    is_role_refusal_told: bool,
    outages: NodeOutages,
}

impl ShardLinks {
    /// Without connections. `is_back` is logged when one is open again that was lost.
    pub(super) fn new(server: RedisServer, max_event_bytes: usize, is_back: &'static str) -> Self {
        Self {
            cluster: server.cluster().cloned(),
            outages: NodeOutages::new(&server, Some(is_back)),
            server,
            max_event_bytes,
            channels: ShardedChannels::default(),
            nodes: Vec::new(),
            since: None,
            looks: 0,
            is_role_refusal_told: false,
        }
    }

    /// Whether there is neither a channel nor a connection.
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

    /// Sends `SSUBSCRIBE` for the channels that are due, one command for each slot.
    pub(super) fn subscribe_due(
        &mut self,
        now: Instant,
        mut start: impl FnMut(&ShardPlace) -> NodeStart,
    ) {
        if !self.channels.is_any_due(now) || self.awaits_view(now) {
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

    /// The owner of a slot; while it is unknown, one node after the other.
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
            let was_open = node.is_open();
            if let Poll::Ready(polled) = node.poll(cx) {
                if !was_open && node.is_open() {
                    self.outages.open(node.place.as_ref());
                }
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

    /// A node has refused `SSUBSCRIBE` for these channels: they are retried, here or elsewhere. Returns the name that
    /// is denied.
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

    /// Handles the reply to `ROLE`. Returns the names whose subscription counts: at a master all of them. At a replica
    /// they are unsubscribed, and requested elsewhere.
    ///
    /// # Errors
    /// Nobody has asked for it.
    pub(super) fn proven(
        &mut self,
        at: usize,
        reply: &Value,
        now: Instant,
    ) -> Result<Vec<ChannelName>, SourceError> {
        let names = self.nodes[at].take_unproven()?;
        let place = self.nodes[at].place.clone();
        // All names of one command are of one slot.
        let slot = names.first().and_then(ChannelName::as_sharded);
        let slot = slot.map(|name| slot_of(name.as_bytes()));
        let (Some(cluster), Some(address), Some(slot)) = (&self.cluster, &place, slot) else {
            return Ok(names);
        };
        let NodeRole::Replica(master) = NodeRole::of(reply, address) else { return Ok(names) };
        let master = master.filter(|master| cluster.candidates().contains(master));
        let wait = match &master {
            Some(master) => {
                cluster.moved(slot, master);
                Duration::ZERO
            }
            None => NO_OWNER_DELAY,
        };
        self.outdate();
        let is_last_resort = |name: &ChannelName| self.channels.tries(name) >= MAX_REDIRECTS;
        let (taken, others): (Vec<_>, Vec<_>) = names.into_iter().partition(is_last_resort);
        for name in others {
            self.channels.retry(&name, &place, now + wait);
            self.nodes[at].send(ShardCommand::Unsubscribe(name));
        }
        Ok(taken)
    }

    /// A node refuses `ROLE`: it is taken for a master. Logged once.
    pub(super) fn note_role_refused(&mut self, error: &[u8]) {
        if !std::mem::replace(&mut self.is_role_refusal_told, true) {
            let error = String::from_utf8_lossy(error);
            tracing::info!(
                %error,
                "Redis does not let the gateway ask whether a node is a master (ROLE); in a failover a message of a sharded \
                 channel may come twice, with a gap between the two"
            );
        }
    }

    /// A node has said that a channel is unsubscribed. Returns whether it was asked to.
    pub(super) fn take_unsubscribed(
        &mut self,
        at: usize,
        name: &ChannelName,
        now: Instant,
    ) -> bool {
        let node = &mut self.nodes[at];
        let is_asked = node.take_unsubscribed(name);
        if !is_asked && node.forget_unproven(name) {
            let place = node.place.clone();
            self.channels.retry(name, &place, now);
            self.outdate();
        }
        is_asked
    }

    /// The connection to a node is lost, or could not be opened. Returns it, the channels that were subscribed to there, and
    /// whether to log that.
    pub(super) fn lose(&mut self, at: usize) -> (ShardNode, Vec<ChannelName>, NodeLoss) {
        let node = self.nodes.swap_remove(at);
        let now = Instant::now();
        let lost = self.channels.lose_place(&node.place, |tries| now + backoff(tries));
        let loss = self.outages.lose(node.place.as_ref(), lost.is_empty() && node.is_idle());
        self.outdate();
        (node, lost, loss)
    }

    /// Compares the channels with the slot map, if a node has sent one since the last time. Returns whether any has.
    ///
    /// Also if the map is unchanged: meanwhile a channel may have been subscribed at a node that does not know that the
    /// slot has moved.
    pub(super) fn compare(&mut self, now: Instant) -> bool {
        let Some(cluster) = &self.cluster else { return false };
        let looks = cluster.looks();
        let is_new = std::mem::replace(&mut self.looks, looks) != looks;
        if is_new {
            self.channels.compare(|slot| cluster.owner(slot), now);
        }
        is_new
    }

    /// Takes the connections without channels and pending commands, unless `is_kept` keeps them.
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

    /// Requests a new slot map: this one may be old.
    pub(super) fn outdate(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.outdate();
        }
    }
}

#[cfg(test)]
mod tests;
