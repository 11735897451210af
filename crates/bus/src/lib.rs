#![doc = include_str!("../README.md")]
//!
//! # The way of a message
//!
//! 1. [`listener`]: accepts a connection, within the limit, and owns its session.
//! 2. [`session`]: reads commands, in batches, and writes what is queued.
//! 3. [`command`]: finds the command in its table and runs it.
//! 4. [`broker`]: owns the subscriptions ([`subscriptions`], [`ssegate_glob`]) and distributes a message. It knows
//!    neither sockets nor commands: a connection is an [`outbox`] here, a part of this process an
//!    [`outlet`].
//! 5. [`message`]: encodes it, at most once for each version of RESP.
//! 6. [`outbox`]: the output queue of a connection, which its session writes.
//!
//! Streams are beside it: [`stream_access`] adds entries to [`streams`] and wakes their readers.
//!
//! [`memory`] counts what connections hold, and [`stats`] what happened to them.

mod broker;
mod command;
mod listener;
mod memory;
mod message;
mod outbox;
mod outlet;
mod outlet_handle;
mod own_connection;
mod reply;
mod session;
mod settings;
mod stats;
mod stream_access;
mod streams;
mod subscriptions;
#[cfg(test)]
mod tests;
mod warning;

pub use broker::Broker;
pub use listener::serve;
pub use outlet::Outlet;
pub use outlet_handle::OutletHandle;
pub use own_connection::BusConnection;
pub use session::serve_connection;
pub use settings::BusSettings;
pub use stats::BusStats;
pub use streams::EntryRefused;
