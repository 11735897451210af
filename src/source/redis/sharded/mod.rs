//! Sharded channels (<https://redis.io/docs/latest/develop/pubsub/#sharded-pubsub>): each is subscribed to at the node
//! that owns its slot, and at another one when that slot moves.
//!
//! One connection for each node, apart from commands; it is polled here ([`node`]). One `SSUBSCRIBE` names channels of one
//! slot alone: with two, Redis refuses all of them. What is subscribed where is in [`channels`]. A slot that has moved shows
//! in three ways: the node unsubscribes without being asked, it replies with `MOVED`, or the nodes say so when they are
//! asked again. Whatever was published meanwhile is lost, so that each of them is a gap.

mod channels;
mod fleet;
mod node;
mod node_fleet;
mod recording;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ssegate_hub::{ChannelName, FleetRequest, Hub, OrderId, SourceKind, SourceRequest};
use ssegate_resp::{Payload, Value};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::channels::{ShardPlace, ShardedChannels};
use self::fleet::ShardedFleet;
use self::node::{ShardCommand, ShardNode};
pub(crate) use self::recording::ShardedRecording;
use super::cluster::{Cluster, Redirect};
use super::error::SourceError;
use super::retry::{FailureLog, RETRY_INTERVAL, backoff};
use super::server::RedisServer;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::route::{Router, ServerPlace};
use crate::source::fleet::FleetSettings;
use crate::source::intake::Intake;

/// How often it is looked for what is due.
const TICK: Duration = Duration::from_millis(50);
/// When a slot is asked for again that nobody owns for the moment.
const NO_OWNER_DELAY: Duration = Duration::from_millis(100);
/// Channels that were refused, and are asked for again within [`RETRY_INTERVAL`]; more take longer.
const RETRIED_AT_ONCE: u32 = 64;
/// Times that a channel is asked for elsewhere at once: two nodes may each name the other for a moment.
const MAX_REDIRECTS: u32 = 5;

/// Receives the messages of sharded channels on behalf of the hub.
#[derive(Debug)]
pub(crate) struct ShardedPubSub {
    server: RedisServer,
    // `None`: one server has all slots.
    cluster: Option<Cluster>,
    max_event_bytes: usize,
    hub: Hub,
    intake: Intake,
    failures: FailureLog,
    channels: ShardedChannels,
    nodes: Vec<ShardNode>,
    // `None`: this gateway is on its own, or it is one server.
    fleet: Option<ShardedFleet>,
    // Of the map by which channels were last compared with their places.
    map_version: u64,
}

impl ShardedPubSub {
    /// Hands the messages to `hub`. Without `fleet` the gateway is on its own. `routes` are those of the gateway.
    pub(crate) fn new(
        server: RedisServer,
        (max_event_bytes, fleet): (usize, Option<FleetSettings>),
        (hub, routes): (Hub, (watch::Receiver<Arc<Router>>, ServerPlace)),
        (health, metrics): (Health, Metrics),
    ) -> Self {
        let seen = (health.clone(), metrics.clone());
        let fleet = fleet.map(|fleet| {
            let settings = (fleet, max_event_bytes);
            ShardedFleet::new(server.clone(), settings, hub.clone(), routes, seen)
        });
        let intake = Intake::new(hub.clone(), metrics.clone());
        let record = (health, Health::source_failed as _);
        let failures = FailureLog::new(&server, metrics, record);
        let cluster = server.cluster().cloned();
        Self {
            server,
            cluster,
            max_event_bytes,
            hub,
            intake,
            failures,
            channels: ShardedChannels::default(),
            nodes: Vec::new(),
            fleet,
            map_version: 0,
        }
    }

    /// Runs for ever. Connects to a node with the first channel there. Owned by the gateway, which drops it.
    pub(crate) async fn run(mut self) {
        let hub = self.hub.clone();
        self.hub.followed_sharded().into_iter().for_each(|name| self.channels.follow(name));
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changes = hub.source_requests(SourceKind::Sharded) => {
                    for (subscription, request) in changes {
                        self.change(subscription.name, request);
                    }
                }
                requests = hub.node_requests() => self.serve_fleet(requests),
                () = poll_fn(|cx| self.poll_nodes(cx)) => {}
                _ = tick.tick(), if self.has_work() => {
                    self.maintain(Instant::now());
                }
            }
            self.subscribe_due(Instant::now());
            self.intake.flush();
            self.hub.flush();
        }
    }

    fn has_work(&self) -> bool {
        !self.channels.is_empty() || !self.nodes.is_empty() || self.fleet.is_some()
    }

    fn change(&mut self, name: ChannelName, request: SourceRequest) {
        match request {
            SourceRequest::Follow => self.channels.follow(name),
            SourceRequest::Leave => {
                if let Some(place) = self.channels.leave(&name) {
                    self.send(&place, ShardCommand::Unsubscribe(name));
                }
            }
        }
    }

    /// Sends `SSUBSCRIBE` for what is to be subscribed to, one for each slot.
    fn subscribe_due(&mut self, now: Instant) {
        for (slot, names) in self.channels.take_due(now) {
            let place = self.owner(slot, &names);
            self.channels.ask(&names, &place);
            self.send(&place, ShardCommand::Subscribe(names));
        }
    }

    /// Where a slot is; where nothing is known of it, one node after the other.
    fn owner(&self, slot: u16, names: &[ChannelName]) -> ShardPlace {
        let tries = names.first().map_or(0, |name| self.channels.tries(name));
        self.cluster.as_ref()?.owner_or_any(slot, tries)
    }

    fn send(&mut self, place: &ShardPlace, command: ShardCommand) {
        let at = self.nodes.iter().position(|node| node.place == *place).unwrap_or_else(|| {
            self.connect(place.clone());
            self.nodes.len() - 1
        });
        self.nodes[at].send(command);
    }

    /// Begins to connect to a node.
    fn connect(&mut self, place: ShardPlace) {
        let order = self.hub.begin_order();
        let fleet = self.fleet.as_mut().zip(place.as_ref());
        let fleet = fleet.map(|(fleet, node)| fleet.join(order, node));
        let at = (place, order);
        self.nodes.push(ShardNode::open(&self.server, at, fleet, self.max_event_bytes));
    }

    /// Does what the hub requests.
    fn serve_fleet(&mut self, requests: Vec<(OrderId, FleetRequest)>) {
        for (order, request) in requests {
            let node = self.nodes.iter_mut().find(|node| node.order == order);
            let Some(node) = node else { continue };
            if let Some(ticket) = node.fleet.as_ref().and_then(|fleet| fleet.serve(request)) {
                node.send(ShardCommand::Ping(Some(ticket)));
            }
        }
    }

    fn poll_nodes(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut has_progressed = false;
        let mut at = 0;
        while let Some(node) = self.nodes.get_mut(at) {
            let handled = match node.poll(cx) {
                Poll::Pending => {
                    at += 1;
                    continue;
                }
                Poll::Ready(Ok(())) => self.handle_all(at),
                Poll::Ready(Err(error)) => Err(error),
            };
            has_progressed = true;
            match handled {
                Ok(()) => at += 1,
                Err(error) => self.lose(at, &error),
            }
        }
        if has_progressed { Poll::Ready(()) } else { Poll::Pending }
    }

    fn handle_all(&mut self, at: usize) -> Result<(), SourceError> {
        while let Some(value) = self.nodes[at].next_value()? {
            self.handle(at, value)?;
        }
        Ok(())
    }

    fn handle(&mut self, at: usize, value: Value) -> Result<(), SourceError> {
        match value {
            Value::Push(parts) => self.handle_push(at, parts),
            Value::Error(message) => {
                match self.nodes[at].take_refused() {
                    Some(ShardCommand::Subscribe(names)) => self.refused(at, names, &message),
                    Some(ShardCommand::Fleet(_)) => {
                        if let Some(fleet) = &mut self.nodes[at].fleet {
                            fleet.member.refuse(&String::from_utf8_lossy(&message));
                        }
                    }
                    _ => {}
                }
                Ok(())
            }
            Value::Simple(_) | Value::Bulk(_) => match self.nodes[at].pop() {
                Some(ShardCommand::Ping(fence)) => {
                    if let Some(ticket) = fence {
                        self.hub.in_order(self.nodes[at].order).pass_fence(ticket);
                    }
                    Ok(())
                }
                _ => Err(SourceError::Unexpected("no command is pending".into())),
            },
            other => Err(SourceError::Unexpected(format!("{other:?}"))),
        }
    }

    fn handle_push(&mut self, at: usize, parts: Vec<Value>) -> Result<(), SourceError> {
        let mut parts = parts.into_iter();
        let kind = parts.next();
        let kind = kind.as_ref().and_then(Value::as_bytes).map_or(&b""[..], |kind| kind);
        match (kind, parts.next(), parts.next()) {
            (b"smessage", Some(Value::Bulk(channel)), Some(payload)) => {
                let payload = Payload::try_from(payload)
                    .map_err(|other| SourceError::Unexpected(format!("{other:?}")))?;
                self.intake.sharded_message(self.nodes[at].order, &channel, &payload);
            }
            (b"message", Some(Value::Bulk(channel)), Some(payload)) => {
                let payload = Payload::try_from(payload)
                    .map_err(|other| SourceError::Unexpected(format!("{other:?}")))?;
                if let Some(fleet) = &self.nodes[at].fleet {
                    fleet.member.receive(&channel, &payload);
                }
            }
            (b"subscribe", Some(Value::Bulk(channel)), _) => {
                self.nodes[at].take_joined(&channel)?;
                if let Some(fleet) = &mut self.nodes[at].fleet {
                    fleet.member.confirm();
                }
            }
            (b"ssubscribe", Some(Value::Bulk(channel)), _) => {
                let name = hub_name(&channel)?;
                if let Some(names) = self.nodes[at].confirm(&name)? {
                    self.confirmed(at, &names);
                }
            }
            (b"sunsubscribe", Some(Value::Bulk(channel)), _) => {
                let name = hub_name(&channel)?;
                let is_asked = self.nodes[at].take_unsubscribed(&name);
                // One that was asked may have confirmed an older subscription before, of a channel that is followed again:
                // what is published until the next one is lost.
                if !is_asked || self.channels.is_at(&name, &self.nodes[at].place) {
                    self.unsubscribed(at, &name);
                }
            }
            // Other push messages are not replies, and are ignored.
            _ => {}
        }
        Ok(())
    }

    /// All names of one command are subscribed to.
    fn confirmed(&mut self, at: usize, names: &[ChannelName]) {
        let place = self.nodes[at].place.clone();
        let mut confirmed = Vec::new();
        for name in names {
            match self.channels.confirm(name, &place) {
                // It was left meanwhile.
                None => self.nodes[at].send(ShardCommand::Unsubscribe(name.clone())),
                Some(before) => {
                    if let Some(before) = before {
                        // What was published between the move of the slot and now has come by neither.
                        self.hub.lose_channels([name]);
                        self.send(&before, ShardCommand::Unsubscribe(name.clone()));
                    }
                    self.hub.confirm_at(self.nodes[at].order, name);
                    confirmed.push(name);
                }
            }
        }
        self.hub.restored_channels(confirmed);
    }

    /// A node has unsubscribed by itself: the slot is at another one.
    fn unsubscribed(&mut self, at: usize, name: &ChannelName) {
        if self.channels.lose(name, &self.nodes[at].place, Instant::now()) {
            self.hub.lose_channels([name]);
            self.outdate();
        }
    }

    /// A node has refused a command.
    fn refused(&mut self, at: usize, names: Vec<ChannelName>, message: &[u8]) {
        let place = self.nodes[at].place.clone();
        let now = Instant::now();
        let redirect = place.as_ref().and_then(|address| Redirect::of(message, address));
        match (redirect, &self.cluster) {
            (Some(Redirect::Moved(slot, owner)), Some(cluster)) => {
                cluster.moved(slot, &owner);
                for name in names {
                    let is_often = self.channels.tries(&name) >= MAX_REDIRECTS;
                    let wait = if is_often { NO_OWNER_DELAY } else { Duration::ZERO };
                    self.channels.retry(&name, &place, now + wait);
                }
            }
            (Some(_), _) => {
                self.outdate();
                names
                    .iter()
                    .for_each(|name| self.channels.retry(name, &place, now + NO_OWNER_DELAY));
            }
            // One name that is denied fails the whole command.
            (None, _) if names.len() > 1 => {
                names.iter().for_each(|name| self.channels.retry_alone(name, &place, now));
            }
            (None, _) => {
                let message = String::from_utf8_lossy(message).into_owned();
                let what = |name: &ChannelName| {
                    format!("SSUBSCRIBE to the channel {:?}", name.as_sharded().unwrap_or_default())
                };
                for name in &names {
                    let error = SourceError::Refused(message.clone()).for_command(what(name));
                    self.failures.report(&error, "Redis refused to subscribe to a sharded channel");
                    self.hub.deny(false, name.as_str());
                    let wait = RETRY_INTERVAL * (1 + self.channels.refused() / RETRIED_AT_ONCE);
                    self.channels.retry_alone(name, &place, now + wait);
                }
            }
        }
    }

    /// The connection to a node is lost, or could not be opened.
    fn lose(&mut self, at: usize, error: &SourceError) {
        let mut node = self.nodes.swap_remove(at);
        self.intake.flush();
        let lost = self.channels.lose_place(&node.place, |tries| Instant::now() + backoff(tries));
        self.hub.lose_channels(&lost);
        if !lost.is_empty() || !node.is_idle() {
            self.failures.report(error, "lost the connection for sharded channels");
        }
        self.end(&mut node);
        if let (Some(fleet), Some(node)) = (&mut self.fleet, &node.place) {
            fleet.note_lost(node, Instant::now());
        }
        self.outdate();
    }

    /// A connection is given up, whose channels were lost: its order ends.
    fn end(&self, node: &mut ShardNode) {
        if let Some(fleet) = &mut node.fleet {
            fleet.member.lose();
        }
        self.hub.end_order(node.order);
    }

    /// Sends what is due, and compares the channels with what is known of the slots.
    fn maintain(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(node) = self.nodes.get_mut(at) {
            match node.check_liveness(now) {
                Ok(()) => at += 1,
                Err(error) => self.lose(at, &error),
            }
        }
        let Some(cluster) = &self.cluster else { return };
        let version = cluster.version();
        if std::mem::replace(&mut self.map_version, version) != version {
            self.channels.compare(|slot| cluster.owner(slot), now);
            if let Some(fleet) = &mut self.fleet {
                fleet.look_at(cluster);
            }
        }
        let (channels, fleet) = (&self.channels, &self.fleet);
        let is_unneeded = |node: &mut ShardNode| {
            let is_kept = fleet.as_ref().is_some_and(|fleet| fleet.keeps(&node.place));
            node.is_idle() && !is_kept && !channels.has_any_at(&node.place)
        };
        let unneeded: Vec<_> = self.nodes.extract_if(.., is_unneeded).collect();
        unneeded.into_iter().for_each(|mut node| self.end(&mut node));
        if let Some(fleet) = &mut self.fleet {
            fleet.report_warmth(&self.nodes, now);
            let missing = fleet.missing(&self.nodes, now);
            missing.into_iter().for_each(|node| self.connect(Some(node)));
        }
    }

    fn outdate(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.outdate();
        }
    }
}

/// The hub's name of a sharded channel.
fn hub_name(channel: &[u8]) -> Result<ChannelName, SourceError> {
    let name = str::from_utf8(channel).ok().and_then(|name| ChannelName::sharded(name).ok());
    name.ok_or_else(|| SourceError::Unexpected(String::from_utf8_lossy(channel).into_owned()))
}
