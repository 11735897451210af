//! Tries the commands that the gateway reads with and calls: at a server, or at one node of a Cluster, each of which
//! has an ACL of its own.
//!
//! Leaves nothing behind. A node checks the rights of the user before it replies with `MOVED`, so every command is
//! tried at each node.

use redis::ConnectionAddr;
use ssegate_hub::{ChannelName, Subscription};

use super::cluster::{Cluster, Redirect, slot_of};
use super::connection::{ConnectionKind, RedisConnection};
use super::control;
use super::error::{SourceError, SourceErrorKind};
use super::kept;
use super::keyed::KeyedConnection;
use super::presence;
use super::problem::RedisProblem;
use super::recorded;
use super::redis_read::RedisRead;
use super::server::RedisServer;
use super::session::describe;

/// Longer strings in replies are not of interest. In bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// The channel of our own to which a message is published.
const PROBE_CHANNEL: &str = "ssegate:check:inspect";
/// A name that no client has.
const NOBODYS: &str = "ssegate-check";
/// The most redirects that a subscription follows.
const MAX_REDIRECTS: usize = 5;

/// Connections on which it is tried.
pub(super) struct ReadTrial<'a> {
    server: &'a RedisServer,
    pub(super) pubsub: RedisConnection,
    pub(super) commands: RedisConnection,
    keyed: KeyedConnection,
    place: TrialPlace,
}

/// Where it is tried.
enum TrialPlace {
    /// At the server, or wherever the nodes of a Cluster say.
    Anywhere,
    /// At this node of a Cluster, and with names in its slots.
    Node(Cluster, ConnectionAddr),
}

/// What Redis refuses.
#[derive(Debug, Default)]
pub(super) struct TrialFindings {
    /// Problems with what the routes need.
    pub(super) refused: Vec<RedisProblem>,
    /// Other problems.
    pub(super) notes: Vec<RedisProblem>,
}

impl<'a> ReadTrial<'a> {
    /// Connects to the server, or to any node of a Cluster.
    ///
    /// # Errors
    /// It cannot be used.
    pub(super) async fn open(server: &'a RedisServer) -> Result<Self, SourceError> {
        let pubsub = RedisConnection::open(server, MAX_BYTES, ConnectionKind::PubSub).await?;
        let commands = RedisConnection::open(server, MAX_BYTES, ConnectionKind::Command).await?;
        let keyed = KeyedConnection::open(server, MAX_BYTES).await?;
        Ok(Self { server, pubsub, commands, keyed, place: TrialPlace::Anywhere })
    }

    /// Connects to a node of a Cluster.
    ///
    /// # Errors
    /// It cannot be used.
    pub(super) async fn open_at(
        (server, cluster): (&'a RedisServer, &Cluster),
        node: &ConnectionAddr,
    ) -> Result<Self, SourceError> {
        let open = |kind| RedisConnection::open_at_node(server, node.clone(), (MAX_BYTES, kind));
        let pubsub = open(ConnectionKind::PubSub).await?;
        let commands = open(ConnectionKind::Command).await?;
        let keyed = KeyedConnection::at_node(open(ConnectionKind::Command).await?);
        let place = TrialPlace::Node(cluster.clone(), node.clone());
        Ok(Self { server, pubsub, commands, keyed, place })
    }

    /// Runs the whole trial.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn run(&mut self, reads: &[RedisRead]) -> Result<TrialFindings, SourceError> {
        let mut findings = TrialFindings::default();
        for read in reads {
            let told = self.try_what_is_told(read).await;
            findings.refused.extend(refusal(told)?);
            let result = self.try_read(read).await;
            findings.refused.extend(refusal(result)?);
        }
        let numsub = ["NUMSUB", PROBE_CHANNEL];
        for (command, arguments) in [("PUBSUB", &numsub), ("PUBLISH", &[PROBE_CHANNEL, "0"])] {
            let result = self.commands.request(command, arguments.iter().copied()).await;
            let result = result.map_err(|error| {
                error.for_command(format!("{command}, which the self-check uses"))
            });
            findings.notes.extend(refusal(result.map(drop))?);
        }
        if reads.iter().any(|read| matches!(read, RedisRead::Stream(_))) {
            // No connection has this id.
            let result = self.commands.request("CLIENT", ["UNBLOCK", "0"].into_iter()).await;
            let what = "CLIENT UNBLOCK, without which a new stream may be delayed by five seconds";
            let result = result.map(drop).map_err(|error| error.for_command(what));
            findings.notes.extend(refusal(result)?);
        }
        Ok(findings)
    }

    /// Subscribes to the channels on which gateways notify each other of what is read.
    async fn try_what_is_told(&mut self, read: &RedisRead) -> Result<(), SourceError> {
        let followed = match read {
            RedisRead::Kept => kept::notices()?,
            RedisRead::Recorded(_) => {
                Subscription { name: recorded::marks(NOBODYS, false)?, is_pattern: false }
            }
            RedisRead::ShardedRecorded(_) => {
                let marks = recorded::marks(&self.name(NOBODYS), true)?;
                return self.subscribe_sharded(&marks).await;
            }
            RedisRead::Control(name) => Subscription { name: name.clone(), is_pattern: false },
            _ => return Ok(()),
        };
        self.subscribe(&followed).await
    }

    async fn try_read(&mut self, read: &RedisRead) -> Result<(), SourceError> {
        let name = self.name(NOBODYS);
        match read {
            RedisRead::Subscription(subscription) => self.subscribe(subscription).await,
            RedisRead::Sharded(name) => self.subscribe_sharded(name).await,
            RedisRead::Fleet | RedisRead::NodeFleet => Ok(()),
            RedisRead::Presence(settings) => {
                presence::inspect(&mut self.keyed, settings, &name).await
            }
            RedisRead::Kept => {
                let id: String = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
                let id = self.name(&id);
                kept::inspect(&mut self.keyed, &id).await
            }
            RedisRead::Recorded(settings) => {
                recorded::inspect(&mut self.keyed, settings, (&name, false)).await
            }
            RedisRead::ShardedRecorded(settings) => {
                recorded::inspect(&mut self.keyed, settings, (&name, true)).await
            }
            RedisRead::Stream(name) => read_stream(&mut self.keyed, name).await,
            RedisRead::Control(name) => control::inspect(&mut self.keyed, name).await,
        }
    }

    /// A name with this prefix; at a node, in one of its slots.
    fn name(&self, name: &str) -> String {
        let here = match &self.place {
            TrialPlace::Anywhere => None,
            TrialPlace::Node(cluster, node) => cluster.name_at(name, node),
        };
        here.unwrap_or_else(|| name.to_owned())
    }

    async fn subscribe(&mut self, subscription: &Subscription) -> Result<(), SourceError> {
        let result = self.pubsub.subscribe(subscription).await;
        result.map_err(|error| error.for_command(describe(subscription)))
    }

    /// Tries `SSUBSCRIBE`: at this node, or at the owner of the channel's slot.
    async fn subscribe_sharded(&mut self, name: &ChannelName) -> Result<(), SourceError> {
        let channel = name.as_sharded().unwrap_or_default();
        let tried = match &self.place {
            TrialPlace::Anywhere => subscribe_where_it_is(self.server, channel).await,
            TrialPlace::Node(_, node) => {
                match self.pubsub.subscribe_by("SSUBSCRIBE", channel).await {
                    Err(SourceError::Refused(message))
                        if Redirect::of(message.as_bytes(), node).is_some() =>
                    {
                        Ok(())
                    }
                    tried => tried,
                }
            }
        };
        tried.map_err(|error| error.for_command(format!("SSUBSCRIBE to the channel {channel:?}")))
    }
}

/// Tries `SSUBSCRIBE` at the node that owns the channel's slot; while it is unknown, redirects lead to it.
async fn subscribe_where_it_is(server: &RedisServer, channel: &str) -> Result<(), SourceError> {
    let (slot, kind) = (slot_of(channel.as_bytes()), ConnectionKind::PubSub);
    let mut redirects = 0;
    loop {
        let mut connection = match server.cluster().and_then(|cluster| cluster.owner(slot)) {
            Some(node) => RedisConnection::open_at_node(server, node, (MAX_BYTES, kind)).await?,
            None => RedisConnection::open(server, MAX_BYTES, kind).await?,
        };
        let Err(error) = connection.subscribe_by("SSUBSCRIBE", channel).await else {
            return Ok(());
        };
        let redirect = match (&error, &connection.server) {
            (SourceError::Refused(message), Some(node)) => Redirect::of(message.as_bytes(), node),
            _ => None,
        };
        match (redirect, server.cluster()) {
            (Some(Redirect::Moved(slot, owner)), Some(cluster)) if redirects < MAX_REDIRECTS => {
                cluster.moved(slot, &owner);
                redirects += 1;
            }
            _ => return Err(error),
        }
    }
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

/// An error reply is a finding; any other error ends the trial.
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
