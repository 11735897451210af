//! Requests between the shards, the hub and its sources.

pub(super) mod coalescing_queue;
pub(super) mod shard_request;
