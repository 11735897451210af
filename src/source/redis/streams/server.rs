//! Where streams are: in a Redis, or on the embedded bus of this gateway.

use std::fmt;
use std::io;

use ssegate_bus::{Broker, BusConnection};

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
