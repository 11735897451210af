//! Checks whether the nodes that own slots can be used.

use std::pin::pin;
use std::time::Duration;

use redis::ConnectionAddr;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::cluster::Cluster;
use super::super::connection::{ConnectionKind, RedisConnection};
use super::super::error::SourceError;
use super::super::location::ShownAddress;
use super::super::sentinel::MAX_REPLY_BYTES;
use super::super::server::RedisServer;
use super::super::socket::CONNECT_TIMEOUT;
use crate::health::{Health, NodeState};
use crate::metrics::Metrics;

/// The least time between two looks at the same owners: each takes a connection to every one of them.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Owners that are looked at together.
const MAX_AT_ONCE: usize = 32;

/// Looks at the owners of the slots of a Cluster, and reports which of them can be used.
#[derive(Debug)]
pub(super) struct OwnerLooks {
    server: RedisServer,
    cluster: Cluster,
    health: Health,
    metrics: Metrics,
}

impl OwnerLooks {
    /// At those of `cluster`, which is that of `server`.
    pub(super) fn new(
        (server, cluster): (RedisServer, Cluster),
        (health, metrics): (Health, Metrics),
    ) -> Self {
        Self { server, cluster, health, metrics }
    }

    /// Runs for ever. Looks at the owners when the nodes were `asked` who they are: at new ones at once, at the same ones
    /// every five seconds at most, and as often while one of them cannot be used.
    pub(super) async fn run(self, asked: &Notify) {
        asked.notified().await;
        loop {
            let (owners, begin) = (self.cluster.owners(), Instant::now());
            let mut look = pin!(self.look(&owners));
            let (mut is_done, mut is_due) = (false, false);
            loop {
                tokio::select! {
                    failures = &mut look, if !is_done => {
                        is_done = true;
                        is_due |= self.report(&owners, &failures);
                    }
                    () = asked.notified() => {
                        // A look that has not ended is about nodes that own nothing any more.
                        if !are_same(&owners, &self.cluster.owners()) {
                            break;
                        }
                        is_due = true;
                    }
                    () = sleep_until(begin + LOOK_INTERVAL), if is_done && is_due => break,
                }
            }
        }
    }

    /// Returns why each of these nodes cannot be used; `None`: it can.
    async fn look(&self, owners: &[ConnectionAddr]) -> Vec<Option<SourceError>> {
        let mut failures: Vec<Option<SourceError>> = Vec::new();
        for some in owners.chunks(MAX_AT_ONCE) {
            let mut looks = JoinSet::new();
            for (at, node) in some.iter().enumerate() {
                let (server, node) = (self.server.clone(), node.clone());
                looks.spawn_local(async move { (at, use_node(&server, node).await.err()) });
            }
            let mut found = looks.join_all().await;
            found.sort_by_key(|(at, _)| *at);
            failures.extend(found.into_iter().map(|(_, failure)| failure));
        }
        failures
    }

    /// Returns whether any of them cannot be used.
    fn report(&self, owners: &[ConnectionAddr], failures: &[Option<SourceError>]) -> bool {
        let nodes: Vec<_> = owners.iter().zip(failures).collect();
        let state = |(node, failure): &(&ConnectionAddr, &Option<SourceError>)| NodeState {
            node: ShownAddress(node).to_string(),
            failure: failure
                .as_ref()
                .map(|error| (error.kind().as_str(), self.server.explain(error))),
        };
        let states: Vec<NodeState> = nodes.iter().map(state).collect();
        let down = nodes.iter().filter(|(_, failure)| failure.is_some());
        let down: Vec<_> = down.map(|(node, _)| (*node).clone()).collect();
        let is_any_down = !down.is_empty();
        let before = self.cluster.set_down(down);
        for (NodeState { node, failure }, (address, _)) in states.iter().zip(&nodes) {
            match (failure, before.contains(address)) {
                (Some((kind, error)), false) => {
                    const WHAT: &str = "a node of the Cluster that owns slots cannot be used";
                    tracing::warn!(node, kind, error, "{WHAT}");
                }
                (None, true) => {
                    tracing::info!(node, "a node of the Cluster that owns slots can be used again");
                }
                _ => {}
            }
        }
        let told = states.iter().map(|state| (state.node.as_str(), state.failure.is_none()));
        self.metrics.nodes(&told.collect::<Vec<_>>());
        self.health.set_nodes(&states);
        if is_any_down {
            // Another node may take its place.
            self.cluster.outdate();
        }
        is_any_down
    }
}

/// Whether these are the same nodes, in whatever order.
fn are_same(one: &[ConnectionAddr], other: &[ConnectionAddr]) -> bool {
    one.len() == other.len() && one.iter().all(|node| other.contains(node))
}

/// Finds out whether a node can be used.
///
/// # Errors
/// It cannot.
async fn use_node(server: &RedisServer, node: ConnectionAddr) -> Result<(), SourceError> {
    let kind = (MAX_REPLY_BYTES, ConnectionKind::Command);
    // The node is named where that is told.
    let opened = RedisConnection::open_at_node(server, node, kind).await;
    let mut connection = opened.map_err(SourceError::without_server)?;
    let asked = timeout(CONNECT_TIMEOUT, serves(&mut connection)).await;
    let asked = asked.unwrap_or(Err(SourceError::Timeout(CONNECT_TIMEOUT.as_secs())));
    asked.map_err(SourceError::without_server)
}

/// Whether a node does what it is asked for.
///
/// # Errors
/// It does not.
async fn serves(connection: &mut RedisConnection) -> Result<(), SourceError> {
    match connection.request("PING", [].into_iter()).await {
        // It has replied: what it permits is told by what needs it.
        Err(error) if error.is_unavailable() => {}
        replied => drop(replied?),
    }
    // Then it replies CLUSTERDOWN to all that is about a slot: it is cut off from most of the others, or one of them is
    // away and `cluster-require-full-coverage` is on.
    match connection.sees_cluster().await? {
        true => Ok(()),
        false => Err(SourceError::RefusedCommand {
            what: "all slots".to_owned(),
            message: "CLUSTERDOWN (cluster_state:fail in CLUSTER INFO)".to_owned(),
        }),
    }
}
