//! What connects the hub with one shard.

use std::sync::Arc;

use super::queue_budget::QueueBudget;
use crate::hub::inbox::Inbox;
use crate::hub::position::event_id::RunTag;
use crate::hub::requests::shard_request::ShardRequests;

/// The ways between the hub and one shard, on their way to the thread of the shard.
#[derive(Debug)]
pub struct ShardLink {
    pub(in crate::hub) shard: usize,
    pub(in crate::hub) run: RunTag,
    pub(in crate::hub) inbox: Arc<Inbox>,
    pub(in crate::hub) requests: Arc<ShardRequests>,
    pub(in crate::hub) queues: Arc<QueueBudget>,
}
