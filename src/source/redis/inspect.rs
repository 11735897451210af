//! A one-time check for an operator: whether Redis can be reached, and allows what the routes need.
//!
//! Writes nothing except one message, published to a channel of our own, as the self-check does.

use std::sync::Arc;

use ssegate_hub::{ChannelName, Subscription};
use ssegate_resp::RespVersion;

use super::cluster::{Cluster, slot_of};
use super::connection::{ConnectionKind, RedisConnection};
use super::control;
use super::durability::{self, DurabilityRisk};
use super::error::{SourceError, SourceErrorKind};
use super::fleet::{self, FleetInspection};
use super::kept;
use super::keyed::KeyedConnection;
use super::location::ShownAddress;
use super::presence;
use super::problem::RedisProblem;
use super::recorded;
use super::sentinel::Sentinels;
use super::sentinel_watch;
use super::server::RedisServer;
use super::session::describe;
use crate::route::PresenceSettings;
use crate::source::recorded::RecordedSettings;

/// What the gateway reads from Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisRead {
    /// A pub/sub channel or pattern.
    Subscription(Subscription),
    /// A sharded channel, by the name that the hub has for it.
    Sharded(ChannelName),
    /// A Redis Stream.
    Stream(ChannelName),
    /// The control channel, with what is kept beside it.
    Control(ChannelName),
    /// What gateways of a fleet publish for each other.
    Fleet,
    /// The same, at each node of a Cluster: for its sharded channels.
    NodeFleet,
    /// Who listens, on a route with these settings.
    Presence(Arc<PresenceSettings>),
    /// Streams that are kept for all gateways.
    Kept,
    /// What is recorded, and the marks of gateways.
    Recorded(RecordedSettings),
    /// The same of sharded channels.
    ShardedRecorded(RecordedSettings),
}

/// What was found out about a Redis server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Its name, version and protocol, such as `Redis 7.0.15, RESP3`; and which the master is, if sentinels know it.
    pub server: String,
    /// What it refuses that routes need, with its error replies. These routes do not work.
    pub refused: Vec<RedisProblem>,
    /// What else it refuses.
    pub notes: Vec<RedisProblem>,
    /// Why what Redis has acknowledged may be gone later: streams, recorded channels, kept streams.
    pub risks: Vec<DurabilityRisk>,
    /// Whether clients can resume at another gateway, and why not; `None`: that was not asked for.
    pub fleet: Option<Result<(), RedisProblem>>,
}

/// Longer strings in replies are not of interest. In bytes.
const MAX_BYTES: usize = 1 << 20;
/// The channel of our own to which a message is published.
const PROBE_CHANNEL: &str = "ssegate:check:inspect";

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
    let mut pubsub = RedisConnection::open(server, MAX_BYTES, ConnectionKind::PubSub).await?;
    let mut commands = RedisConnection::open(server, MAX_BYTES, ConnectionKind::Command).await?;
    let mut keyed = KeyedConnection::open(server, MAX_BYTES).await?;
    let protocol = match pubsub.version {
        RespVersion::Resp2 => "RESP2",
        RespVersion::Resp3 => "RESP3",
    };
    let version = version(&mut commands).await?;
    let mut inspection = Inspection {
        server: match server.sentinels().and_then(Sentinels::master) {
            Some(master) => {
                let master = ShownAddress(&master);
                format!("{version}, {protocol}, the master is {master}")
            }
            None => match server.cluster().and_then(Cluster::current) {
                Some(node) => {
                    format!("{version}, {protocol}, through the node {}", ShownAddress(&node))
                }
                None => format!("{version}, {protocol}"),
            },
        },
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
    let is_log = |read: &RedisRead| {
        use RedisRead::{Recorded, ShardedRecorded, Stream};
        matches!(read, Stream(_) | Recorded(_) | ShardedRecorded(_))
    };
    let is_any_log = reads.iter().any(is_log);
    if is_any_log || reads.contains(&RedisRead::Kept) {
        let mut risks = durability::risks(&mut commands).await?;
        // Kept streams are there for minutes: after a restart of Redis gateways write them again.
        risks.retain(|risk| is_any_log || matches!(risk, DurabilityRisk::Evicts(_)));
        inspection.risks = risks;
    }
    // First: in RESP2 a connection with subscriptions takes no INFO.
    if reads.contains(&RedisRead::Fleet) {
        let FleetInspection { problem, note } = fleet::inspect(&mut pubsub, &mut commands).await?;
        inspection.fleet = Some(problem.map_or(Ok(()), Err));
        inspection.notes.extend(note);
    }
    for read in reads {
        let result = match read {
            RedisRead::Subscription(subscription) => subscribe(&mut pubsub, subscription).await,
            RedisRead::Sharded(name) => subscribe_sharded(server, name).await,
            RedisRead::Fleet => Ok(()),
            RedisRead::NodeFleet => {
                let problem = fleet::inspect_nodes(server, MAX_BYTES).await?;
                // One server has an order of its own beside that of its nodes.
                let before = inspection.fleet.take().unwrap_or(Ok(()));
                inspection.fleet = Some(before.and_then(|()| problem.map_or(Ok(()), Err)));
                Ok(())
            }
            RedisRead::Presence(settings) => presence::inspect(&mut keyed, settings).await,
            RedisRead::Kept => {
                let told = subscribe(&mut pubsub, &kept::told()?).await;
                inspection.refused.extend(refusal(told)?);
                kept::inspect(&mut keyed).await
            }
            RedisRead::Recorded(settings) => {
                let marks = Subscription { name: recorded::marks(false)?, is_pattern: false };
                inspection.refused.extend(refusal(subscribe(&mut pubsub, &marks).await)?);
                recorded::inspect(&mut keyed, settings, false).await
            }
            RedisRead::ShardedRecorded(settings) => {
                let marks = subscribe_sharded(server, &recorded::marks(true)?).await;
                inspection.refused.extend(refusal(marks)?);
                recorded::inspect(&mut keyed, settings, true).await
            }
            RedisRead::Stream(name) => read_stream(&mut keyed, name).await,
            RedisRead::Control(name) => {
                let followed = Subscription { name: name.clone(), is_pattern: false };
                inspection.refused.extend(refusal(subscribe(&mut pubsub, &followed).await)?);
                control::inspect(&mut keyed, name).await
            }
        };
        inspection.refused.extend(refusal(result)?);
    }
    let numsub = ["NUMSUB", PROBE_CHANNEL];
    for (command, arguments) in [("PUBSUB", &numsub), ("PUBLISH", &[PROBE_CHANNEL, "0"])] {
        let result = commands.request(command, arguments.iter().copied()).await;
        let result = result
            .map_err(|error| error.for_command(format!("{command}, which the self-check uses")));
        inspection.notes.extend(refusal(result.map(drop))?);
    }
    if reads.iter().any(|read| matches!(read, RedisRead::Stream(_))) {
        // No connection has this id.
        let result = commands.request("CLIENT", ["UNBLOCK", "0"].into_iter()).await;
        let what = "CLIENT UNBLOCK, without which a new stream may be delayed by five seconds";
        inspection
            .notes
            .extend(refusal(result.map(drop).map_err(|error| error.for_command(what)))?);
    }
    Ok(inspection)
}

/// An error reply is a finding; any other error ends the inspection.
fn refusal(result: Result<(), SourceError>) -> Result<Option<RedisProblem>, SourceError> {
    match result {
        Ok(()) => Ok(None),
        Err(error @ SourceError::RefusedCommand { .. }) => match error.kind() {
            SourceErrorKind::Busy => Err(error),
            _ => Ok(Some(error.into())),
        },
        Err(error) => Err(error),
    }
}

async fn subscribe(
    connection: &mut RedisConnection,
    subscription: &Subscription,
) -> Result<(), SourceError> {
    let result = connection.subscribe(subscription).await;
    result.map_err(|error| error.for_command(describe(subscription)))
}

/// Tries `SSUBSCRIBE` at the node that owns the channel's slot.
async fn subscribe_sharded(server: &RedisServer, name: &ChannelName) -> Result<(), SourceError> {
    let channel = name.as_sharded().unwrap_or_default();
    let owner = server.cluster().and_then(|cluster| cluster.owner(slot_of(channel.as_bytes())));
    let kind = ConnectionKind::PubSub;
    let mut connection = match owner {
        Some(node) => RedisConnection::open_at_node(server, node, (MAX_BYTES, kind)).await?,
        None => RedisConnection::open(server, MAX_BYTES, kind).await?,
    };
    let result = connection.subscribe_by("SSUBSCRIBE", channel).await;
    result.map_err(|error| error.for_command(format!("SSUBSCRIBE to the channel {channel:?}")))
}

/// Tries the commands that read a stream. A stream that does not exist yet is not an error.
async fn read_stream(
    connection: &mut KeyedConnection,
    name: &ChannelName,
) -> Result<(), SourceError> {
    let key = name.as_str();
    for arguments in [
        &["XINFO", "STREAM", key][..],
        &["XRANGE", key, "-", "+", "COUNT", "1"],
        &["XREVRANGE", key, "+", "-", "COUNT", "1"],
        &["XREAD", "COUNT", "1", "STREAMS", key, "$"],
    ] {
        let requested = connection.request(Some(key), arguments[0], arguments[1..].iter().copied());
        match requested.await {
            Err(SourceError::Refused(message)) if message == "ERR no such key" => {}
            Err(error) => {
                return Err(error.for_command(format!("{} of the stream {name:?}", arguments[0])));
            }
            Ok(_) => {}
        }
    }
    Ok(())
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
