//! The connection to one node that only receives sharded channels, and its commands without a reply yet.
//!
//! Replies are matched with the commands sent, which separates them from push messages. A reply that fits no command
//! ends the connection, so that no reply is taken for that of another command. Fleet messages come on this connection,
//! too: their channels are subscribed first.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ssegate_hub::{ChannelName, OrderId, Subscription};
use ssegate_resp::Value;
use tokio::time::{Instant, timeout};

use super::super::connection::{ConnectionKind, RedisConnection};
use super::super::error::SourceError;
use super::super::fleet::server::{ServerIdentity, identify};
use super::super::server::RedisServer;
use super::super::silence::Silence;
use super::super::socket::CONNECT_TIMEOUT;
use super::channels::ShardPlace;
use super::node_fleet::NodeFleet;

/// A node whose sharded channels are received.
pub(super) struct ShardNode {
    pub(super) place: ShardPlace,
    /// The order of what it sends on this connection.
    pub(super) order: OrderId,
    /// `None`: the gateway is on its own.
    pub(super) fleet: Option<NodeFleet>,
    link: ShardNodeLink,
    // In the order of sending; before the connection is open they are sent with it.
    pending: VecDeque<PendingCommand>,
    silence: Silence,
}

enum ShardNodeLink {
    Opening(Pin<Box<dyn Future<Output = Result<OpenedNode, SourceError>>>>),
    Open(Box<RedisConnection>),
}

/// A connection, and the server that it leads to; `None`: without a fleet nobody needs to know.
type OpenedNode = (RedisConnection, Option<ServerIdentity>);

/// A command about sharded channels.
#[derive(Debug)]
pub(super) enum ShardCommand {
    /// `SSUBSCRIBE`, for channels of one slot.
    Subscribe(Vec<ChannelName>),
    /// `SUNSUBSCRIBE`.
    Unsubscribe(ChannelName),
    /// `SUBSCRIBE` to a channel of the fleet.
    Fleet(Subscription),
    /// `PING`, for this fence.
    Ping(Option<u64>),
    /// `ROLE`, after `SSUBSCRIBE`, with the names of that command: they count if the node is a master.
    Role(Vec<ChannelName>),
}

struct PendingCommand {
    command: ShardCommand,
    // How many of its names are confirmed.
    confirmed: usize,
}

impl ShardNode {
    /// Connects to a node of `server`.
    pub(super) fn open(
        server: &RedisServer,
        (place, order): (ShardPlace, OrderId),
        fleet: Option<NodeFleet>,
        max_event_bytes: usize,
    ) -> Self {
        let (server, node, is_one_of_several) = (server.clone(), place.clone(), fleet.is_some());
        let opening = async move {
            let kind = ConnectionKind::PubSub;
            let mut connection = match node {
                None => RedisConnection::open(&server, max_event_bytes, kind).await?,
                Some(node) => {
                    RedisConnection::open_at_node(&server, node, (max_event_bytes, kind)).await?
                }
            };
            if !is_one_of_several {
                return Ok((connection, None));
            }
            let timed_out = SourceError::Timeout(CONNECT_TIMEOUT.as_secs());
            let identified = timeout(CONNECT_TIMEOUT, identify(&mut connection)).await;
            let identity = identified.unwrap_or(Err(timed_out))?;
            Ok((connection, Some(identity)))
        };
        let (link, pending) = (ShardNodeLink::Opening(Box::pin(opening)), VecDeque::new());
        Self { place, order, fleet, link, pending, silence: Silence::new(Instant::now()) }
    }

    /// Whether the connection is open.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.link, ShardNodeLink::Open(_))
    }

    /// Whether nothing is pending.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Sends a command, once the connection is open. A `PING` follows each `SUNSUBSCRIBE`: after its reply nothing more
    /// can come for that command. At a node of a Cluster `ROLE` follows each `SSUBSCRIBE`: its reply decides whether
    /// the subscription counts.
    pub(super) fn send(&mut self, command: ShardCommand) {
        let behind = match &command {
            ShardCommand::Unsubscribe(_) => Some(ShardCommand::Ping(None)),
            ShardCommand::Subscribe(_) if self.place.is_some() => {
                Some(ShardCommand::Role(Vec::new()))
            }
            _ => None,
        };
        self.push(command);
        behind.into_iter().for_each(|command| self.push(command));
    }

    fn push(&mut self, command: ShardCommand) {
        if let ShardNodeLink::Open(connection) = &mut self.link {
            queue(connection, &command);
        }
        self.pending.push_back(PendingCommand { command, confirmed: 0 });
    }

    /// Continues to connect, or to read. `Ready(Ok)`: values were read.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SourceError>> {
        match &mut self.link {
            ShardNodeLink::Opening(opening) => {
                let (connection, identity) = ready!(opening.as_mut().poll(cx))?;
                let mut connection = Box::new(connection);
                let own = self.fleet.as_mut().zip(identity);
                let own = own.map(|(fleet, identity)| fleet.member.begin(&identity));
                // The last one first.
                for subscription in own.into_iter().flatten().rev() {
                    let command = ShardCommand::Fleet(subscription);
                    self.pending.push_front(PendingCommand { command, confirmed: 0 });
                }
                self.pending.iter().for_each(|pending| queue(&mut connection, &pending.command));
                self.link = ShardNodeLink::Open(connection);
                self.silence.end(Instant::now());
                Poll::Ready(Ok(()))
            }
            ShardNodeLink::Open(connection) => {
                ready!(connection.poll_exchanged(cx))?;
                self.silence.end(Instant::now());
                Poll::Ready(Ok(()))
            }
        }
    }

    /// The next value that was read.
    pub(super) fn next_value(&mut self) -> Result<Option<Value>, SourceError> {
        match &mut self.link {
            ShardNodeLink::Opening(_) => Ok(None),
            ShardNodeLink::Open(connection) => connection.next_value(),
        }
    }

    /// Takes the command that the next reply belongs to.
    pub(super) fn pop(&mut self) -> Option<ShardCommand> {
        self.pending.pop_front().map(|pending| pending.command)
    }

    /// Takes the command that an error belongs to. A `PING` is never refused: an error in its place belongs to the
    /// `SUNSUBSCRIBE` before it, for which a push message of the node was taken
    /// (<https://github.com/valkey-io/valkey/issues/1066>).
    pub(super) fn take_refused(&mut self) -> Option<ShardCommand> {
        let front = self.pending.front().map(|pending| &pending.command);
        match front {
            Some(ShardCommand::Ping(_)) => None,
            _ => self.pop(),
        }
    }

    /// Confirms one name of the next command. After the last one, returns all names of the command, if they count
    /// without waiting for `ROLE`.
    ///
    /// # Errors
    /// Nobody has asked for it.
    pub(super) fn confirm(
        &mut self,
        name: &ChannelName,
    ) -> Result<Option<Vec<ChannelName>>, SourceError> {
        let unexpected = || SourceError::Unexpected(format!("ssubscribe of {name:?}"));
        let front = self.pending.front_mut().ok_or_else(unexpected)?;
        let ShardCommand::Subscribe(names) = &front.command else { return Err(unexpected()) };
        if names.get(front.confirmed) != Some(name) {
            return Err(unexpected());
        }
        front.confirmed += 1;
        let is_last = front.confirmed == names.len();
        let Some(ShardCommand::Subscribe(names)) = is_last.then(|| self.pop()).flatten() else {
            return Ok(None);
        };
        match self.pending.front_mut().map(|pending| &mut pending.command) {
            Some(ShardCommand::Role(unproven)) if unproven.is_empty() => {
                *unproven = names;
                Ok(None)
            }
            _ => Ok(Some(names)),
        }
    }

    /// Takes the names that the reply to `ROLE` confirms or rejects.
    ///
    /// # Errors
    /// Nobody has asked for it.
    pub(super) fn take_unproven(&mut self) -> Result<Vec<ChannelName>, SourceError> {
        match self.pop() {
            Some(ShardCommand::Role(names)) => Ok(names),
            _ => Err(SourceError::Unexpected("an array that nobody has asked for".into())),
        }
    }

    /// Forgets a channel that the node has unsubscribed by itself before its reply to `ROLE`. Returns whether there was
    /// one.
    pub(super) fn forget_unproven(&mut self, name: &ChannelName) -> bool {
        let front = self.pending.front_mut().map(|pending| &mut pending.command);
        let Some(ShardCommand::Role(names)) = front else { return false };
        let before = names.len();
        names.retain(|unproven| unproven != name);
        names.len() < before
    }

    /// Takes the reply to a `SUBSCRIBE`.
    ///
    /// # Errors
    /// Nobody has asked for it.
    pub(super) fn take_joined(&mut self, name: &[u8]) -> Result<(), SourceError> {
        match self.pop() {
            Some(ShardCommand::Fleet(own)) if own.name.as_str().as_bytes() == name => Ok(()),
            other => Err(SourceError::Unexpected(format!("subscribe to one, and not {other:?}"))),
        }
    }

    /// Returns whether the next command is `SUNSUBSCRIBE` for this channel, and takes it if so.
    pub(super) fn take_unsubscribed(&mut self, name: &ChannelName) -> bool {
        let front = self.pending.front().map(|pending| &pending.command);
        let is_asked = matches!(front, Some(ShardCommand::Unsubscribe(left)) if left == name);
        if is_asked {
            self.pop();
        }
        is_asked
    }

    /// Sends a `PING` if the connection is silent.
    ///
    /// # Errors
    /// It has been silent for too long.
    pub(super) fn check_liveness(&mut self, now: Instant) -> Result<(), SourceError> {
        if matches!(self.link, ShardNodeLink::Open(_)) && self.silence.check(now)? {
            let is_ping =
                |pending: &PendingCommand| matches!(pending.command, ShardCommand::Ping(_));
            if !self.pending.iter().any(is_ping) {
                self.send(ShardCommand::Ping(None));
            }
        }
        Ok(())
    }
}

/// Queues a command, with channel names as Redis knows them.
fn queue(connection: &mut RedisConnection, command: &ShardCommand) {
    let names = |names: &[ChannelName]| -> Vec<String> {
        names.iter().filter_map(|name| name.as_sharded()).map(str::to_owned).collect()
    };
    let (word, names) = match command {
        ShardCommand::Subscribe(all) => ("SSUBSCRIBE", names(all)),
        ShardCommand::Unsubscribe(name) => ("SUNSUBSCRIBE", names(std::slice::from_ref(name))),
        ShardCommand::Fleet(own) => ("SUBSCRIBE", vec![own.name.as_str().to_owned()]),
        ShardCommand::Ping(_) => ("PING", Vec::new()),
        ShardCommand::Role(_) => ("ROLE", Vec::new()),
    };
    connection.queue(word, names.iter().map(String::as_str));
}

impl fmt::Debug for ShardNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardNode").field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo as _;
    use ssegate_hub::{ChannelName, OrderId};

    use super::{RedisServer, ShardCommand, ShardNode};
    use crate::source::redis::location::RedisLocation;

    #[test]
    fn what_a_node_unsubscribes_by_itself_is_no_reply() {
        let info = "redis://127.0.0.1:1".into_connection_info().expect("a URL");
        let server = RedisServer::new(RedisLocation::server(&info));
        let [a, b] = ["a", "b"].map(|name| ChannelName::sharded(name).expect("a name"));
        let mut node = ShardNode::open(&server, (None, OrderId::PLAIN), None, 1);
        node.send(ShardCommand::Subscribe(vec![a.clone()]));
        assert!(!node.take_unsubscribed(&a), "nobody has asked for it");
        assert_eq!(node.confirm(&a).expect("asked"), Some(vec![a.clone()]));
        assert!(node.confirm(&a).is_err());
        // The node unsubscribes by itself and then refuses the command: neither reply belongs to a later command.
        node.send(ShardCommand::Unsubscribe(a.clone()));
        node.send(ShardCommand::Subscribe(vec![b.clone()]));
        assert!(node.take_unsubscribed(&a));
        assert!(node.take_refused().is_none());
        assert!(matches!(node.pop(), Some(ShardCommand::Ping(None))));
        assert_eq!(node.confirm(&b).expect("asked"), Some(vec![b]));
        // The node only refuses the command.
        node.send(ShardCommand::Unsubscribe(a));
        assert!(matches!(node.take_refused(), Some(ShardCommand::Unsubscribe(_))));
        assert!(matches!(node.pop(), Some(ShardCommand::Ping(None))));
        assert!(node.is_idle());
    }
}
