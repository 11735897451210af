//! Where events come from: Redis pub/sub and Redis Streams, or the embedded bus.

pub mod decode;
pub mod embedded;
pub(crate) mod intake;
pub mod redis;
pub mod resp;

use std::net::SocketAddr;

/// What is listened to.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// The place itself.
    pub location: SourceLocation,
    /// A longer message is skipped while it is read, and told as a gap. In bytes.
    pub max_event_bytes: usize,
    /// What the connections of the embedded bus may hold together, in bytes.
    pub max_bus_memory: usize,
}

/// The two kinds of place that messages come from.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
pub enum SourceLocation {
    /// `embedded://host:port`: a bus inside this process, listening there.
    Embedded(SocketAddr),
    /// `redis://`, `rediss://` or `redis+unix://`.
    Redis(::redis::ConnectionInfo),
}

impl SourceLocation {
    /// Whether `other` is the same place, with the same user.
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
    /// Leaves out user and password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded(address) => write!(f, "embedded://{address}"),
            Self::Redis(info) => write!(f, "{}", info.addr()),
        }
    }
}
