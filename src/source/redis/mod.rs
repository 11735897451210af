//! The Redis source: one pub/sub connection, and connections that read Redis Streams ([`streams`]).
//!
//! The pub/sub connection is implemented here ([`pubsub`], and [`session`] for each
//! connection), because a client library would hide a lost connection, queue without bound, or give
//! up. Small reads are coalesced ([`coalescing`]), with the [`socket`] deregistered meanwhile. All
//! other commands use separate connections, and so does the control channel ([`control`]). What gateways of a fleet
//! publish for each other comes on the pub/sub connection, in order with the messages ([`fleet`]). [`recorded`]
//! channels have two connections of their own. The address of the server ([`server`]) is configured, named by sentinels
//! ([`sentinel`]), or that of a node of a [`cluster`]. In a Cluster each key is at the node that owns its slot
//! ([`keyed`]), and so is each [`sharded`] channel.

mod check;
mod cluster;
mod cluster_commands;
mod cluster_watch;
mod coalescing;
mod connection;
mod control;
mod durability;
mod error;
mod feed;
mod fleet;
mod handshake;
mod inspect;
mod kept;
mod keyed;
mod keyed_pipeline;
mod listening;
mod location;
mod lost_nodes;
mod pending;
mod presence;
mod problem;
mod publishing;
mod pubsub;
mod read_trial;
mod recorded;
mod redis_read;
mod retry;
pub(crate) mod script;
mod sentinel;
mod sentinel_watch;
mod server;
mod session;
mod sharded;
mod silence;
mod socket;
mod streams;

pub(crate) use cluster_watch::ClusterWatch;
pub(crate) use control::ControlChannel;
pub use control::publish_revocation;
pub use durability::DurabilityRisk;
pub use error::SourceErrorKind;
pub use inspect::{Inspection, inspect};
pub(crate) use kept::RedisKept;
pub use location::{ClusterAddress, RedisAddress, RedisLocation, SentinelAddress};
pub(crate) use presence::RedisPresence;
pub use problem::RedisProblem;
pub(crate) use publishing::RedisPublisher;
pub(crate) use pubsub::PubSub;
pub(crate) use recorded::{RecordMemory, Recording};
pub use redis_read::RedisRead;
pub(crate) use sentinel_watch::SentinelWatch;
pub use server::RedisServer;
pub(crate) use sharded::{ShardedPubSub, ShardedRecording};
pub(crate) use streams::{StreamReader, StreamServer};
