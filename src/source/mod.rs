//! Sources of events: Redis pub/sub and Redis Streams, or the embedded bus.

pub(crate) mod bus_feed;
pub(crate) mod intake;
pub mod redis;

use std::net::SocketAddr;

/// The settings of the source.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Where messages come from.
    pub location: SourceLocation,
    /// The longest message, in bytes. A longer one is discarded while it is read, and reported to
    /// its subscribers as a gap.
    pub max_event_bytes: usize,
    /// Bytes that the connections of the embedded bus may hold together.
    pub max_bus_memory: usize,
}

/// Where messages come from.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "one per process")]
pub enum SourceLocation {
    /// `embedded://host:port`: a bus inside this process, which listens on this address.
    Embedded(SocketAddr),
    /// `redis://`, `rediss://` or `redis+unix://`.
    Redis(::redis::ConnectionInfo),
}

impl SourceLocation {
    /// Whether `other` is the same server and database, with the same user and password.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Embedded(address), Self::Embedded(other)) => address == other,
            (Self::Redis(info), Self::Redis(other)) => {
                let (user, other_user) = (info.redis_settings(), other.redis_settings());
                info.addr() == other.addr()
                    && user.db() == other_user.db()
                    && user.username() == other_user.username()
                    && user.password() == other_user.password()
            }
            (Self::Embedded(_), Self::Redis(_)) | (Self::Redis(_), Self::Embedded(_)) => false,
        }
    }
}

impl std::fmt::Debug for SourceLocation {
    /// Omits user and password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded(address) => write!(f, "embedded://{address}"),
            Self::Redis(info) => write!(f, "{}", info.addr()),
        }
    }
}
