//! Tries what presence needs of Redis, and leaves nothing behind.

use std::sync::Arc;

use ssegate_hub::ChannelName;
use tokio::time::Instant;

use super::command::{self, PresenceTeller, REPLIES, read_reply};
use super::due;
use crate::route::PresenceSettings;
use crate::source::presence::{ChannelChange, LeaseChange, MemberChange};
use crate::source::redis::connection::RedisConnection;
use crate::source::redis::error::SourceError;

/// A channel that no client has.
const CHANNEL: &str = "ssegate-check";

/// Tries what the routes with these settings need.
pub(in super::super) async fn inspect(
    connection: &mut RedisConnection,
    settings: &Arc<PresenceSettings>,
) -> Result<(), SourceError> {
    let unexpected = |error: &dyn ToString| SourceError::Unexpected(error.to_string());
    let name = ChannelName::new(CHANNEL).map_err(|error| unexpected(&error))?;
    let gateway: String = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
    let teller = PresenceTeller { gateway: &gateway, may_end: true };
    let change = |lease, streams| ChannelChange {
        name: name.clone(),
        prefix_bytes: 0,
        settings: Arc::clone(settings),
        is_beginning: true,
        lease,
        members: vec![MemberChange { id: CHANNEL.into(), streams, since: Instant::now() }],
    };
    // It comes and goes in one step.
    let changes = [change(LeaseChange::Renewed, Some(1)), change(LeaseChange::Ended, None)];
    command::queue_update(connection, teller, &changes);
    command::queue_members(connection, &name);
    command::queue_count(connection, &name);
    let told = command::update_replies(&read_reply(connection).await?, changes.len());
    let mut replies = Vec::new();
    for _ in 0..REPLIES.iter().sum() {
        replies.push(read_reply(connection).await?);
    }
    let told = told?;
    command::members(&replies[..REPLIES[1]])?;
    command::count(&replies[REPLIES[1]..])?;
    if let Some(fault) = told.into_iter().find_map(|reply| reply.fault) {
        let what = "PUBLISH of who joins and leaves";
        return Err(SourceError::Refused(fault).for_command(what));
    }
    due::inspect(connection, settings).await
}
