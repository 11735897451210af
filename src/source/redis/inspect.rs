//! A one-time check for an operator: whether Redis can be reached, and allows what the routes need.
//!
//! Writes nothing except one message, published to a channel of our own, as the self-check does.

use redis::ConnectionAddr;
use ssegate_resp::RespVersion;

use super::cluster::Cluster;
use super::connection::RedisConnection;
use super::durability::{self, DurabilityRisk};
use super::error::{SourceError, SourceErrorKind};
use super::fleet::{self, FleetInspection};
use super::location::ShownAddress;
use super::problem::RedisProblem;
use super::read_trial::{MAX_BYTES, ReadTrial, TrialFindings};
use super::redis_read::RedisRead;
use super::sentinel::Sentinels;
use super::sentinel_watch;
use super::server::RedisServer;

/// The result of the inspection of a Redis server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Its name, version and protocol, such as `Redis 7.0.15, RESP3`; with sentinels, also the address of the
    /// master.
    pub server: String,
    /// What it refuses and routes need, with its error replies. These routes do not work.
    pub refused: Vec<RedisProblem>,
    /// What else it refuses.
    pub notes: Vec<RedisProblem>,
    /// Why data that Redis has acknowledged may be lost later: streams, recorded channels, kept streams.
    pub risks: Vec<DurabilityRisk>,
    /// Whether clients can resume at another gateway; the error: why not. `None`: this was not checked.
    pub fleet: Option<Result<(), RedisProblem>>,
}

/// Connects, and tries all of `reads`.
///
/// # Errors
/// Redis cannot be reached, authentication fails, or the connection is lost.
pub async fn inspect(
    server: &RedisServer,
    reads: &[RedisRead],
) -> Result<Inspection, RedisProblem> {
    inspect_all(server, reads).await.map_err(RedisProblem::from)
}

async fn inspect_all(server: &RedisServer, reads: &[RedisRead]) -> Result<Inspection, SourceError> {
    let mut trial = ReadTrial::open(server).await?;
    let nodes = server.cluster().map(Cluster::owners).unwrap_or_default();
    let protocol = match trial.pubsub.version {
        RespVersion::Resp2 => "RESP2",
        RespVersion::Resp3 => "RESP3",
    };
    let version = version(&mut trial.commands).await?;
    let mut inspection = Inspection {
        server: format!("{version}, {protocol}{}", where_it_is(server, nodes.len())),
        refused: Vec::new(),
        notes: Vec::new(),
        risks: Vec::new(),
        fleet: None,
    };
    if let Some(sentinels) = server.sentinels()
        && let Err(problem) = sentinel_watch::inspect(sentinels).await
    {
        let text = format!("sentinels: {problem}");
        inspection.notes.push(RedisProblem { kind: Some(SourceErrorKind::Failover), text });
    }
    if server.cluster().is_some_and(Cluster::is_refused) {
        let (kind, text) = (Some(SourceErrorKind::Permission), SLOTS_REFUSED.to_owned());
        inspection.notes.push(RedisProblem { kind, text });
    }
    let is_log = |read: &RedisRead| {
        use RedisRead::{Recorded, ShardedRecorded, Stream};
        matches!(read, Stream(_) | Recorded(_) | ShardedRecorded(_))
    };
    let is_any_log = reads.iter().any(is_log);
    if is_any_log || reads.contains(&RedisRead::Kept) {
        let mut risks = durability::risks(&mut trial.commands).await?;
        // Kept streams are there for minutes: after a restart of Redis gateways write them again.
        risks.retain(|risk| is_any_log || matches!(risk, DurabilityRisk::Evicts(_)));
        inspection.risks = risks;
    }
    // First: in RESP2 a connection with subscriptions takes no INFO.
    if reads.contains(&RedisRead::Fleet) {
        let inspecting = fleet::inspect(&mut trial.pubsub, &mut trial.commands);
        let FleetInspection { problem, note } = inspecting.await?;
        inspection.fleet = Some(problem.map_or(Ok(()), Err));
        inspection.notes.extend(note);
    }
    if reads.contains(&RedisRead::NodeFleet) {
        let problem = fleet::inspect_nodes(server, MAX_BYTES).await;
        // One server has an order of its own beside that of its nodes.
        let before = inspection.fleet.take().unwrap_or(Ok(()));
        inspection.fleet = Some(before.and_then(|()| problem.map_or(Ok(()), Err)));
    }
    let TrialFindings { refused, notes } = match server.cluster() {
        Some(cluster) if !nodes.is_empty() => try_at_all((server, cluster), &nodes, reads).await,
        _ => trial.run(reads).await?,
    };
    inspection.refused.extend(refused);
    inspection.notes.extend(notes);
    Ok(inspection)
}

const SLOTS_REFUSED: &str = "Redis refused CLUSTER SLOTS: the gateway uses the nodes of redis.url and goes where they say, but \
                             cannot look at each node, and clients of sharded channels cannot resume at another gateway";

/// Where the server is, as far as the configuration does not say it.
fn where_it_is(server: &RedisServer, nodes: usize) -> String {
    if let Some(master) = server.sentinels().and_then(Sentinels::master) {
        return format!(", the master is {}", ShownAddress(&master));
    }
    let tried = match nodes {
        0 => String::new(),
        nodes => format!(", tried at each of {nodes} that own slots"),
    };
    let node = server.cluster().and_then(Cluster::current);
    let through = node.map(|node| format!(", through the node {}{tried}", ShownAddress(&node)));
    through.unwrap_or_default()
}

/// Tries it at each of these nodes.
async fn try_at_all(
    of: (&RedisServer, &Cluster),
    nodes: &[ConnectionAddr],
    reads: &[RedisRead],
) -> TrialFindings {
    let (mut refused, mut notes) = (Vec::new(), Vec::new());
    for node in nodes {
        let tried = async { ReadTrial::open_at(of, node).await?.run(reads).await };
        // One that cannot be used does not keep the others from being tried.
        let findings = tried.await.unwrap_or_else(|error| TrialFindings {
            refused: vec![error.without_server().into()],
            notes: Vec::new(),
        });
        let shown = ShownAddress(node).to_string();
        refused.push((shown.clone(), findings.refused));
        notes.push((shown, findings.notes));
    }
    TrialFindings { refused: merged(refused), notes: merged(notes) }
}

/// What was found at nodes, each problem once, with the nodes that have it unless all have.
fn merged(found: Vec<(String, Vec<RedisProblem>)>) -> Vec<RedisProblem> {
    let all = found.len();
    let mut merged: Vec<(RedisProblem, Vec<String>)> = Vec::new();
    for (node, problems) in found {
        for problem in problems {
            match merged.iter_mut().find(|(known, _)| *known == problem) {
                Some((_, nodes)) => nodes.push(node.clone()),
                None => merged.push((problem, vec![node.clone()])),
            }
        }
    }
    let named = |(RedisProblem { kind, text }, nodes): (RedisProblem, Vec<String>)| {
        let text = match nodes.len() {
            number if number == all => text,
            1 => format!("node {}: {text}", nodes[0]),
            _ => format!("nodes {}: {text}", nodes.join(" and ")),
        };
        RedisProblem { kind, text }
    };
    merged.into_iter().map(named).collect()
}

/// The server's name and version, if `INFO` is allowed.
async fn version(connection: &mut RedisConnection) -> Result<String, SourceError> {
    let info = match connection.request("INFO", ["server"].into_iter()).await {
        Ok(info) => info,
        Err(SourceError::Refused(_)) => return Ok("Redis".to_owned()),
        Err(error) => return Err(error),
    };
    let text = info.as_bytes().map(|text| String::from_utf8_lossy(text).into_owned());
    let text = text.unwrap_or_default();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    Ok(match (field("valkey_version:"), field("redis_version:")) {
        (Some(version), _) => format!("Valkey {}", version.trim()),
        (None, Some(version)) => format!("Redis {}", version.trim()),
        (None, None) => "Redis".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{RedisProblem, merged};

    #[test]
    fn what_not_all_nodes_refuse_names_those_that_do() {
        let problem = |text: &str| RedisProblem { kind: None, text: text.to_owned() };
        let at = |node: &str, texts: &[&str]| {
            (node.to_owned(), texts.iter().map(|text| problem(text)).collect())
        };
        let found = merged(vec![
            at("a:1", &["XREAD", "SUBSCRIBE"]),
            at("b:1", &["SUBSCRIBE"]),
            at("c:1", &["PUBLISH", "XREAD", "SUBSCRIBE"]),
        ]);
        let texts: Vec<_> = found.iter().map(|problem| problem.text.as_str()).collect();
        assert_eq!(texts, ["nodes a:1 and c:1: XREAD", "SUBSCRIBE", "node c:1: PUBLISH"]);
        assert_eq!(merged(vec![at("a:1", &["XREAD"])])[0].text, "XREAD");
    }
}
