//! Where streams are: in a Redis, or on the embedded bus of this gateway.

use std::fmt;
use std::io;

use redis::ConnectionAddr;
use ssegate_bus::{Broker, BusConnection};

use super::link::StreamLink;
use crate::source::redis::cluster::Cluster;
use crate::source::redis::cluster_commands::ClusterCommands;
use crate::source::redis::connection::{ConnectionKind, RedisConnection};
use crate::source::redis::error::SourceError;
use crate::source::redis::server::RedisServer;
use crate::source::redis::socket::RedisIo;

/// A server of streams. The embedded bus is read like a Redis, over connections within the process.
pub(crate) enum StreamServer {
    /// A Redis.
    Redis(RedisServer),
    /// The embedded bus.
    Bus(Broker),
}

impl StreamServer {
    /// Opens the connections for the commands of a session.
    pub(super) async fn open_link(
        &self,
        max_event_bytes: usize,
    ) -> Result<StreamLink, SourceError> {
        // In a Cluster this asks which node owns which slot.
        let connection = self.open(max_event_bytes, ConnectionKind::Command).await?;
        Ok(match self.cluster() {
            Some(at) => {
                const IS_BACK: &str = "connected again to a node of the Cluster";
                let commands = ClusterCommands::new(at, max_event_bytes, Some(IS_BACK));
                StreamLink::Cluster(Box::new(commands))
            }
            None => StreamLink::server(connection),
        })
    }

    /// The node that owns a slot of a Cluster.
    ///
    /// # Errors
    /// It is not known.
    pub(super) fn owner(&self, slot: u16) -> Result<ConnectionAddr, SourceError> {
        let owner = self.cluster().and_then(|(_, cluster)| cluster.owner(slot));
        owner.ok_or_else(|| SourceError::Redirected(format!("nobody owns the slot {slot} yet")))
    }

    /// Connects to this node of the Cluster.
    ///
    /// # Errors
    /// It cannot be reached, or this is no Cluster.
    pub(super) async fn open_node(
        &self,
        node: ConnectionAddr,
        max_event_bytes: usize,
    ) -> Result<RedisConnection, SourceError> {
        let (server, _) = self.cluster().ok_or(SourceError::NoCluster)?;
        RedisConnection::open_at_node(server, node, (max_event_bytes, ConnectionKind::Command))
            .await
    }

    /// The Redis, if it is one.
    pub(super) fn redis(&self) -> Option<&RedisServer> {
        match self {
            Self::Redis(server) => Some(server),
            Self::Bus(_) => None,
        }
    }

    /// The Cluster, if it is one.
    pub(super) fn cluster(&self) -> Option<(&RedisServer, &Cluster)> {
        match self {
            Self::Redis(server) => Some((server, server.cluster()?)),
            Self::Bus(_) => None,
        }
    }

    /// Connects, and completes the handshake.
    pub(super) async fn open(
        &self,
        max_event_bytes: usize,
        kind: ConnectionKind,
    ) -> Result<RedisConnection, SourceError> {
        match self {
            Self::Redis(server) => RedisConnection::open(server, max_event_bytes, kind).await,
            Self::Bus(broker) => {
                let stream = Box::new(broker.connect());
                RedisConnection::open_own(stream, max_event_bytes, kind).await
            }
        }
    }
}

impl RedisIo for BusConnection {
    /// There is no socket.
    fn deregister(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn register(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The address, for people.
impl fmt::Display for StreamServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis(server) => server.fmt(f),
            Self::Bus(_) => f.write_str("the embedded bus"),
        }
    }
}

impl fmt::Debug for StreamServer {
    /// Omits user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamServer({self})")
    }
}
