//! Sharded channels (<https://redis.io/docs/latest/develop/pubsub/#sharded-pubsub>): the gateway subscribes to each at
//! the node that owns its slot, and again at the new owner when the slot moves.
//!
//! One connection for each node, apart from commands; it is polled here ([`node`]). One `SSUBSCRIBE` names channels of
//! one slot alone: with two, Redis refuses all of them. What is subscribed where is in [`channels`], and [`links`] has
//! both. A moved slot is noticed in three ways: the node unsubscribes by itself, it replies with `MOVED`, or the next
//! `CLUSTER SLOTS` says so. Messages published meanwhile are lost, so each channel of the slot gets a gap.

mod channels;
mod fleet;
mod links;
mod node;
mod node_fleet;
mod recording;
mod role;

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ssegate_hub::{ChannelName, FleetRequest, Hub, OrderId, SourceKind, SourceRequest};
use ssegate_resp::{Payload, Value};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::channels::ShardPlace;
use self::fleet::ShardedFleet;
use self::links::{NodeStart, ShardLinks};
use self::node::{ShardCommand, ShardNode};
pub(crate) use self::recording::ShardedRecording;
use super::error::SourceError;
use super::retry::FailureLog;
use super::server::RedisServer;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::route::{Router, ServerPlace};
use crate::source::fleet::FleetSettings;
use crate::source::intake::Intake;

/// How often due work is looked for.
const TICK: Duration = Duration::from_millis(50);
/// Receives the messages of sharded channels on behalf of the hub.
#[derive(Debug)]
pub(crate) struct ShardedPubSub {
    links: ShardLinks,
    hub: Hub,
    intake: Intake,
    failures: FailureLog,
    // `None`: this gateway is on its own.
    fleet: Option<ShardedFleet>,
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
        let links =
            ShardLinks::new(server, max_event_bytes, "connected again for sharded channels");
        Self { links, hub, intake, failures, fleet }
    }

    /// Runs for ever. Connects to a node with the first channel there. Owned by the gateway, which drops it.
    pub(crate) async fn run(mut self) {
        let hub = self.hub.clone();
        self.hub.followed_sharded().into_iter().for_each(|name| self.links.channels.follow(name));
        let mut routes = self.fleet.as_ref().map(ShardedFleet::routes);
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
                // A reload may have added the first route with sharded channels.
                Ok(()) = changed(&mut routes) => self.maintain(Instant::now()),
            }
            self.subscribe_due(Instant::now());
            self.intake.flush();
            self.hub.flush();
        }
    }

    fn has_work(&self) -> bool {
        !self.links.is_empty() || self.fleet.as_ref().is_some_and(ShardedFleet::is_wanted)
    }

    fn change(&mut self, name: ChannelName, request: SourceRequest) {
        match request {
            SourceRequest::Follow => self.links.channels.follow(name),
            SourceRequest::Leave => {
                if let Some(place) = self.links.channels.leave(&name) {
                    self.send(&place, ShardCommand::Unsubscribe(name));
                }
            }
        }
    }

    /// Sends `SSUBSCRIBE` for the channels that are due.
    fn subscribe_due(&mut self, now: Instant) {
        let Self { links, hub, fleet, .. } = self;
        links.subscribe_due(now, |place| begin_node(hub, fleet, place));
    }

    fn send(&mut self, place: &ShardPlace, command: ShardCommand) {
        let Self { links, hub, fleet, .. } = self;
        links.send(place, command, |place| begin_node(hub, fleet, place));
    }

    /// Does what the hub requests.
    fn serve_fleet(&mut self, requests: Vec<(OrderId, FleetRequest)>) {
        for (order, request) in requests {
            let node = self.links.nodes.iter_mut().find(|node| node.order == order);
            let Some(node) = node else { continue };
            if let Some(ticket) = node.fleet.as_ref().and_then(|fleet| fleet.serve(request)) {
                node.send(ShardCommand::Ping(Some(ticket)));
            }
        }
    }

    fn poll_nodes(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (mut has_progressed, mut at) = (false, 0);
        while let Some(polled) = self.links.poll_from(&mut at, cx) {
            has_progressed = true;
            match polled.and_then(|()| self.handle_all(at)) {
                Ok(()) => at += 1,
                Err(error) => self.lose(at, &error),
            }
        }
        if has_progressed { Poll::Ready(()) } else { Poll::Pending }
    }

    fn handle_all(&mut self, at: usize) -> Result<(), SourceError> {
        while let Some(value) = self.links.nodes[at].next_value()? {
            self.handle(at, value)?;
        }
        Ok(())
    }

    fn handle(&mut self, at: usize, value: Value) -> Result<(), SourceError> {
        match value {
            Value::Push(parts) => self.handle_push(at, parts),
            Value::Error(message) => {
                match self.links.nodes[at].take_refused() {
                    Some(ShardCommand::Subscribe(names)) => self.refused(at, names, &message),
                    Some(ShardCommand::Role(names)) => {
                        self.links.note_role_refused(&message);
                        self.confirmed(at, &names);
                    }
                    Some(ShardCommand::Fleet(_)) => {
                        if let Some(fleet) = &mut self.links.nodes[at].fleet {
                            fleet.member.refuse(&String::from_utf8_lossy(&message));
                        }
                    }
                    _ => {}
                }
                Ok(())
            }
            Value::Simple(_) | Value::Bulk(_) => match self.links.nodes[at].pop() {
                Some(ShardCommand::Ping(fence)) => {
                    if let Some(ticket) = fence {
                        self.hub.in_order(self.links.nodes[at].order).pass_fence(ticket);
                    }
                    Ok(())
                }
                _ => Err(SourceError::Unexpected("no command is pending".into())),
            },
            Value::Array(_) => {
                let names = self.links.proven(at, &value, Instant::now())?;
                self.confirmed(at, &names);
                Ok(())
            }
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
                self.intake.sharded_message(self.links.nodes[at].order, &channel, &payload);
            }
            (b"message", Some(Value::Bulk(channel)), Some(payload)) => {
                let payload = Payload::try_from(payload)
                    .map_err(|other| SourceError::Unexpected(format!("{other:?}")))?;
                if let Some(fleet) = &self.links.nodes[at].fleet {
                    fleet.member.receive(&channel, &payload);
                }
            }
            (b"subscribe", Some(Value::Bulk(channel)), _) => {
                self.links.nodes[at].take_joined(&channel)?;
                if let Some(fleet) = &mut self.links.nodes[at].fleet {
                    fleet.member.confirm();
                }
            }
            (b"ssubscribe", Some(Value::Bulk(channel)), _) => {
                let name = hub_name(&channel)?;
                if let Some(names) = self.links.nodes[at].confirm(&name)? {
                    self.confirmed(at, &names);
                }
            }
            (b"sunsubscribe", Some(Value::Bulk(channel)), _) => {
                let name = hub_name(&channel)?;
                let is_asked = self.links.take_unsubscribed(at, &name, Instant::now());
                // The node may also have confirmed an older subscription, and the channel is followed again: messages
                // until the next confirmation are lost.
                if !is_asked || self.links.channels.is_at(&name, &self.links.nodes[at].place) {
                    self.unsubscribed(at, &name);
                }
            }
            // Other push messages are not replies, and are ignored.
            _ => {}
        }
        Ok(())
    }

    /// All names of one command are confirmed.
    fn confirmed(&mut self, at: usize, names: &[ChannelName]) {
        let place = self.links.nodes[at].place.clone();
        let mut confirmed = Vec::new();
        for name in names {
            match self.links.channels.confirm(name, &place) {
                // It was left meanwhile.
                None => self.links.nodes[at].send(ShardCommand::Unsubscribe(name.clone())),
                Some(before) => {
                    if let Some(before) = before {
                        // Messages between the move of the slot and now came on neither connection.
                        self.hub.lose_channels([name]);
                        self.send(&before, ShardCommand::Unsubscribe(name.clone()));
                    }
                    self.hub.confirm_at(self.links.nodes[at].order, name);
                    confirmed.push(name);
                }
            }
        }
        self.hub.restored_channels(confirmed);
    }

    /// A node has unsubscribed by itself: another node owns the slot.
    fn unsubscribed(&mut self, at: usize, name: &ChannelName) {
        if self.links.channels.lose(name, &self.links.nodes[at].place, Instant::now()) {
            self.hub.lose_channels([name]);
            self.links.outdate();
        }
    }

    /// A node has refused a command.
    fn refused(&mut self, at: usize, names: Vec<ChannelName>, message: &[u8]) {
        let place = self.links.nodes[at].place.clone();
        if let Some(name) = self.links.refused(&place, names, message, Instant::now()) {
            let what = format!("SSUBSCRIBE to the channel {:?}", name.in_redis());
            let error = SourceError::Refused(String::from_utf8_lossy(message).into());
            let error = error.for_command(what);
            self.failures.report(&error, "Redis refused to subscribe to a sharded channel");
            self.hub.deny(false, name.as_str());
        }
    }

    /// The connection to a node is lost, or could not be opened.
    fn lose(&mut self, at: usize, error: &SourceError) {
        let (mut node, lost, loss) = self.links.lose(at);
        self.intake.flush();
        self.hub.lose_channels(&lost);
        self.failures.lost(error, "lost the connection for sharded channels", loss);
        self.end(&mut node);
        if let Some(fleet) = &mut self.fleet {
            fleet.note_lost(&node.place, Instant::now());
        }
    }

    /// Ends the order of a connection that is closed and whose channels were lost.
    fn end(&self, node: &mut ShardNode) {
        if let Some(fleet) = &mut node.fleet {
            fleet.member.lose();
        }
        self.hub.end_order(node.order);
    }

    /// Sends what is due, and compares the channels with the slot map.
    fn maintain(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(error) = self.links.next_silent(&mut at, now) {
            self.lose(at, &error);
        }
        if self.links.compare(now)
            && let (Some(fleet), Some(cluster)) = (&mut self.fleet, self.links.cluster())
        {
            fleet.look_at(cluster);
        }
        let fleet = &self.fleet;
        let is_kept = |place: &_| fleet.as_ref().is_some_and(|fleet| fleet.keeps(place));
        let unneeded = self.links.take_unneeded(is_kept);
        unneeded.into_iter().for_each(|mut node| self.end(&mut node));
        let missing = self.fleet.as_mut().map(|fleet| {
            fleet.report_warmth(&self.links.nodes, now);
            fleet.missing(&self.links.nodes, now)
        });
        for node in missing.into_iter().flatten() {
            let start = begin_node(&self.hub, &mut self.fleet, &node);
            self.links.connect(node, start);
        }
    }
}

/// Waits until the routes change. Cancel safe.
async fn changed(
    routes: &mut Option<watch::Receiver<Arc<Router>>>,
) -> Result<(), watch::error::RecvError> {
    match routes {
        Some(routes) => routes.changed().await,
        None => pending().await,
    }
}

/// What a connection to a node begins with: an order of its own.
fn begin_node(hub: &Hub, fleet: &mut Option<ShardedFleet>, place: &ShardPlace) -> NodeStart {
    let order = hub.begin_order();
    (order, fleet.as_mut().map(|fleet| fleet.join(order, place)))
}

/// The hub's name of a sharded channel.
fn hub_name(channel: &[u8]) -> Result<ChannelName, SourceError> {
    let name = str::from_utf8(channel).ok().and_then(|name| ChannelName::sharded(name).ok());
    name.ok_or_else(|| SourceError::Unexpected(String::from_utf8_lossy(channel).into_owned()))
}
