//! One gateway of a fleet: how marks and questions go through Redis.
//!
//! A server has one order of messages; of a Cluster each node has one, which the sharded channels are in whose slots it owns.
//! [`member`] is the side of the pub/sub connection, which hears them in order with the messages that clients
//! get, and only there: an order is one connection to one server. [`publisher`] has a connection of its own,
//! since a pub/sub connection cannot publish (RESP2). Between them is the [`outbox`]. What is published is a
//! [`message`], which names the [`server`]: a `PUBLISH` at a replica is heard there alone.
//!
//! Does not know what the hub says in a message, nor when it says it.

mod inspect;
mod member;
mod message;
mod outbox;
mod peers;
mod publisher;
pub(super) mod server;
mod teller;

pub(super) use inspect::{FleetInspection, inspect, inspect_nodes};
pub(super) use member::{FleetMember, FleetOrder};
pub(super) use publisher::FleetPublisher;
