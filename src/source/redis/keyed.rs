//! Commands about keys: to the server, or in a Cluster to the owner of each key. One after the other, or several at once.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use ssegate_resp::Value;

use super::cluster::slot_of;
use super::connection::{ConnectionKind, RedisConnection};
use super::error::SourceError;
use super::keyed_pipeline::KeyedPipeline;
use super::server::RedisServer;

/// How long a command waits for a node that can execute it.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// The same, where others were sent together with it.
const NODE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection for commands about keys, or in a Cluster several, with the replies in the order of the commands.
#[derive(Debug)]
pub(super) struct KeyedConnection {
    // The tag is the number of the command.
    pipeline: KeyedPipeline<u64>,
    // The number of the next command, and of the oldest one whose reply is owed.
    next: u64,
    first: u64,
    failure: Option<SourceError>,
    // It is one node of a Cluster, to see what that permits: it may refuse what belongs to another one.
    is_node: bool,
}

impl KeyedConnection {
    /// Connects: to a Cluster at least to one of its nodes.
    ///
    /// # Errors
    /// No server can be reached.
    pub(super) async fn open(
        server: &RedisServer,
        max_reply_bytes: usize,
    ) -> Result<Self, SourceError> {
        if server.cluster().is_some() {
            drop(RedisConnection::open(server, max_reply_bytes, ConnectionKind::Command).await?);
        }
        Ok(Self::of(KeyedPipeline::open(server, max_reply_bytes, None).await?, false))
    }

    /// Commands to one node of a Cluster, whatever their keys, to see what it permits: it looks at the rights of the user
    /// before it says that another one owns a key, for which the reply is null here.
    pub(super) fn at_node(connection: RedisConnection) -> Self {
        Self::of(KeyedPipeline::over(connection), true)
    }

    fn of(pipeline: KeyedPipeline<u64>, is_node: bool) -> Self {
        Self { pipeline, next: 0, first: 0, failure: None, is_node }
    }

    /// What belongs together with this key: one command may be about keys for which it is the same.
    pub(super) fn place(&self, key: &str) -> Option<u16> {
        (!self.is_one_server()).then(|| slot_of(key.as_bytes()))
    }

    /// Whether any keys can be used in one command.
    pub(super) fn is_one_server(&self) -> bool {
        self.pipeline.is_one_server() && !self.is_node
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
        let words = std::iter::once(name).chain(arguments);
        let words = words.map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        self.send(key, words, SEND_TIMEOUT);
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
        self.send(Some(key), words, NODE_TIMEOUT);
    }

    /// As [`Self::queue`], with words that are text.
    pub(super) fn queue_text(&mut self, key: &str, words: &[&str]) {
        let words = words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes()));
        self.queue(key, words.collect());
    }

    fn send(&mut self, key: Option<&str>, words: Vec<Bytes>, wait: Duration) {
        self.pipeline.send_once(key, (self.next, words), wait);
        self.next += 1;
    }

    /// Returns the replies to all queued commands, in their order, error replies included. In a Cluster `None` stands
    /// for a command that no node could execute, or whose connection was lost; [`Self::why_unknown`] returns the
    /// reason.
    ///
    /// # Errors
    /// The connection to the server is lost, or it does not reply.
    pub(super) async fn replies(&mut self) -> Result<Vec<Option<Value>>, SourceError> {
        // Replies to earlier commands are late: nothing waits for them any more.
        let begin = std::mem::replace(&mut self.first, self.next);
        let count = usize::try_from(self.next - begin).unwrap_or_default();
        let (mut replies, mut left) = (vec![None; count], count);
        while left > 0 {
            let (done, failure) = self.pipeline.exchange().await?;
            if let Some(failed) = failure {
                self.failure = Some(failed.error);
            }
            for (number, result) in done {
                let place = number.checked_sub(begin).map(usize::try_from);
                if let Some(Ok(place)) = place
                    && let Some(reply) = replies.get_mut(place)
                {
                    *reply = result.map(|reply| self.permitted(reply));
                    left -= 1;
                }
            }
        }
        Ok(replies)
    }

    fn permitted(&self, reply: Value) -> Value {
        match &reply {
            Value::Error(message) if self.is_node && is_elsewhere(message) => Value::Null,
            _ => reply,
        }
    }

    /// Returns why a command has no reply.
    pub(super) fn why_unknown(&mut self) -> SourceError {
        let no_slots = || self.pipeline.is_without_slots().then_some(SourceError::NoSlots);
        // No node owns the slot, or its owner is not ready.
        let timed_out = SourceError::Timeout(NODE_TIMEOUT.as_secs());
        self.failure.take().or_else(no_slots).unwrap_or(timed_out)
    }

    /// Waits until the connection to the server is lost. A connection to a node of a Cluster is opened again when it is
    /// needed. Cancel safe. Call it only while no reply is pending.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn lost(&mut self) -> Result<Infallible, SourceError> {
        loop {
            drop(self.pipeline.exchange().await?);
        }
    }
}

/// Whether a node has said that another one serves the key of a command.
fn is_elsewhere(message: &[u8]) -> bool {
    [&b"MOVED "[..], b"ASK "].iter().any(|word| message.starts_with(word))
}
