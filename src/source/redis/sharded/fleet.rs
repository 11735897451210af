//! The fleet at the nodes of a Cluster, each of which has an order of its own. One server is as a Cluster of one node.
//!
//! Gateways publish to each other on plain channels that are named after the node. A node sends everything on one
//! connection in one order, and plain channels stay where they are when slots move. So the gateway connects to each
//! node that owns slots, even without clients there: it answers questions, and receives what others follow there.

use std::sync::Arc;
use std::time::Duration;

use ssegate_hub::{Hub, OrderId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::cluster::Cluster;
use super::super::fleet::{FleetMember, FleetOrder, FleetPublisher};
use super::super::retry::backoff;
use super::super::server::RedisServer;
use super::channels::ShardPlace;
use super::node::ShardNode;
use super::node_fleet::NodeFleet;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::route::{Router, ServerPlace};
use crate::source::fleet::FleetSettings;

/// How long a starting gateway waits for nodes that cannot be reached, or for the slot map. Then it serves the clients
/// of the other nodes.
const MAX_START_WAIT: Duration = Duration::from_secs(5);

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
    // When the nodes became known, or should have.
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
        // A reload that adds the first such route must not make the gateway unready.
        fleet.is_warm = !fleet.is_wanted;
        fleet
    }

    /// A connection to a node is about to be opened, with which an order begins.
    pub(super) fn join(&mut self, order: OrderId, node: &ShardPlace) -> NodeFleet {
        let shown = self.server.shown(node.as_ref());
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
        // The publisher there has ended, too. That the node is down is reported by the watch of all nodes.
        let shown = self.server.shown(node.as_ref());
        self.health.set_fleet_published(Some(&shown), Ok(()));
        self.failed.push(FailedNode { node: node.clone(), tries, again });
    }

    /// The owners of slots may have changed. Nodes that own no slots now are not reported any more.
    pub(super) fn look_at(&mut self, cluster: &Cluster) {
        let owners: Vec<ShardPlace> = cluster.owners().into_iter().map(Some).collect();
        for gone in self.owners.iter().filter(|node| !owners.contains(node)) {
            let shown = self.server.shown(gone.as_ref());
            self.health.set_fleet_followed(Some(&shown), Ok(()));
            self.health.set_fleet_published(Some(&shown), Ok(()));
        }
        self.failed.retain(|failed| owners.contains(&failed.node));
        self.owners = owners;
    }

    /// The routes of the gateway, to wait for a change.
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

    /// The nodes to which the gateway has no connection and needs one.
    pub(super) fn missing(&mut self, nodes: &[ShardNode], now: Instant) -> Vec<ShardPlace> {
        // Reaps the tasks that have ended.
        while self.publishers.try_join_next().is_some() {}
        if self.routes.0.has_changed().unwrap_or_default() {
            self.look_at_routes();
        }
        // After a connection that worked, the backoff begins at its shortest wait.
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

    /// Reports whether the gateway follows what its fleet follows, once at the start.
    pub(super) fn report_warmth(&mut self, nodes: &[ShardNode], now: Instant) {
        if self.is_warm {
            return;
        }
        let are_all =
            !self.owners.is_empty() && self.owners.iter().all(|node| is_decided(nodes, node));
        // With a single server there are no clients of other nodes who could be served meanwhile.
        let is_one = self.server.cluster().is_none();
        if (self.owners.is_empty() || is_one) && !self.health.is_source_ready() {
            return;
        }
        let is_late = *self.since.get_or_insert(now) + MAX_START_WAIT <= now;
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
}

/// Whether it is settled if this node's fleet messages can be followed.
fn is_decided(nodes: &[ShardNode], node: &ShardPlace) -> bool {
    let known = nodes.iter().find(|known| known.place == *node);
    known.and_then(|known| known.fleet.as_ref()).is_some_and(|fleet| fleet.member.is_decided())
}
