//! Kept streams that all gateways share: the calls to Redis, and the replies.
//!
//! Each stream has a hash and a Redis Stream under one hash tag. The hash describes the stream, and has the lease of
//! its gateway. The Redis Stream has what the backend has sent. Each name has an index of its streams. A [`KeptStore`]
//! is the handle of the gateway's threads. Its requests cross over to the thread of the source as [`KeptCall`]s, and
//! become scripts there ([`redis::kept`](super::redis)). A [`KeptWatch`] is woken by what other gateways publish about
//! a stream.
//!
//! Knows neither HTTP nor what is in a stream.

mod emptied;
mod record;
mod scripts;
mod store;
mod trial;
mod watch;

pub use record::{
    AppendOutcome, AppendRecord, BeginRecord, IndexEntry, IndexOutcome, IndexStep, PumpRecord,
    ReadRecord, StoredPart, StoredRecord,
};
pub use store::{KeptAway, KeptStore};
pub(crate) use store::{KeptCall, KeptLink};
pub(crate) use trial::{trial, trial_fault};
pub use watch::KeptWatch;
