//! Tests what presence needs of Redis, and leaves nothing behind.

use std::sync::Arc;

use ssegate_hub::ChannelName;
use tokio::time::Instant;

use super::command::{self, PresenceWriter, REPLIES};
use super::due;
use crate::route::PresenceSettings;
use crate::source::presence::{ChannelChange, LeaseChange, MemberChange};
use crate::source::redis::error::SourceError;
use crate::source::redis::keyed::KeyedConnection;

/// Who is said to listen.
const MEMBER: &str = "ssegate-check";

/// Tries what the routes with these settings need, on a channel that no client has.
pub(in super::super) async fn inspect(
    connection: &mut KeyedConnection,
    settings: &Arc<PresenceSettings>,
    channel: &str,
) -> Result<(), SourceError> {
    let unexpected = |error: &dyn ToString| SourceError::Unexpected(error.to_string());
    let name = ChannelName::new(channel).map_err(|error| unexpected(&error))?;
    let gateway: String = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
    let teller = PresenceWriter { gateway: &gateway, may_end: true };
    let change = |lease, streams| ChannelChange {
        name: name.clone(),
        prefix_bytes: 0,
        settings: Arc::clone(settings),
        is_beginning: true,
        lease,
        members: vec![MemberChange { id: MEMBER.into(), streams, since: Instant::now() }],
    };
    // The member joins and leaves in one step.
    let changes = [change(LeaseChange::Renewed, Some(1)), change(LeaseChange::Ended, None)];
    let told = command::update(connection, teller, &changes).await;
    command::queue_members(connection, &name);
    command::queue_count(connection, &name);
    let replies: Option<Vec<_>> = connection.replies().await?.into_iter().collect();
    let told = told?.into_iter().map(|(_, reply)| reply).collect::<Option<Vec<_>>>();
    let (Some(told), Some(replies)) = (told, replies) else {
        return Err(connection.why_unknown());
    };
    command::members(&replies[..REPLIES[1]])?;
    command::count(&replies[REPLIES[1]..])?;
    if let Some(fault) = told.into_iter().find_map(|reply| reply.fault) {
        let what = "PUBLISH of who joins and leaves";
        return Err(SourceError::Refused(fault).for_command(what));
    }
    due::inspect(connection, settings).await
}
