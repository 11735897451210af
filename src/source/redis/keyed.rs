//! Commands about keys, one after the other: to the server, or in a Cluster to the owner of each key.

use bytes::Bytes;
use ssegate_resp::Value;

use super::cluster::slot_of;
use super::cluster_commands::{ClusterCommands, CommandTarget, KeyCommand, NoReply};
use super::connection::{ConnectionKind, RedisConnection};
use super::error::SourceError;
use super::server::RedisServer;

/// A connection for commands about keys, or in a Cluster several.
#[derive(Debug)]
pub(super) enum KeyedConnection {
    Server(Box<RedisConnection>),
    /// The tag is the number of the request.
    Cluster(Box<ClusterCommands<u64>>, u64),
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
            None => Self::Server(Box::new(connection)),
            Some(cluster) => {
                let commands = ClusterCommands::new(server, cluster, max_reply_bytes);
                Self::Cluster(Box::new(commands), 0)
            }
        })
    }

    /// Sends a command about `key`, and waits for its reply. In a Cluster `None` is any node.
    ///
    /// # Errors
    /// Redis refuses the command, or the connection is lost.
    pub(super) async fn request<'a>(
        &mut self,
        key: Option<&str>,
        name: &'a str,
        arguments: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<Value, SourceError> {
        let reply = match self {
            Self::Server(connection) => return connection.request(name, arguments).await,
            Self::Cluster(commands, number) => {
                *number += 1;
                let words = std::iter::once(name).chain(arguments);
                commands.send(KeyCommand {
                    words: words.map(|word| Bytes::copy_from_slice(word.as_bytes())).collect(),
                    target: key.map_or(CommandTarget::AnyNode, |key| {
                        CommandTarget::Slot(slot_of(key.as_bytes()))
                    }),
                    is_repeatable: false,
                    deadline: None,
                    tag: *number,
                });
                reply_to(commands, *number).await?
            }
        };
        match reply {
            Value::Error(message) => {
                Err(SourceError::Refused(String::from_utf8_lossy(&message).into()))
            }
            reply => Ok(reply),
        }
    }
}

/// Waits for the reply to a request. Those to earlier ones are late: nobody waits for them any more.
async fn reply_to(commands: &mut ClusterCommands<u64>, number: u64) -> Result<Value, SourceError> {
    let mut failure = SourceError::Closed;
    loop {
        commands.exchange().await;
        if let Some(failed) = commands.take_failure() {
            failure = failed.error;
        }
        while let Some((done, result)) = commands.take_done() {
            match result {
                _ if done != number => {}
                Ok(reply) => return Ok(reply),
                Err(NoReply::Unsent | NoReply::Lost | NoReply::TimedOut) => return Err(failure),
            }
        }
    }
}
