//! Kept streams that all gateways know: what is asked of Redis, and what it replies.
//!
//! Of each stream there is a hash, which says what it is and until when its gateway is taken to live, and a Redis Stream
//! with what the backend has sent, both under one hash tag; and of each name an index. A [`KeptStore`] is the handle of
//! the gateway's threads. What it asks crosses over to the thread of the source as a [`KeptCall`], and becomes a script
//! there ([`redis::kept`](super::redis)). What gateways tell each other of a stream, wherever it runs, is a
//! [`KeptWatch`].
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
