//! The side of the fleet that receives its messages, on a connection that brings clients' messages.
//!
//! The member of the pub/sub connection outlives the connections, one after the other; that of a node of a Cluster ends
//! with its connection. It subscribes to the channels of the fleet before everything else, and hands their messages to
//! the hub. What the hub requests goes into the outbox.

use std::rc::Rc;

use bytes::Bytes;
use ssegate_hub::{ChannelName, FleetRequest, Hub, HubOrder, OrderId, Subscription};
use ssegate_resp::Payload;
use tokio::time::Instant;

use super::message::{self, FleetRefusal};
use super::outbox::{FleetMessageKind, FleetOutbox, OutgoingFleetMessage};
use super::server::ServerIdentity;
use super::teller::SettingsPublisher;
use crate::health::Health;
use crate::log_limit::LogLimit;
use crate::metrics::Metrics;
use crate::source::alike::AlikeSource;
use crate::source::fleet::{FOR_ALL, FOR_ONE, FleetSettings, for_all_at, for_one_at};

/// The least `max_event_bytes` of a gateway in a fleet: room for an answer.
const MIN_EVENT_BYTES: usize = 64 << 10;

/// The order of messages that a connection brings.
#[derive(Clone, Debug)]
pub(in super::super) enum FleetOrder {
    /// The order of the pub/sub connection.
    Plain,
    /// The order of the sharded channels of a node, or of the one server. `shown` is its name in logs. `asks`: the
    /// gateway is starting, and asks the others what they follow.
    Node { order: OrderId, shown: String, asks: bool },
}

/// The fleet, as one connection has it.
#[derive(Debug)]
pub(in super::super) struct FleetMember {
    hub: Hub,
    order: HubOrder,
    at: FleetOrder,
    settings: FleetSettings,
    has_room: bool,
    // For all gateways, and for this one.
    channels: [Subscription; 2],
    server: String,
    status: LinkStatus,
    outbox: Rc<FleetOutbox>,
    // `None` at a node of a Cluster.
    teller: Option<Rc<SettingsPublisher>>,
    health: Health,
    metrics: Metrics,
    ignored: LogLimit,
    // What was reported last.
    was_warm: Option<bool>,
    is_given_up: bool,
    // What was logged last.
    logged: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkStatus {
    /// Not subscribed: there is no connection, or there is no fleet.
    Down,
    /// Subscribing; this many channels are confirmed.
    Joining(usize),
    /// Subscribed.
    Up,
}

impl FleetMember {
    pub(in super::super) fn new(
        (hub, at): (Hub, FleetOrder),
        (settings, alike): (FleetSettings, Option<AlikeSource>),
        max_event_bytes: usize,
        (health, metrics): (Health, Metrics),
    ) -> Self {
        let channels = [channel(FOR_ALL), channel(&format!("{FOR_ONE}{}", hub.run_text()))];
        let order = match &at {
            FleetOrder::Plain => {
                health.expect_fleet();
                OrderId::PLAIN
            }
            FleetOrder::Node { order, .. } => *order,
        };
        let outbox = Rc::<FleetOutbox>::default();
        let teller = |alike| {
            let (of, seen) = ((alike, hub.run_text()), (health.clone(), metrics.clone()));
            Rc::new(SettingsPublisher::new(of, Rc::clone(&outbox), seen))
        };
        let teller = alike.map(teller);
        Self {
            order: hub.in_order(order),
            hub,
            at,
            settings,
            has_room: max_event_bytes >= MIN_EVENT_BYTES,
            channels,
            server: String::new(),
            status: LinkStatus::Down,
            outbox,
            teller,
            health,
            metrics,
            ignored: LogLimit::new(),
            was_warm: None,
            is_given_up: false,
            logged: None,
        }
    }

    /// The outbox, which the connection that publishes shares with this one.
    pub(super) fn outbox(&self) -> Rc<FleetOutbox> {
        Rc::clone(&self.outbox)
    }

    /// The teller, which publishes the settings that have to be the same at all gateways.
    pub(super) fn teller(&self) -> Option<Rc<SettingsPublisher>> {
        self.teller.clone()
    }

    pub(super) fn settings(&self) -> &FleetSettings {
        &self.settings
    }

    /// The order of messages of this connection.
    pub(super) fn order(&self) -> HubOrder {
        self.order.clone()
    }

    /// The node, if it is one of a Cluster.
    pub(super) fn node(&self) -> Option<&str> {
        match &self.at {
            FleetOrder::Plain => None,
            FleetOrder::Node { shown, .. } => Some(shown),
        }
    }

    /// A connection to this server was opened. Returns the channels to subscribe to before everything else.
    pub(in super::super) fn begin(&mut self, server: &ServerIdentity) -> Vec<Subscription> {
        let is_node = self.node().is_some();
        let why = if server.is_cluster && !is_node {
            "a Redis Cluster has no one order of messages over its channels"
        } else if is_node && !server.is_known() {
            "Redis does not tell the run_id of the node (INFO server), by which gateways see that they are at the same one"
        } else if self.has_room {
            if !server.is_known() {
                self.say(
                    "Redis does not tell its run_id (INFO server); a replica of it must not \
                          serve other gateways of the fleet",
                );
            }
            server.run_id.clone_into(&mut self.server);
            if is_node {
                let names =
                    [for_all_at(&self.server), for_one_at(&self.server, &self.hub.run_text())];
                self.channels = names.map(|name| channel(&name));
            }
            self.status = LinkStatus::Joining(0);
            return self.channels.to_vec();
        } else {
            "max_event_bytes is below 64KiB, too little for what gateways tell each other"
        };
        self.give_up(why.to_owned());
        Vec::new()
    }

    /// Whether this subscription belongs to the fleet, so that no client may end it.
    pub(in super::super) fn has(&self, subscription: &Subscription) -> bool {
        self.status != LinkStatus::Down && self.channels.contains(subscription)
    }

    /// Redis has confirmed one of the fleet's subscriptions.
    pub(in super::super) fn confirm(&mut self) {
        self.status = match self.status {
            LinkStatus::Joining(confirmed) if confirmed + 1 < self.channels.len() => {
                LinkStatus::Joining(confirmed + 1)
            }
            LinkStatus::Joining(_) => {
                self.outbox.open(&self.server);
                self.health.set_fleet_followed(self.node(), Ok(()));
                self.order.begin(match self.at {
                    FleetOrder::Plain => true,
                    FleetOrder::Node { asks, .. } => asks,
                });
                LinkStatus::Up
            }
            status => status,
        };
    }

    /// Redis has refused the fleet's subscriptions.
    pub(in super::super) fn refuse(&mut self, error: &str) {
        let names = match self.at {
            FleetOrder::Plain => format!("{FOR_ALL} and {FOR_ONE}*"),
            FleetOrder::Node { .. } => format!("{FOR_ONE}*"),
        };
        self.give_up(format!(
            "Redis refuses SUBSCRIBE to {names}: {error}; deploy/redis-users.acl has the rights that it needs"
        ));
    }

    /// The connection was lost.
    pub(in super::super) fn lose(&mut self) {
        self.status = LinkStatus::Down;
        self.outbox.close();
    }

    /// Handles a message on `channel`, one of the fleet's, that came through a subscription to it.
    pub(in super::super) fn receive(&self, channel: &[u8], payload: &Payload) {
        let Some(at) = self.channels.iter().position(|own| own.name.as_str().as_bytes() == channel)
        else {
            return;
        };
        // `ssegate check --connect` publishes an empty message to test whether it may.
        if self.status != LinkStatus::Up || *payload == Payload::Whole(Bytes::new()) {
            return;
        }
        let channel = self.channels[at].name.as_str();
        let body = match payload {
            Payload::Whole(text) => {
                message::read(text, (&self.server, channel), self.settings.key.as_ref())
            }
            Payload::TooLarge(_) => Err(FleetRefusal::Malformed),
        };
        let taken = body.and_then(|body| {
            let takes = |teller: &Rc<SettingsPublisher>| teller.receive(body);
            let is_known = match at {
                0 => self.teller.as_ref().is_some_and(takes) || self.order.receive_for_all(body),
                _ => self.order.receive_for_one(body),
            };
            if is_known { Ok(()) } else { Err(message::not_known(body)) }
        });
        match taken {
            Ok(()) => self.metrics.fleet_message_received(),
            Err(refusal) => self.ignore(refusal),
        }
    }

    /// Carries out a request of the hub. Returns the ticket of a fence, which the connection itself has to pass.
    pub(in super::super) fn serve(&self, request: FleetRequest) -> Option<u64> {
        let (channel, body, question, kind) = match request {
            FleetRequest::Fence(ticket) => return Some(ticket),
            FleetRequest::PublishForAll { body, question } => {
                let kind = match question {
                    Some(_) => FleetMessageKind::Question,
                    None => FleetMessageKind::Mark,
                };
                (self.channels[0].name.as_str().to_owned(), body, question, kind)
            }
            FleetRequest::PublishForOne { run, body } => {
                let channel = match self.at {
                    FleetOrder::Plain => format!("{FOR_ONE}{run}"),
                    FleetOrder::Node { .. } => for_one_at(&self.server, &run),
                };
                (channel, body, None, FleetMessageKind::Answer)
            }
        };
        let message = OutgoingFleetMessage { channel, body, question, kind };
        let dropped = match self.status {
            LinkStatus::Up => self.outbox.put(message),
            LinkStatus::Down | LinkStatus::Joining(_) => vec![message],
        };
        for dropped in dropped {
            self.metrics.fleet_message_dropped();
            if let Some(question) = dropped.question {
                self.order.not_asked(question);
            }
        }
        None
    }

    /// Reports whether the gateway follows what its fleet follows, and returns it.
    pub(in super::super) fn report_warmth(&mut self) -> bool {
        let is_warm = self.hub.is_warm();
        // This runs with every batch of events.
        if self.was_warm.replace(is_warm) != Some(is_warm) {
            self.health.set_fleet_warm(is_warm);
        }
        is_warm
    }

    fn give_up(&mut self, why: String) {
        self.status = LinkStatus::Down;
        self.is_given_up = true;
        self.order.end();
        let of_node = self.node().map(|node| format!(" with sharded channels of the node {node}"));
        let of_node = of_node.unwrap_or_default();
        self.say(&format!("clients cannot resume at another gateway{of_node}: {why}"));
        self.health.set_fleet_followed(self.node(), Err(why));
    }

    /// Whether the fleet of this order was joined or given up.
    pub(in super::super) fn is_decided(&self) -> bool {
        self.is_given_up || self.status == LinkStatus::Up
    }

    fn say(&mut self, what: &str) {
        if self.logged.as_deref() != Some(what) {
            tracing::info!("{what}");
            self.logged = Some(what.to_owned());
        }
    }

    fn ignore(&self, refusal: FleetRefusal) {
        let reason = refusal.as_str();
        self.metrics.fleet_message_ignored(reason);
        let explanation = refusal.explanation();
        if refusal == FleetRefusal::Unknown {
            return tracing::debug!(
                reason,
                error = explanation,
                "ignored a message between gateways"
            );
        }
        self.health.note_fleet_ignored(explanation);
        if let Some(held_back) = self.ignored.pass(reason, Instant::now()) {
            const MESSAGE: &str = "ignored a message between gateways";
            tracing::warn!(reason, error = explanation, held_back, "{MESSAGE}");
        }
    }
}

fn channel(name: &str) -> Subscription {
    let name = ChannelName::new(name).expect("it is short and printable");
    Subscription { name, is_pattern: false }
}
