//! What connects the hub with one shard.

use std::sync::Arc;

use super::queue_budget::QueueBudget;
use crate::inbox::Inbox;
use crate::position::event_id::RunTag;
use crate::requests::shard_request::ShardRequests;

/// The ways between the hub and one shard, on their way to the thread of the shard.
#[derive(Debug)]
pub struct ShardLink {
    pub(crate) shard: usize,
    pub(crate) run: RunTag,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) requests: Arc<ShardRequests>,
    pub(crate) queues: Arc<QueueBudget>,
}
