//! Where streams are: in a Redis, or on the embedded bus of this gateway.

use std::fmt;
use std::io;

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
            Some((server, cluster)) => StreamLink::Cluster(Box::new(ClusterCommands::new(
                server,
                cluster,
                max_event_bytes,
            ))),
            None => StreamLink::server(connection),
        })
    }

    /// Connects to the node that owns a slot of a Cluster.
    pub(super) async fn open_owner(
        &self,
        slot: u16,
        max_event_bytes: usize,
    ) -> Result<RedisConnection, SourceError> {
        let found = self.cluster();
        let (server, owner) = found
            .and_then(|(server, cluster)| Some((server, cluster.owner(slot)?)))
            .ok_or_else(|| SourceError::Redirected(format!("nobody owns the slot {slot} yet")))?;
        RedisConnection::open_at_node(server, owner, (max_event_bytes, ConnectionKind::Command))
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
