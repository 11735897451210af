//! One gateway of a fleet: how marks and questions go through Redis.
//!
//! A server has one order of messages. In a Cluster each node has one, for the sharded channels in its slots.
//! [`member`] is the side of the pub/sub connection. It receives marks and questions in order with the messages that
//! clients get, and only there: an order is one connection to one server. [`publisher`] has a connection of its own,
//! since a pub/sub connection cannot publish (RESP2). Between them is the [`outbox`]. What is published is a
//! [`message`], which names the [`server`]: only subscribers of a replica receive a `PUBLISH` at the replica.
//!
//! Does not know the content of the messages, nor when the hub sends them.

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
