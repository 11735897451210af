//! The Redis source: one pub/sub connection, and connections that read Redis Streams ([`streams`]).
//!
//! The pub/sub connection is implemented here ([`subscription`], and [`session`] for each
//! connection), because a client library would hide a lost connection, queue without bound, or give
//! up. Small reads are coalesced ([`gathering`]), with the [`socket`] deregistered meanwhile. All
//! other commands use separate connections.

mod check;
mod connection;
mod error;
mod gathering;
mod greeting;
mod inspect;
mod life;
mod session;
mod socket;
mod streams;
mod subscription;

pub use error::SourceErrorKind;
pub use inspect::{Inspection, Read, inspect};
pub(crate) use streams::StreamReader;
pub(crate) use subscription::Subscriber;
