//! Channels whose gateways may all have died, so that nobody would say that they were vacated.
//!
//! A sorted set for each webhook has its channels, each with the time at which its leases are over. Every gateway whose
//! routes have that webhook looks for those that are due, and lets the script end them: whoever is first tells it.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use ssegate_hub::ChannelName;
use ssegate_resp::Value;

use super::command::{self, LEASE_MILLIS, PresenceTeller, millis, read_reply};
use crate::route::PresenceSettings;
use crate::source::presence::{ChannelChange, LeaseChange, WatchedRoute};
use crate::source::redis::connection::RedisConnection;
use crate::source::redis::error::SourceError;
use crate::webhook::{WebhookEvent, Webhooks};

/// How often a gateway looks for channels that are due.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// Channels that are ended at once, at most.
const MAX_DUE: usize = 50;

/// The key of the set for the webhook of a route; `None`: it has none.
fn key(settings: &PresenceSettings, prefix_bytes: usize) -> Option<String> {
    let url = &settings.on_vacated.as_ref()?.url;
    let hash = digest(&SHA256, format!("{prefix_bytes} {url}").as_bytes());
    let hex = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}"));
    Some(format!("ssegate:presence:due:{}", hex.collect::<String>()))
}

/// Notes when the leases of these channels are over, or that they have no member any more, as the script said at
/// these times. Returns the number of replies.
pub(super) fn queue_notes<'a>(
    connection: &mut RedisConnection,
    changes: impl Iterator<Item = (&'a ChannelChange, Option<WebhookEvent>, u64)>,
) -> usize {
    let mut count = 0;
    for (change, event, time_ms) in changes {
        let Some(key) = key(&change.settings, change.prefix_bytes) else { continue };
        let name = change.name.as_str();
        match event {
            Some(WebhookEvent::Vacated) => {
                connection.queue("ZREM", [key.as_str(), name].into_iter());
            }
            _ => {
                let due = (time_ms + LEASE_MILLIS).to_string();
                connection.queue("ZADD", [key.as_str(), due.as_str(), name].into_iter());
            }
        }
        count += 1;
    }
    count
}

/// Ends what is due on these routes.
///
/// # Errors
/// The connection failed, or Redis refuses it.
pub(super) async fn end_due(
    connection: &mut RedisConnection,
    (routes, teller, webhooks): (&[WatchedRoute], PresenceTeller<'_>, &Webhooks),
) -> Result<(), SourceError> {
    for route in routes {
        let Some(key) = key(&route.settings, route.prefix_bytes) else { continue };
        let changes = due(connection, &key, route).await?;
        if changes.is_empty() {
            continue;
        }
        command::queue_update(connection, teller, &changes);
        let names = changes.iter().map(|change| change.name.as_str());
        let words: Vec<&str> = [key.as_str()].into_iter().chain(names).collect();
        connection.queue("ZREM", words.into_iter());
        let reply = read_reply(connection).await?;
        for (change, reply) in changes.iter().zip(command::update_replies(&reply, changes.len())?) {
            if let Some(event) = reply.event {
                change.tell(webhooks, event, reply.time_ms);
            }
        }
        refused(read_reply(connection).await?)?;
    }
    Ok(())
}

/// Tries what is needed, and changes nothing.
pub(super) async fn inspect(
    connection: &mut RedisConnection,
    settings: &PresenceSettings,
) -> Result<(), SourceError> {
    let Some(key) = key(settings, 0) else { return Ok(()) };
    for words in [
        // Changes only a member that is there, and none is.
        &["ZADD", &*key, "XX", "0", "ssegate-check"][..],
        &["ZRANGEBYSCORE", &*key, "1", "0"],
        &["ZREM", &*key, "ssegate-check"],
    ] {
        connection.queue(words[0], words[1..].iter().copied());
        refused(read_reply(connection).await?)?;
    }
    Ok(())
}

/// The changes that end nobody but those whose leases are over.
async fn due(
    connection: &mut RedisConnection,
    key: &str,
    route: &WatchedRoute,
) -> Result<Vec<ChannelChange>, SourceError> {
    connection.queue("TIME", [].into_iter());
    let time = refused(read_reply(connection).await?)?;
    let now = millis(&time).ok_or_else(|| SourceError::Unexpected(format!("{time:?}")))?;
    let (now, most) = (now.to_string(), MAX_DUE.to_string());
    let words = [key, "-inf", &now, "LIMIT", "0", &most];
    connection.queue("ZRANGEBYSCORE", words.into_iter());
    let Value::Array(names) = refused(read_reply(connection).await?)? else {
        return Ok(Vec::new());
    };
    let name = |name: &Value| {
        let name = name.as_bytes().map(Bytes::as_ref).and_then(|name| str::from_utf8(name).ok());
        ChannelName::new(name?).ok()
    };
    let change = |name| ChannelChange {
        name,
        prefix_bytes: route.prefix_bytes,
        settings: Arc::clone(&route.settings),
        is_beginning: true,
        // It may have members here, through another route.
        lease: LeaseChange::Kept,
        members: Vec::new(),
    };
    Ok(names.iter().filter_map(name).map(change).collect())
}

/// Returns the reply, unless it is an error.
pub(super) fn refused(reply: Value) -> Result<Value, SourceError> {
    match reply {
        Value::Error(message) => {
            let message = String::from_utf8_lossy(&message).into();
            let what = "to keep which channels have members (TIME, ZADD, ZREM, ZRANGEBYSCORE)";
            Err(SourceError::Refused(message).for_command(what))
        }
        reply => Ok(reply),
    }
}
