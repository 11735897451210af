//! Redis pub/sub: one connection that listens, for ever. Redis Streams: connections that read
//! ([`streams`]).
//!
//! The life of the subscription is ours ([`subscription`], and [`session`] for each connection), and
//! so is the way in which messages are read, many small ones together ([`gathering`]), from a [`socket`] that rests meanwhile: a client
//! library would hide a lost connection, queue without bound, or give up. Commands that ask and
//! answer never go over this connection.

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
