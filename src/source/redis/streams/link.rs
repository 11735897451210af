//! The path of a session's commands: to the one server, or in a Cluster to the owner of each
//! stream.

use std::collections::VecDeque;

use bytes::Bytes;
use ssegate_resp::Value;

use super::command::StreamCommand;
use crate::source::redis::cluster::slot_of;
use crate::source::redis::cluster_commands::{
    ClusterCommands, CommandTarget, KeyCommand, NoReply, NodeFailure,
};
use crate::source::redis::connection::RedisConnection;
use crate::source::redis::error::SourceError;

/// Sends the commands of a session, and returns each with its reply.
#[derive(Debug)]
pub(super) enum StreamLink {
    /// Replies arrive in the order of the commands.
    Server { connection: Box<RedisConnection>, pending: VecDeque<StreamCommand> },
    /// In a Cluster the replies about one stream arrive in the order of its commands.
    Cluster(Box<ClusterCommands<StreamCommand>>),
}

impl StreamLink {
    /// A link over one connection.
    pub(super) fn server(connection: RedisConnection) -> Self {
        Self::Server { connection: Box::new(connection), pending: VecDeque::new() }
    }

    /// Whether streams are at several nodes.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// Whether no reply is pending.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Server { pending, .. } => pending.is_empty(),
            Self::Cluster(commands) => commands.is_idle(),
        }
    }

    /// Sends a command.
    pub(super) fn send<'a>(
        &mut self,
        name: &'a str,
        arguments: impl ExactSizeIterator<Item = &'a str>,
        command: StreamCommand,
    ) {
        match self {
            Self::Server { connection, pending } => {
                connection.queue(name, arguments);
                pending.push_back(command);
            }
            Self::Cluster(commands) => {
                let words = std::iter::once(name.as_bytes()).chain(arguments.map(str::as_bytes));
                let words = words.map(Bytes::copy_from_slice).collect();
                let slot = command.stream().map(|name| slot_of(name.as_str().as_bytes()));
                let target = match &command {
                    StreamCommand::Unblock(Some(node)) => CommandTarget::Node(node.clone()),
                    _ => slot.map_or(CommandTarget::AnyNode, CommandTarget::Slot),
                };
                // All commands only read.
                let (is_repeatable, deadline, tag) = (true, None, command);
                commands.send(KeyCommand { words, target, is_repeatable, deadline, tag });
            }
        }
    }

    /// Waits until a reply or a failure arrives. Cancel safe.
    ///
    /// # Errors
    /// The connection to the one server is lost.
    pub(super) async fn exchange(&mut self) -> Result<(), SourceError> {
        match self {
            Self::Server { connection, .. } => connection.exchange().await,
            Self::Cluster(commands) => {
                commands.exchange().await;
                Ok(())
            }
        }
    }

    /// The next command that has its reply.
    ///
    /// # Errors
    /// A reply belongs to no command.
    pub(super) fn next(&mut self) -> Result<Option<(StreamCommand, Value)>, SourceError> {
        match self {
            Self::Server { connection, pending } => loop {
                match connection.next_value()? {
                    None => return Ok(None),
                    // Not a reply.
                    Some(Value::Push(_)) => {}
                    Some(value) => match pending.pop_front() {
                        Some(command) => return Ok(Some((command, value))),
                        None => return Err(SourceError::Unexpected(format!("{value:?}"))),
                    },
                }
            },
            Self::Cluster(commands) => Ok(commands.take_done().map(|done| match done {
                (command, Ok(reply)) => (command, reply),
                // Only a command for a certain node is not repeated until it has a reply.
                (command, Err(NoReply::Unsent | NoReply::Lost | NoReply::TimedOut)) => {
                    (command, Value::Null)
                }
            })),
        }
    }

    /// The next failure of a node of a Cluster.
    pub(super) fn take_failure(&mut self) -> Option<NodeFailure> {
        match self {
            Self::Server { .. } => None,
            Self::Cluster(commands) => commands.take_failure(),
        }
    }

    /// The commands whose replies are pending, at the one server.
    #[cfg(test)]
    pub(super) fn pending(&self) -> &VecDeque<StreamCommand> {
        match self {
            Self::Server { pending, .. } => pending,
            Self::Cluster(_) => panic!("it is no Cluster"),
        }
    }
}
