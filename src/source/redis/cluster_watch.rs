//! Asks the nodes of a Cluster again and again which of them owns what, and looks whether each owner can be used.

use std::time::Duration;

use redis::ConnectionAddr;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::cluster::Cluster;
use super::connection::{ConnectionKind, RedisConnection};
use super::error::SourceError;
use super::location::ShownAddress;
use super::retry::RETRY_INTERVAL;
use super::sentinel::MAX_REPLY_BYTES;
use super::server::RedisServer;
use super::socket::CONNECT_TIMEOUT;
use crate::health::{Health, NodeState};
use crate::metrics::Metrics;

/// How often the nodes are asked without a reason: a node reports a moved slot only in reply to a command for it.
const ASK_INTERVAL: Duration = Duration::from_secs(30);

/// The least time between two requests, while the known owners prove to be wrong.
const MIN_INTERVAL: Duration = Duration::from_millis(250);

/// How often it is looked at most whether the owners can be used, as long as they are the same: a connection to each.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Owners that are looked at together.
const MAX_AT_ONCE: usize = 32;

/// Keeps what is known of the slots of a Cluster, and of the nodes that own them.
#[derive(Debug)]
pub(crate) struct ClusterWatch {
    server: RedisServer,
    cluster: Cluster,
    health: Health,
    metrics: Metrics,
    // The owners that were looked at last, and when.
    looked: Option<(Vec<ConnectionAddr>, Instant)>,
}

impl ClusterWatch {
    /// That of `server`, if it is a Cluster.
    pub(crate) fn new(server: &RedisServer, health: &Health, metrics: &Metrics) -> Option<Self> {
        let cluster = server.cluster()?.clone();
        let (health, metrics) = (health.clone(), metrics.clone());
        Some(Self { server: server.clone(), cluster, health, metrics, looked: None })
    }

    /// Runs for ever: asks every 30 seconds, and when a slot has moved or a node is gone. Owned by the gateway, which
    /// drops it.
    pub(crate) async fn run(mut self) {
        loop {
            let asked = Instant::now();
            let kind = ConnectionKind::Command;
            // The handshake asks. That none can be reached is reported by those that need one.
            let opening =
                RedisConnection::open(&self.server, MAX_REPLY_BYTES, kind).await.map(drop);
            let are_all_well = self.look_at_owners().await;
            if let Err(error) = opening {
                tracing::debug!(%error, "no node of the Cluster says who owns which slot");
                sleep_until(asked + RETRY_INTERVAL).await;
                continue;
            }
            let pause = if are_all_well { ASK_INTERVAL } else { LOOK_INTERVAL };
            let outdated = timeout_at(asked + pause, self.cluster.outdated());
            // Not outdated within that time is no reason not to ask.
            outdated.await.unwrap_or_default();
            sleep_until(asked + MIN_INTERVAL).await;
        }
    }

    /// Looks whether each node that owns slots can be used, unless that was looked at just now. Returns whether they can.
    async fn look_at_owners(&mut self) -> bool {
        let owners = self.cluster.owners();
        let is_recent = |(before, at): &(Vec<ConnectionAddr>, Instant)| {
            *before == owners && at.elapsed() < LOOK_INTERVAL
        };
        if self.looked.as_ref().is_some_and(is_recent) {
            return false;
        }
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
        self.report(&owners, &failures);
        self.looked = Some((owners, Instant::now()));
        failures.iter().all(Option::is_none)
    }

    fn report(&self, owners: &[ConnectionAddr], failures: &[Option<SourceError>]) {
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
    }
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
