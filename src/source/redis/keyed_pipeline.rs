//! Commands about keys, many at once: to the server, or in a Cluster to the owner of each key.
//!
//! Commands are sent without waiting for replies.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use redis::ConnectionAddr;
use ssegate_resp::Value;
use tokio::time::{Instant, sleep_until};

use super::cluster::slot_of;
use super::cluster_commands::{ClusterCommands, CommandTarget, KeyCommand, NodeFailure};
use super::connection::{ConnectionKind, RedisConnection};
use super::error::SourceError;
use super::server::RedisServer;

/// How long nothing may arrive while a reply is pending. Replies come in the order of the commands: one that waits
/// behind long ones is not late as long as those arrive.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a command waits until a node of a Cluster takes it.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection for commands about keys, or in a Cluster several. `T` names a command.
pub(super) enum KeyedPipeline<T> {
    Server(ServerPipeline<T>),
    Cluster(Box<ClusterPipeline<T>>),
}

/// The commands of one connection.
pub(super) struct ServerPipeline<T> {
    connection: Box<RedisConnection>,
    // In the order of sending, each with the time at which it was sent.
    pending: VecDeque<(T, Instant)>,
    // When something was last read.
    read_at: Instant,
}

/// The commands of the nodes of a Cluster.
pub(super) struct ClusterPipeline<T> {
    commands: ClusterCommands<T>,
    // The nodes to which a `PING` was last sent.
    pinged: Vec<ConnectionAddr>,
}

/// A command with its reply; `None`: there is no reply, and the command may have been executed.
pub(super) type PipelineDone<T> = (T, Option<Value>);

impl<T> KeyedPipeline<T> {
    /// Connects to the server. To a Cluster, connects when there is something to send; `is_back`, if any, is logged when a
    /// connection to a node is open again that was lost.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub(super) async fn open(
        server: &RedisServer,
        max_reply_bytes: usize,
        is_back: Option<&'static str>,
    ) -> Result<Self, SourceError> {
        if let Some(cluster) = server.cluster() {
            let commands = ClusterCommands::new((server, cluster), max_reply_bytes, is_back);
            return Ok(Self::Cluster(Box::new(ClusterPipeline { commands, pinged: Vec::new() })));
        }
        let kind = ConnectionKind::Command;
        Ok(Self::over(RedisConnection::open(server, max_reply_bytes, kind).await?))
    }

    /// Sends all commands over this connection.
    pub(super) fn over(connection: RedisConnection) -> Self {
        let (connection, read_at) = (Box::new(connection), Instant::now());
        Self::Server(ServerPipeline { connection, pending: VecDeque::new(), read_at })
    }

    /// Whether it is one server, whose loss ends the pipeline.
    pub(super) fn is_one_server(&self) -> bool {
        matches!(self, Self::Server(_))
    }

    /// Whether it is a Cluster, of which no owner of a slot is known.
    pub(super) fn is_without_slots(&self) -> bool {
        matches!(self, Self::Cluster(pipeline) if pipeline.commands.is_without_slots())
    }

    /// The number of bytes that wait to be written to the server or node of `key`.
    pub(super) fn unsent_bytes(&self, key: &str) -> usize {
        match self {
            Self::Server(pipeline) => pipeline.connection.unsent_bytes(),
            Self::Cluster(pipeline) => pipeline.commands.unsent_bytes(slot_of(key.as_bytes())),
        }
    }

    /// Sends an idempotent command about `key`: in a Cluster it is sent again if its reply is lost, and may be executed
    /// twice.
    pub(super) fn send(&mut self, tag: T, key: &str, words: Vec<Bytes>) {
        self.send_to(Some(key), (tag, words), (true, SEND_TIMEOUT));
    }

    /// Sends a command about `key` at most once; `None` is any node of a Cluster. There it waits for a node that takes
    /// it, `wait` at most.
    pub(super) fn send_once(
        &mut self,
        key: Option<&str>,
        (tag, words): (T, Vec<Bytes>),
        wait: Duration,
    ) {
        self.send_to(key, (tag, words), (false, wait));
    }

    fn send_to(
        &mut self,
        key: Option<&str>,
        (tag, words): (T, Vec<Bytes>),
        (is_repeatable, wait): (bool, Duration),
    ) {
        let now = Instant::now();
        match self {
            Self::Server(pipeline) => {
                pipeline.connection.queue_bytes(&words);
                pipeline.pending.push_back((tag, now));
            }
            Self::Cluster(pipeline) => pipeline.commands.send(KeyCommand {
                words,
                target: key.map_or(CommandTarget::AnyNode, |key| {
                    CommandTarget::Slot(slot_of(key.as_bytes()))
                }),
                is_repeatable,
                deadline: Some(now + wait),
                tag,
            }),
        }
    }

    /// Sends a `PING` to each node that is connected. Returns how many there are, and whether one is new.
    pub(super) fn ping(&mut self, tag: impl Fn() -> T) -> (usize, bool) {
        let (now, words) = (Instant::now(), vec![Bytes::from_static(b"PING")]);
        match self {
            Self::Server(pipeline) => {
                pipeline.connection.queue_bytes(&words);
                pipeline.pending.push_back((tag(), now));
                (1, false)
            }
            Self::Cluster(pipeline) => {
                let nodes = pipeline.commands.connected();
                let is_new = nodes.iter().any(|node| !pipeline.pinged.contains(node));
                for node in &nodes {
                    pipeline.commands.send(KeyCommand {
                        words: words.clone(),
                        target: CommandTarget::Node(node.clone()),
                        is_repeatable: false,
                        deadline: None,
                        tag: tag(),
                    });
                }
                pipeline.pinged = nodes;
                (pipeline.pinged.len(), is_new)
            }
        }
    }

    /// Waits for replies, and returns those that came. In a Cluster also returns the failure of a node. Cancel safe.
    ///
    /// # Errors
    /// The connection is lost: see [`Self::into_pending`].
    pub(super) async fn exchange(
        &mut self,
    ) -> Result<(Vec<PipelineDone<T>>, Option<NodeFailure>), SourceError> {
        match self {
            Self::Server(pipeline) => Ok((pipeline.exchange().await?, None)),
            Self::Cluster(pipeline) => {
                let commands = &mut pipeline.commands;
                commands.exchange().await;
                let failure = commands.take_failure();
                let done = std::iter::from_fn(|| commands.take_done());
                let done = done.map(|(tag, reply)| (tag, reply.ok())).collect();
                Ok((done, failure))
            }
        }
    }

    /// The commands whose replies will not come.
    pub(super) fn into_pending(self) -> Vec<T> {
        match self {
            Self::Server(pipeline) => pipeline.pending.into_iter().map(|(tag, _)| tag).collect(),
            Self::Cluster(_) => Vec::new(),
        }
    }
}

impl<T> ServerPipeline<T> {
    async fn exchange(&mut self) -> Result<Vec<PipelineDone<T>>, SourceError> {
        let due = self.pending.front().map(|(_, sent)| (*sent).max(self.read_at) + REPLY_TIMEOUT);
        tokio::select! {
            exchanged = self.connection.exchange() => {
                exchanged?;
                self.read_at = Instant::now();
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                return Err(SourceError::Timeout(REPLY_TIMEOUT.as_secs()));
            }
        }
        let mut done = Vec::new();
        while let Some(value) = self.connection.next_value()? {
            if matches!(value, Value::Push(_)) {
                continue;
            }
            let Some((tag, _)) = self.pending.pop_front() else {
                return Err(SourceError::Unexpected(format!("{value:?}")));
            };
            done.push((tag, Some(value)));
        }
        Ok(done)
    }
}

impl<T> std::fmt::Debug for KeyedPipeline<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedPipeline").finish_non_exhaustive()
    }
}
