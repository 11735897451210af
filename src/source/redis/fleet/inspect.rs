//! Whether Redis lets the gateway be one of a fleet, for `ssegate check --connect`.

use redis::ConnectionAddr;
use ssegate_hub::{ChannelName, Subscription};

use super::server::identify;
use crate::source::fleet::{FOR_ALL, FOR_ONE, for_all_at, for_one_at};
use crate::source::redis::cluster::Cluster;
use crate::source::redis::connection::{ConnectionKind, RedisConnection};
use crate::source::redis::error::{SourceError, SourceErrorKind};
use crate::source::redis::problem::RedisProblem;
use crate::source::redis::server::RedisServer;

/// The result of the inspection.
#[derive(Debug, Default)]
pub(in super::super) struct FleetInspection {
    /// Why clients cannot resume at another gateway; `None`: they can.
    pub(in super::super) problem: Option<RedisProblem>,
    /// What cannot be known for certain.
    pub(in super::super) note: Option<RedisProblem>,
}

/// Tests what a gateway needs on connections that have no subscriptions yet, and changes nothing: gateways ignore an
/// empty message.
///
/// # Errors
/// A connection is lost.
pub(in super::super) async fn inspect(
    pubsub: &mut RedisConnection,
    commands: &mut RedisConnection,
) -> Result<FleetInspection, SourceError> {
    let (followed, published) = (identify(pubsub).await?, identify(commands).await?);
    let mut inspection = FleetInspection::default();
    if !followed.is_known() {
        const NOTE: &str = "Redis refused INFO, by which gateways see that they are at one server";
        let kind = Some(SourceErrorKind::Permission);
        inspection.note = Some(RedisProblem { kind, text: NOTE.to_owned() });
    }
    let of_servers = |text: &str| Some(RedisProblem { kind: None, text: text.to_owned() });
    inspection.problem = if followed.is_cluster {
        of_servers("a Redis Cluster has no one order of messages over its channels")
    } else if followed.is_another_than(&published) {
        of_servers("the connections lead to several servers; use the address of one")
    } else {
        let channels = [FOR_ALL.to_owned(), format!("{FOR_ONE}check")];
        refused(pubsub, commands, channels).await?
    };
    Ok(inspection)
}

/// The same test for sharded channels, on connections of its own: at each node of a Cluster that owns slots, or at the
/// one server. Returns why clients cannot resume at another gateway.
pub(in super::super) async fn inspect_nodes(
    server: &RedisServer,
    max_bytes: usize,
) -> Option<RedisProblem> {
    let nodes: Vec<Option<ConnectionAddr>> = match server.cluster().map(Cluster::owners) {
        Some(owners) => owners.into_iter().map(Some).collect(),
        None => vec![None],
    };
    if nodes.is_empty() {
        const WHY: &str = "it is not known which node owns which slot (CLUSTER SLOTS)";
        return Some(RedisProblem {
            kind: Some(SourceErrorKind::Permission),
            text: WHY.to_owned(),
        });
    }
    for node in nodes {
        let inspected = inspect_node(server, (node.as_ref(), max_bytes)).await;
        let problem = inspected.unwrap_or_else(|error| Some(error.without_server().into()));
        if let Some(RedisProblem { kind, text }) = problem {
            let shown = server.shown(node.as_ref());
            return Some(RedisProblem { kind, text: format!("node {shown}: {text}") });
        }
    }
    None
}

/// The same test at one node.
async fn inspect_node(
    server: &RedisServer,
    (node, max_bytes): (Option<&ConnectionAddr>, usize),
) -> Result<Option<RedisProblem>, SourceError> {
    let open = async |kind| match node {
        Some(node) => RedisConnection::open_at_node(server, node.clone(), (max_bytes, kind)).await,
        None => RedisConnection::open(server, max_bytes, kind).await,
    };
    let mut pubsub = open(ConnectionKind::PubSub).await?;
    let mut commands = open(ConnectionKind::Command).await?;
    let (followed, published) = (identify(&mut pubsub).await?, identify(&mut commands).await?);
    let (kind, text) = if !followed.is_known() {
        const WHY: &str = "it refuses INFO, by which gateways see that they are at one node";
        (Some(SourceErrorKind::Permission), WHY)
    } else if followed.is_another_than(&published) {
        (None, "the connections to it lead to several servers")
    } else {
        let run = &followed.run_id;
        let channels = [for_all_at(run), for_one_at(run, "check")];
        return refused(&mut pubsub, &mut commands, channels).await;
    };
    Ok(Some(RedisProblem { kind, text: text.to_owned() }))
}

/// What Redis refuses, if anything.
async fn refused(
    pubsub: &mut RedisConnection,
    commands: &mut RedisConnection,
    channels: [String; 2],
) -> Result<Option<RedisProblem>, SourceError> {
    for channel in channels {
        let name = ChannelName::new(&channel).expect("it is short and printable");
        let followed = pubsub.subscribe(&Subscription { name, is_pattern: false }).await;
        let published = commands.request("PUBLISH", [&*channel, ""].into_iter()).await;
        for (command, result) in [("SUBSCRIBE", followed), ("PUBLISH", published.map(drop))] {
            match result.map_err(|error| error.for_command(format!("{command} to {channel}"))) {
                Ok(()) => {}
                Err(error @ SourceError::RefusedCommand { .. })
                    if error.kind() != SourceErrorKind::Busy =>
                {
                    return Ok(Some(error.into()));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(None)
}
