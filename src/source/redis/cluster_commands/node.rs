//! The connection to one node, and the commands whose replies are pending.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use redis::ConnectionAddr;
use ssegate_resp::Value;
use tokio::time::Instant;

use super::super::connection::{ConnectionKind, RedisConnection};
use super::super::error::SourceError;
use super::super::server::RedisServer;
use super::RoutedCommand;

/// A node that commands are sent to.
pub(super) struct CommandNode<T> {
    pub(super) address: ConnectionAddr,
    /// When something was last sent or received.
    pub(super) used: Instant,
    link: NodeLink<T>,
    // The error that ended it, after replies that are still to be handled.
    ended: Option<SourceError>,
}

enum NodeLink<T> {
    Opening { opening: Opening, waiting: Vec<RoutedCommand<T>> },
    Open { connection: Box<RedisConnection>, pending: VecDeque<OwedReply<T>>, queued_bytes: u64 },
}

/// Commands, each with its reply.
type CommandReplies<T> = Vec<(RoutedCommand<T>, Value)>;

type Opening = Pin<Box<dyn Future<Output = Result<RedisConnection, SourceError>>>>;

/// A command whose reply is pending.
struct OwedReply<T> {
    // `None`: the reply to `ASKING`.
    command: Option<RoutedCommand<T>>,
    // The offset of its first byte in all bytes that were queued.
    starts_at: u64,
    since: Instant,
}

/// A command whose connection is lost.
pub(super) struct LostCommand<T> {
    pub(super) command: RoutedCommand<T>,
    /// Nothing of it was written.
    pub(super) is_unsent: bool,
}

impl<T> CommandNode<T> {
    /// Connects to the node at `address` of `server`.
    pub(super) fn open(
        server: &RedisServer,
        address: ConnectionAddr,
        max_reply_bytes: usize,
    ) -> Self {
        let (server, node) = (server.clone(), address.clone());
        let opening = Box::pin(async move {
            RedisConnection::open_at_node(&server, node, (max_reply_bytes, ConnectionKind::Command))
                .await
        });
        let link = NodeLink::Opening { opening, waiting: Vec::new() };
        Self { address, used: Instant::now(), link, ended: None }
    }

    /// Sends a command, once the connection is open.
    pub(super) fn send(&mut self, command: RoutedCommand<T>) {
        self.used = Instant::now();
        match &mut self.link {
            NodeLink::Opening { waiting, .. } => waiting.push(command),
            NodeLink::Open { connection, pending, queued_bytes } => {
                queue(command, connection, pending, queued_bytes);
            }
        }
    }

    /// Whether the connection is open.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.link, NodeLink::Open { .. })
    }

    /// The number of bytes that wait to be written.
    pub(super) fn unsent_bytes(&self) -> usize {
        match &self.link {
            NodeLink::Opening { .. } => 0,
            NodeLink::Open { connection, .. } => connection.unsent_bytes(),
        }
    }

    /// Whether no reply is pending.
    pub(super) fn is_idle(&self) -> bool {
        match &self.link {
            NodeLink::Opening { .. } => false,
            NodeLink::Open { pending, .. } => pending.is_empty(),
        }
    }

    /// Whether a reply is pending for longer than `most`.
    pub(super) fn is_late(&self, now: Instant, most: Duration) -> bool {
        match &self.link {
            // Opening has a time limit of its own.
            NodeLink::Opening { .. } => false,
            NodeLink::Open { pending, .. } => {
                pending.front().is_some_and(|owed| owed.since + most <= now)
            }
        }
    }

    /// Goes on with connecting, or returns the replies that have come.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<CommandReplies<T>, SourceError>> {
        if let Some(error) = self.ended.take() {
            return Poll::Ready(Err(error));
        }
        match &mut self.link {
            NodeLink::Opening { opening, waiting } => {
                let mut connection = Box::new(ready!(opening.as_mut().poll(cx))?);
                let (mut pending, mut queued_bytes) = (VecDeque::new(), 0);
                for command in std::mem::take(waiting) {
                    queue(command, &mut connection, &mut pending, &mut queued_bytes);
                }
                self.link = NodeLink::Open { connection, pending, queued_bytes };
                Poll::Ready(Ok(Vec::new()))
            }
            NodeLink::Open { connection, pending, .. } => {
                ready!(connection.poll_exchanged(cx))?;
                self.used = Instant::now();
                let (replies, ended) = replies(connection, pending);
                self.ended = ended;
                Poll::Ready(Ok(replies))
            }
        }
    }

    /// The commands without a reply, in their order.
    pub(super) fn into_commands(self) -> Vec<LostCommand<T>> {
        match self.link {
            NodeLink::Opening { waiting, .. } => {
                let lost = |command| LostCommand { command, is_unsent: true };
                waiting.into_iter().map(lost).collect()
            }
            NodeLink::Open { connection, pending, queued_bytes } => {
                let sent_bytes = queued_bytes - connection.unsent_bytes() as u64;
                let lost = |owed: OwedReply<T>| {
                    let is_unsent = owed.starts_at >= sent_bytes;
                    owed.command.map(|command| LostCommand { command, is_unsent })
                };
                pending.into_iter().filter_map(lost).collect()
            }
        }
    }
}

fn queue<T>(
    command: RoutedCommand<T>,
    connection: &mut RedisConnection,
    pending: &mut VecDeque<OwedReply<T>>,
    queued_bytes: &mut u64,
) {
    let (starts_at, since) = (*queued_bytes, Instant::now());
    let before = connection.unsent_bytes();
    // <https://redis.io/docs/latest/commands/asking/>: for the next command alone.
    if command.asks.is_some() {
        connection.queue_bytes(&[Bytes::from_static(b"ASKING")]);
        pending.push_back(OwedReply { command: None, starts_at, since });
    }
    connection.queue_bytes(&command.command.words);
    pending.push_back(OwedReply { command: Some(command), starts_at, since });
    *queued_bytes += (connection.unsent_bytes() - before) as u64;
}

/// The replies that were read, each with its command, and the error after them.
fn replies<T>(
    connection: &mut RedisConnection,
    pending: &mut VecDeque<OwedReply<T>>,
) -> (CommandReplies<T>, Option<SourceError>) {
    let mut replies = Vec::new();
    loop {
        let value = match connection.next_value() {
            Ok(Some(Value::Push(_))) => continue,
            Ok(Some(value)) => value,
            Ok(None) => return (replies, None),
            Err(error) => return (replies, Some(error)),
        };
        let Some(owed) = pending.pop_front() else {
            return (replies, Some(SourceError::Unexpected(format!("{value:?}"))));
        };
        replies.extend(owed.command.map(|command| (command, value)));
    }
}
