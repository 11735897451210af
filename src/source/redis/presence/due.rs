//! Channels whose gateways may all have died, so that none would report that they were vacated.
//!
//! Each webhook has a sorted set of its channels, each with the time at which its leases end. Every gateway whose
//! routes have the webhook checks which channels are due, and runs the script that ends their leases: the first gateway
//! to do so calls the webhook.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use ssegate_hub::ChannelName;
use ssegate_resp::Value;

use super::command::{self, LEASE_MILLIS, PresenceWriter, millis};
use crate::hex::hex;
use crate::route::PresenceSettings;
use crate::source::presence::{ChannelChange, LeaseChange, WatchedRoute};
use crate::source::redis::error::SourceError;
use crate::source::redis::keyed::KeyedConnection;
use crate::webhook::{WebhookEvent, Webhooks};

/// How often a gateway checks for channels that are due.
pub(super) const INTERVAL: Duration = Duration::from_millis(INTERVAL_MILLIS);
const INTERVAL_MILLIS: u64 = 5000;

/// Channels whose leases are ended together, at most.
const MAX_DUE: usize = 50;

/// The key of the set for the webhook of a route; `None`: the route has no such webhook.
fn key(settings: &PresenceSettings, prefix_bytes: usize) -> Option<String> {
    let url = &settings.on_vacated.as_ref()?.url;
    let hash = digest(&SHA256, format!("{prefix_bytes} {url}").as_bytes());
    Some(format!("ssegate:presence:due:{}", hex(&hash.as_ref()[..8])))
}

/// Records when the leases of these channels end, or that a channel has no members any more. The times are those that
/// the script returned.
pub(super) fn queue_notes<'a>(
    connection: &mut KeyedConnection,
    changes: impl Iterator<Item = (&'a ChannelChange, Option<WebhookEvent>, u64)>,
) {
    for (change, event, time_ms) in changes {
        let Some(key) = key(&change.settings, change.prefix_bytes) else { continue };
        let name = change.name.as_str();
        match event {
            Some(WebhookEvent::Vacated) => {
                connection.queue_text(&key, &["ZREM", &key, name]);
            }
            _ => {
                let due = (time_ms + LEASE_MILLIS).to_string();
                connection.queue_text(&key, &["ZADD", &key, &due, name]);
            }
        }
    }
}

/// Ends the expired leases of the channels of these routes that are due. Returns whether all of it is known to be done.
///
/// # Errors
/// The connection failed, or Redis refuses it.
pub(super) async fn end_due(
    connection: &mut KeyedConnection,
    (routes, teller, webhooks): (&[WatchedRoute], PresenceWriter<'_>, &Webhooks),
) -> Result<bool, SourceError> {
    let mut is_done = true;
    for route in routes {
        let Some(key) = key(&route.settings, route.prefix_bytes) else { continue };
        let Some((now, changes)) = due(connection, &key, route).await? else {
            is_done = false;
            continue;
        };
        let later = (now + INTERVAL_MILLIS).to_string();
        for (change, reply) in command::update(connection, teller, &changes).await? {
            let Some(reply) = reply else {
                is_done = false;
                continue;
            };
            let name = change.name.as_str();
            // In a Cluster the clock of the channel's node may be behind the clock by which the channel is due.
            match reply.is_kept && reply.time_ms < now {
                true => connection.queue_text(&key, &["ZADD", &key, "XX", &later, name]),
                false => connection.queue_text(&key, &["ZREM", &key, name]),
            }
            if let Some(event) = reply.event {
                change.call_webhook(webhooks, event, reply.time_ms);
            }
        }
        for reply in connection.replies().await? {
            reply.map(refused).transpose()?;
        }
    }
    Ok(is_done)
}

/// Tests the commands that are needed, and changes nothing.
pub(super) async fn inspect(
    connection: &mut KeyedConnection,
    settings: &PresenceSettings,
) -> Result<(), SourceError> {
    let Some(key) = key(settings, 0) else { return Ok(()) };
    for words in [
        // Changes only an existing member, and there is none.
        &["ZADD", &*key, "XX", "0", "ssegate-check"][..],
        &["ZRANGEBYSCORE", &*key, "1", "0"],
        &["ZREM", &*key, "ssegate-check"],
    ] {
        connection.queue_text(&key, words);
    }
    for reply in connection.replies().await? {
        refused(reply.ok_or_else(|| connection.why_unknown())?)?;
    }
    Ok(())
}

/// The time, and changes that only end expired leases; `None`: they could not be read.
async fn due(
    connection: &mut KeyedConnection,
    key: &str,
    route: &WatchedRoute,
) -> Result<Option<(u64, Vec<ChannelChange>)>, SourceError> {
    let Some(time) = one(connection, key, &["TIME"]).await? else { return Ok(None) };
    let now = millis(&time).ok_or_else(|| SourceError::Unexpected(format!("{time:?}")))?;
    let (until, most) = (now.to_string(), MAX_DUE.to_string());
    let words = ["ZRANGEBYSCORE", key, "-inf", &until, "LIMIT", "0", &most];
    let names = match one(connection, key, &words).await? {
        Some(Value::Array(names)) => names,
        Some(_) => Vec::new(),
        None => return Ok(None),
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
        // This gateway may have members in the channel, through another route.
        lease: LeaseChange::Kept,
        members: Vec::new(),
    };
    Ok(Some((now, names.iter().filter_map(name).map(change).collect())))
}

/// The reply to one command; `None`: it may not have been executed.
async fn one(
    connection: &mut KeyedConnection,
    key: &str,
    words: &[&str],
) -> Result<Option<Value>, SourceError> {
    connection.queue_text(key, words);
    let reply = connection.replies().await?.into_iter().next().flatten();
    reply.map(refused).transpose()
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
