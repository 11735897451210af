//! Where events come from: Redis pub/sub, or the embedded bus.

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

impl std::fmt::Debug for SourceLocation {
    /// Leaves out user and password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded(address) => write!(f, "embedded://{address}"),
            Self::Redis(info) => write!(f, "{}", info.addr()),
        }
    }
}
