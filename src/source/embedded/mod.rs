//! The embedded bus: a small RESP listener inside this process, for when there is no Redis.
//!
//! [`Broker`] knows who listens to what and deals messages out; it knows neither sockets nor the
//! protocol's commands. [`serve`] accepts connections and runs a session for each: bytes in,
//! commands, replies and messages out. The gateway itself listens through an [`Outlet`], in the
//! same thread and the same turn. Everything here lives on one thread.
//!
//! It is meant for development and for small single machines: pub/sub only, no password, nothing is
//! stored.

mod broker;
mod command;
mod glob;
mod listener;
mod memory;
mod outbox;
mod outlet;
mod reply;
mod roster;
mod session;
mod source;
mod stats;
#[cfg(test)]
mod tests;
mod wire;

pub use broker::Broker;
pub use listener::serve;
pub use outlet::{Outlet, OutletHandle};
pub(crate) use source::listen;
pub use stats::BusStats;

/// The bounds of the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusSettings {
    /// The longest message, in bytes; a longer one is skipped while it is read, and told as too
    /// large.
    pub max_event_bytes: usize,
    /// Connections at once; one more is told so and closed.
    pub max_sessions: usize,
    /// Channels and patterns that all connections together may be subscribed to. What the gateway
    /// follows is not counted: the hub bounds it.
    pub max_subscriptions: usize,
    /// What may wait to be written to one connection, in bytes; a subscriber that would let more
    /// wait is disconnected. A message on its own is never too much. Redis' soft bound of
    /// `client-output-buffer-limit pubsub` is 8 MiB too
    /// (<https://redis.io/docs/latest/develop/reference/clients/#output-buffer-limits>).
    pub max_queued_bytes: usize,
    /// What all connections together may hold of unfinished commands, of what waits to be written and of
    /// names, in bytes. Above it the connection is cut that has got on least: on which nothing was read
    /// or written for longest.
    pub max_memory: usize,
}

impl BusSettings {
    /// The longest name of a channel or of a pattern, in bytes.
    pub const MAX_NAME_BYTES: usize = 1024;
    /// Who holds less than this is left alone when memory runs out, in bytes.
    pub(super) const SMALL: usize = 64 << 10;

    /// The least [`max_memory`](Self::max_memory) with which one message of the greatest length can
    /// come: the message itself, and what a command may hold beside it.
    pub fn least_memory(max_event_bytes: usize) -> usize {
        max_event_bytes.saturating_add(2 << 20)
    }
}

impl Default for BusSettings {
    fn default() -> Self {
        Self {
            max_event_bytes: 16 << 20,
            max_sessions: 1000,
            max_subscriptions: 100_000,
            max_queued_bytes: 8 << 20,
            max_memory: 64 << 20,
        }
    }
}
