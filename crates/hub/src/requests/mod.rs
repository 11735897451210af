//! The way back: what the shards request of the hub, and the hub of its sources.
//!
//! Of several requests for one thing only the newest counts, so both ways are bounded by the number of
//! channels and streams, however often clients come and go.

pub(super) mod coalescing_queue;
pub(super) mod shard_request;
pub(super) mod source_request;
