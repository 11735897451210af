//! The fleet at the nodes of a Cluster, each of which has an order of its own. One server is as a Cluster of one node.
//!
//! What gateways publish for each other goes through channels that are named after the node and are no sharded ones: a node
//! sends all that comes on a connection in one order, and those stay where they are when slots move. So the gateway is
//! connected to each node that owns slots, whether a client has channels there or not: it answers, and is told what others
//! follow there.

use std::sync::Arc;
use std::time::Duration;

use ssegate_hub::{Hub, OrderId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::cluster::Cluster;
use super::super::fleet::{FleetMember, FleetOrder, FleetPublisher};
use super::super::location::ShownAddress;
use super::super::retry::backoff;
use super::super::server::RedisServer;
use super::channels::ShardPlace;
use super::node::ShardNode;
use super::node_fleet::NodeFleet;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::route::{Router, ServerPlace};
use crate::source::fleet::FleetSettings;

/// How long a gateway that starts waits for nodes that cannot be reached, or for what they own to be known. Then it serves the
/// clients of the others.
const PATIENCE: Duration = Duration::from_secs(5);

/// The gateway as one of a fleet, at all nodes.
#[derive(Debug)]
pub(super) struct ShardedFleet {
    server: RedisServer,
    hub: Hub,
    settings: FleetSettings,
    max_event_bytes: usize,
    routes: (watch::Receiver<Arc<Router>>, ServerPlace),
    health: Health,
    metrics: Metrics,
    publishers: JoinSet<()>,
    owners: Vec<ShardPlace>,
    failed: Vec<FailedNode>,
    // Since when the nodes are known, or ought to be.
    since: Option<Instant>,
    is_wanted: bool,
    is_warm: bool,
}

/// A node that could not be reached, how often, and when it is tried again.
#[derive(Debug)]
struct FailedNode {
    node: ShardPlace,
    tries: u32,
    again: Instant,
}

impl ShardedFleet {
    pub(super) fn new(
        server: RedisServer,
        (settings, max_event_bytes): (FleetSettings, usize),
        hub: Hub,
        routes: (watch::Receiver<Arc<Router>>, ServerPlace),
        (health, metrics): (Health, Metrics),
    ) -> Self {
        let mut fleet = Self {
            owners: if server.cluster().is_some() { Vec::new() } else { vec![None] },
            server,
            hub,
            settings,
            max_event_bytes,
            routes,
            health,
            metrics,
            publishers: JoinSet::new(),
            failed: Vec::new(),
            since: None,
            is_wanted: false,
            is_warm: false,
        };
        fleet.look_at_routes();
        // A reload that adds a first route does not take a gateway away from its clients.
        fleet.is_warm = !fleet.is_wanted;
        fleet
    }

    /// A connection to a node is about to be opened, with which an order begins.
    pub(super) fn join(&mut self, order: OrderId, node: &ShardPlace) -> NodeFleet {
        let shown = self.shown(node);
        let at = FleetOrder::Node { order, shown, asks: !self.is_warm };
        let shared = || (self.health.clone(), self.metrics.clone());
        let member = FleetMember::new(
            (self.hub.clone(), at),
            (self.settings.clone(), None),
            self.max_event_bytes,
            shared(),
        );
        let server = (self.server.clone(), node.clone());
        let publisher = FleetPublisher::new(server, &member, shared());
        let publisher = self.publishers.spawn_local(publisher.run());
        NodeFleet::new(member, publisher)
    }

    /// The connection to a node is lost, or could not be opened.
    pub(super) fn note_lost(&mut self, node: &ShardPlace, now: Instant) {
        let before = self.failed.iter().position(|failed| failed.node == *node);
        let tries = before.map_or(0, |before| self.failed.swap_remove(before).tries + 1);
        let again = now + backoff(tries);
        // What publishes there has ended with it: that the node is down is told by who looks at all of them.
        let shown = self.shown(node);
        self.health.set_fleet_published(Some(&shown), Ok(()));
        self.failed.push(FailedNode { node: node.clone(), tries, again });
    }

    /// What the slots are owned by may have changed. The nodes that own none now are told of no more.
    pub(super) fn look_at(&mut self, cluster: &Cluster) {
        let owners: Vec<ShardPlace> = cluster.owners().into_iter().map(Some).collect();
        for gone in self.owners.iter().filter(|node| !owners.contains(node)) {
            let shown = self.shown(gone);
            self.health.set_fleet_followed(Some(&shown), Ok(()));
            self.health.set_fleet_published(Some(&shown), Ok(()));
        }
        self.failed.retain(|failed| owners.contains(&failed.node));
        self.owners = owners;
    }

    /// The routes of the gateway, to wait until they are others.
    pub(super) fn routes(&self) -> watch::Receiver<Arc<Router>> {
        self.routes.0.clone()
    }

    /// Whether the gateway has routes with sharded channels.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// Whether the gateway stays connected to this node.
    pub(super) fn keeps(&self, place: &ShardPlace) -> bool {
        self.is_wanted && self.owners.contains(place)
    }

    /// The nodes that the gateway is to be connected to, and is not.
    pub(super) fn missing(&mut self, nodes: &[ShardNode], now: Instant) -> Vec<ShardPlace> {
        // Those that have ended.
        while self.publishers.try_join_next().is_some() {}
        if self.routes.0.has_changed().unwrap_or_default() {
            self.look_at_routes();
        }
        // A connection that works begins with the shortest wait when it is lost.
        self.failed.retain(|failed| !is_decided(nodes, &failed.node));
        if !self.is_wanted {
            return Vec::new();
        }
        let is_due = |node: &&ShardPlace| {
            let failed = self.failed.iter().find(|failed| failed.node == **node);
            failed.is_none_or(|failed| failed.again <= now)
                && !nodes.iter().any(|known| known.place == **node)
        };
        self.owners.iter().filter(is_due).cloned().collect()
    }

    /// Tells whether the gateway follows what its fleet follows, once at the start.
    pub(super) fn report_warmth(&mut self, nodes: &[ShardNode], now: Instant) {
        if self.is_warm {
            return;
        }
        let are_all =
            !self.owners.is_empty() && self.owners.iter().all(|node| is_decided(nodes, node));
        // One server that is away is not what clients of others wait for.
        let is_one = self.server.cluster().is_none();
        if (self.owners.is_empty() || is_one) && !self.health.is_source_ready() {
            return;
        }
        let is_late = *self.since.get_or_insert(now) + PATIENCE <= now;
        if is_late && !are_all {
            tracing::warn!(
                "not all nodes with sharded channels have told what other gateways follow; clients that come from another \
                 gateway may be told a gap"
            );
        }
        if (are_all && self.hub.are_nodes_warm()) || is_late {
            self.is_warm = true;
            self.health.set_fleet_warm_at_nodes(true);
        }
    }

    fn look_at_routes(&mut self) {
        let (routes, place) = &mut self.routes;
        self.is_wanted = routes.borrow_and_update().has_sharded(place);
        self.health.expect_fleet_at_nodes(self.is_wanted);
        if self.is_warm {
            self.health.set_fleet_warm_at_nodes(true);
        }
    }

    /// How a node is shown.
    fn shown(&self, node: &ShardPlace) -> String {
        match node {
            Some(node) => ShownAddress(node).to_string(),
            None => self.server.to_string(),
        }
    }
}

/// Whether it is known if what gateways publish at this node can be followed.
fn is_decided(nodes: &[ShardNode], node: &ShardPlace) -> bool {
    let known = nodes.iter().find(|known| known.place == *node);
    known.and_then(|known| known.fleet.as_ref()).is_some_and(|fleet| fleet.member.is_decided())
}
