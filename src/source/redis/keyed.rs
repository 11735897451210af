//! Commands about keys: to the server, or in a Cluster to the owner of each key. One after the other, or several at once.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use ssegate_resp::Value;
use tokio::time::{Instant, timeout};

use super::cluster::slot_of;
use super::cluster_commands::{ClusterCommands, CommandTarget, KeyCommand};
use super::connection::{ConnectionKind, RedisConnection};
use super::error::SourceError;
use super::server::RedisServer;

/// The reply timeout of the one server. [`ClusterCommands`] has a timeout for each node.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a command waits for a node that can execute it, where others were sent together with it.
const NODE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection for commands about keys, or in a Cluster several.
#[derive(Debug)]
pub(super) enum KeyedConnection {
    Server {
        connection: Box<RedisConnection>,
        // Replies that are owed.
        owed: usize,
        // It is one node of a Cluster, to see what that permits: what belongs to another one it may refuse.
        is_node: bool,
    },
    /// The tag is the number of the command.
    Cluster {
        commands: Box<ClusterCommands<u64>>,
        // The number of the next command, and of the oldest one whose reply is owed.
        next: u64,
        first: u64,
        failure: Option<SourceError>,
    },
}

impl KeyedConnection {
    /// Connects: to a Cluster at least to one of its nodes.
    pub(super) async fn open(
        server: &RedisServer,
        max_reply_bytes: usize,
    ) -> Result<Self, SourceError> {
        let kind = ConnectionKind::Command;
        let connection = RedisConnection::open(server, max_reply_bytes, kind).await?;
        Ok(match server.cluster() {
            None => Self::Server { connection: Box::new(connection), owed: 0, is_node: false },
            Some(cluster) => {
                let at = (server, cluster);
                let commands = Box::new(ClusterCommands::new(at, max_reply_bytes, None));
                Self::Cluster { commands, next: 0, first: 0, failure: None }
            }
        })
    }

    /// Commands to one node of a Cluster, whatever their keys, to see what it permits: it looks at the rights of the user before
    /// it says that another one owns a key, for which the reply is null here.
    pub(super) fn at_node(connection: RedisConnection) -> Self {
        Self::Server { connection: Box::new(connection), owed: 0, is_node: true }
    }

    /// What belongs together with this key: one command may be about keys for which it is the same.
    pub(super) fn place(&self, key: &str) -> Option<u16> {
        match self {
            Self::Server { is_node: false, .. } => None,
            _ => Some(slot_of(key.as_bytes())),
        }
    }

    /// Whether any keys can be used in one command.
    pub(super) fn is_one_server(&self) -> bool {
        matches!(self, Self::Server { is_node: false, .. })
    }

    /// Sends a command about `key`, and waits for its reply. In a Cluster it waits as long as for one server, even
    /// while no node owns the slot; there `None` is any node.
    ///
    /// # Errors
    /// Redis refuses the command, or the connection is lost.
    pub(super) async fn request<'a>(
        &mut self,
        key: Option<&str>,
        name: &'a str,
        arguments: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<Value, SourceError> {
        if let Self::Server { connection, is_node, .. } = self {
            return match connection.request(name, arguments).await {
                Err(SourceError::Refused(message))
                    if *is_node && is_elsewhere(message.as_bytes()) =>
                {
                    Ok(Value::Null)
                }
                replied => replied,
            };
        }
        let words = std::iter::once(name).chain(arguments);
        let words = words.map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        self.send(key, words, Some(Instant::now() + REPLY_TIMEOUT));
        let reply = self.replies().await?.into_iter().next().flatten();
        match reply {
            Some(Value::Error(message)) => {
                Err(SourceError::Refused(String::from_utf8_lossy(&message).into()))
            }
            Some(reply) => Ok(reply),
            None => Err(self.why_unknown()),
        }
    }

    /// Queues a command about `key`, whose reply comes with the others ([`Self::replies`]).
    pub(super) fn queue(&mut self, key: &str, words: Vec<Bytes>) {
        self.send(Some(key), words, Some(Instant::now() + NODE_TIMEOUT));
    }

    /// As [`Self::queue`], with words that are text.
    pub(super) fn queue_text(&mut self, key: &str, words: &[&str]) {
        let words = words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes()));
        self.queue(key, words.collect());
    }

    fn send(&mut self, key: Option<&str>, words: Vec<Bytes>, deadline: Option<Instant>) {
        match self {
            Self::Server { connection, owed, .. } => {
                connection.queue_bytes(&words);
                *owed += 1;
            }
            Self::Cluster { commands, next, .. } => {
                let target = key.map_or(CommandTarget::AnyNode, |key| {
                    CommandTarget::Slot(slot_of(key.as_bytes()))
                });
                commands.send(KeyCommand {
                    words,
                    target,
                    is_repeatable: false,
                    deadline,
                    tag: *next,
                });
                *next += 1;
            }
        }
    }

    /// Returns the replies to all queued commands, in their order, error replies included. In a Cluster `None` stands
    /// for a command that no node could execute, or whose connection was lost; [`Self::why_unknown`] returns the
    /// reason.
    ///
    /// # Errors
    /// The connection to the server is lost, or it does not reply.
    pub(super) async fn replies(&mut self) -> Result<Vec<Option<Value>>, SourceError> {
        match self {
            Self::Server { connection, owed, is_node } => {
                let count = std::mem::take(owed);
                let reading = read_replies(connection, count);
                let timed_out = SourceError::Timeout(REPLY_TIMEOUT.as_secs());
                let replies = timeout(REPLY_TIMEOUT, reading).await.unwrap_or(Err(timed_out))?;
                let permitted = |reply: Value| match &reply {
                    Value::Error(message) if *is_node && is_elsewhere(message) => Value::Null,
                    _ => reply,
                };
                Ok(replies.into_iter().map(|reply| reply.map(permitted)).collect())
            }
            Self::Cluster { commands, next, first, failure } => {
                // Replies to earlier commands are late: nothing waits for them any more.
                let begin = std::mem::replace(first, *next);
                let count = usize::try_from(*next - begin).unwrap_or_default();
                let (mut replies, mut left) = (vec![None; count], count);
                while left > 0 {
                    commands.exchange().await;
                    if let Some(failed) = commands.take_failure() {
                        *failure = Some(failed.error);
                    }
                    while let Some((number, result)) = commands.take_done() {
                        let place = number.checked_sub(begin).map(usize::try_from);
                        if let Some(Ok(place)) = place
                            && let Some(reply) = replies.get_mut(place)
                        {
                            *reply = result.ok();
                            left -= 1;
                        }
                    }
                }
                Ok(replies)
            }
        }
    }

    /// Returns why a command has no reply.
    pub(super) fn why_unknown(&mut self) -> SourceError {
        let failure = match self {
            Self::Server { .. } => None,
            Self::Cluster { commands, failure, .. } => {
                let no_slots = || commands.is_without_slots().then_some(SourceError::NoSlots);
                failure.take().or_else(no_slots)
            }
        };
        // No node owns the slot, or its owner is not ready.
        failure.unwrap_or(SourceError::Timeout(NODE_TIMEOUT.as_secs()))
    }

    /// Waits until the connection to the server is lost. A connection to a node of a Cluster is opened again when it is
    /// needed. Cancel safe. Call it only while no reply is pending.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn lost(&mut self) -> Result<Infallible, SourceError> {
        loop {
            match self {
                Self::Server { connection, .. } => {
                    connection.exchange().await?;
                    drop_pushes(connection)?;
                }
                Self::Cluster { commands, .. } => {
                    commands.exchange().await;
                    drop(commands.take_failure());
                    while commands.take_done().is_some() {}
                }
            }
        }
    }
}

/// Whether a node has said that another one serves the key of a command.
fn is_elsewhere(message: &[u8]) -> bool {
    [&b"MOVED "[..], b"ASK "].iter().any(|word| message.starts_with(word))
}

async fn read_replies(
    connection: &mut RedisConnection,
    count: usize,
) -> Result<Vec<Option<Value>>, SourceError> {
    let mut replies = Vec::with_capacity(count);
    while replies.len() < count {
        // A push message is not a reply.
        match connection.read_value().await? {
            Value::Push(_) => {}
            reply => replies.push(Some(reply)),
        }
    }
    Ok(replies)
}

/// Drops push messages. Any other value is an error: no reply is pending between two commands.
fn drop_pushes(connection: &mut RedisConnection) -> Result<(), SourceError> {
    while let Some(value) = connection.next_value()? {
        if !matches!(value, Value::Push(_)) {
            return Err(SourceError::Unexpected(format!("{value:?}")));
        }
    }
    Ok(())
}
