//! The members in the memory of this process, beside the embedded bus: this gateway is the only one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ssegate_bus::Broker;
use ssegate_hub::ChannelName;
use ssegate_resp::Payload;
use tokio::time::Instant;

use super::change::{ChangeOutcome, ChannelChange, MemberChange};
use super::event::{PresenceChange, PresenceData, payload, shown_name};
use super::lookup::{ChannelPresence, PresentMember};
use super::registry::{PresenceLookups, PresenceWork};
use crate::webhook::{WebhookEvent, Webhooks};

/// Channels and members that are changed in one turn, at most: the source is on this thread, too.
const MAX_IN_TURN: usize = 1000;

type MemoryMembers = HashMap<Arc<str>, PresentMember>;

/// Follows the table of this gateway, and publishes on `broker` who joins and leaves. Owned by the gateway, which
/// drops it.
pub(crate) async fn keep_presence(
    (work, mut lookups): (PresenceWork, PresenceLookups),
    broker: Broker,
    webhooks: Webhooks,
) {
    let mut known = HashMap::new();
    loop {
        tokio::select! {
            () = work.news() => follow(&work, (&broker, &webhooks), &mut known),
            Some(lookup) = lookups.recv() => {
                // The lookup may be from a client whose stream has just been opened.
                follow(&work, (&broker, &webhooks), &mut known);
                let channels = lookup.channels.iter();
                let found = channels.map(|name| find(&known, name, lookup.is_count)).collect();
                lookup.complete(Ok(found));
            }
        }
        tokio::task::yield_now().await;
    }
}

fn follow(
    work: &PresenceWork,
    (broker, webhooks): (&Broker, &Webhooks),
    known: &mut HashMap<ChannelName, MemoryMembers>,
) {
    for change in work.take(MAX_IN_TURN) {
        let members = known.entry(change.name.clone()).or_default();
        let is_empty = members.is_empty();
        let refused = apply(broker, members, &change);
        let event = match (is_empty, members.is_empty()) {
            (true, false) => Some(WebhookEvent::Occupied),
            (false, true) => Some(WebhookEvent::Vacated),
            _ => None,
        };
        if let Some(event) = event {
            change.call_webhook(webhooks, event, millis_of(Instant::now()));
        }
        if members.is_empty() {
            known.remove(&change.name);
        }
        work.settle(&change, &ChangeOutcome::Known(refused));
    }
    broker.flush();
}

/// Applies a change; returns the indexes of the members for which there is no room.
fn apply(broker: &Broker, members: &mut MemoryMembers, change: &ChannelChange) -> Vec<usize> {
    let mut refused = Vec::new();
    for (place, MemberChange { id, streams, since }) in change.members.iter().enumerate() {
        let is_full = members.len() >= change.settings.max_members;
        let told = match (streams, members.get_mut(id)) {
            (Some(streams), Some(member)) => {
                member.connections = u64::from(*streams);
                None
            }
            (Some(_), None) if is_full => {
                refused.push(place);
                None
            }
            (Some(streams), None) => {
                let since = millis_of(*since);
                let connections = u64::from(*streams);
                let member = PresentMember { id: id.to_string(), since, connections };
                members.insert(Arc::clone(id), member);
                Some((PresenceChange::Join, since))
            }
            (None, _) => members.remove(id).map(|member| (PresenceChange::Leave, member.since)),
        };
        if let Some((event, since)) = told {
            let channel = shown_name(change.name.as_str(), change.prefix_bytes);
            let data = PresenceData { event, channel, id, since, count: members.len() };
            publish(broker, change, &data);
        }
    }
    refused
}

fn publish(broker: &Broker, change: &ChannelChange, data: &PresenceData<'_>) {
    let topic = change.name.of_presence().filter(|_| change.settings.has_events);
    if let Some(topic) = topic {
        broker.publish(topic.as_str().as_bytes(), &Payload::Whole(payload(data).into()));
    }
}

fn find(
    known: &HashMap<ChannelName, MemoryMembers>,
    name: &ChannelName,
    is_count: bool,
) -> ChannelPresence {
    let Some(members) = known.get(name) else { return ChannelPresence::default() };
    let mut found: Vec<_> = members.values().filter(|_| !is_count).cloned().collect();
    found.sort_by(|one, other| (one.since, &one.id).cmp(&(other.since, &other.id)));
    ChannelPresence { count: members.len(), members: found }
}

/// A time of this process in milliseconds since 1970.
fn millis_of(time: Instant) -> u64 {
    let then = SystemTime::now().checked_sub(time.elapsed()).unwrap_or(UNIX_EPOCH);
    let since = then.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
