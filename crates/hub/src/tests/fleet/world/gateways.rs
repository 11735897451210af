//! Gateways that start, connect and hear, and what they ask for.

use bytes::Bytes;
use ssegate_sse::Event;
use tokio::time::Instant;

use super::super::gateway::{Asked, SimulatedGateway};
use super::super::plan::pick;
use super::super::server::{Command, PublishedMessage, ServerConnection, WireItem};
use super::{FleetWorld, Happening};
use crate::{FleetRequest, OrderId, SourceRequest, Subscription};

impl FleetWorld {
    pub(super) fn start_gateway(&mut self) -> usize {
        let gateway = self.new_gateway();
        self.connect_gateway(gateway);
        gateway
    }

    pub(super) fn new_gateway(&mut self) -> usize {
        let slowness = pick(&mut self.rng, &[1, self.plan.delay]);
        let followed = match self.plan.follows {
            true => pick(&mut self.rng, &[&[][..], &["c*"], &["c*"], &["c[0-1]"], &["c*", "c?"]]),
            false => &[],
        };
        self.gateways.push(SimulatedGateway::new(&self.plan, slowness, followed, &self.changed));
        let gateway = self.gateways.len() - 1;
        self.note(|| format!("G{gateway} starts"));
        gateway
    }

    pub(super) fn connect_gateway(&mut self, gateway: usize) {
        let one = &mut self.gateways[gateway];
        if !one.is_alive {
            return;
        }
        one.connections += 1;
        one.connection = Some(ServerConnection::default());
        // What was asked for before is asked for again.
        one.asked.borrow_mut().clear();
        let followed = one.hub.followed();
        let subscribe =
            followed.into_iter().map(|subscription| Command::Subscribe(subscription, 0));
        let commands: Vec<_> = [Command::Fleet].into_iter().chain(subscribe).collect();
        let connection = self.gateways[gateway].connections;
        for command in commands {
            self.command(gateway, command);
        }
        let after = self.rng.u64(3..=self.plan.restoring);
        self.at(after, Happening::Execute(gateway, connection, Command::Restored));
    }

    /// Commands reach the server in their order.
    pub(super) fn command(&mut self, gateway: usize, mut command: Command) {
        let one = &mut self.gateways[gateway];
        let connection = one.connections;
        if let Command::Subscribe(subscription, _) | Command::Unsubscribe(subscription) = &command {
            *one.commands.entry(subscription.clone()).or_default() += 1;
        }
        if let Command::Subscribe(subscription, number) = &mut command {
            *number = one.commands[subscription];
        }
        // One delay for all keeps the order.
        self.at(3, Happening::Execute(gateway, connection, command));
    }

    pub(super) fn is_connected(&self, gateway: usize, connection: u64) -> bool {
        let one = &self.gateways[gateway];
        one.is_alive && one.connection.is_some() && one.connections == connection
    }

    pub(super) fn arrive(&mut self, gateway: usize) {
        let one = &mut self.gateways[gateway];
        let Some((_, newest, item)) = one.connection.as_mut().and_then(|c| c.wire.pop_front())
        else {
            return;
        };
        let trace = self.trace.is_some().then(|| format!("G{gateway} hears {item}"));
        let mut is_whole = true;
        match item {
            WireItem::Fleet => one.hub.in_order(OrderId::PLAIN).begin(true),
            // If it was left since, and perhaps subscribed to again, the last reply counts.
            WireItem::Confirmed(subscription, number) => {
                if one.commands.get(&subscription) == Some(&number) {
                    one.hub.confirm(subscription.is_pattern, subscription.name.as_str());
                }
            }
            WireItem::Restored => {
                one.hub.restored();
                one.is_restored = true;
            }
            WireItem::Copy { subscription, message, is_last } => {
                one.hear_copy(&subscription, &message);
                one.newest = message.index;
                // As the intake of the gateway does.
                if !one.hub.follows_patterns() {
                    one.hub.end_message();
                }
                is_whole = is_last;
            }
            WireItem::ForAll(body) => {
                assert!(one.hub.in_order(OrderId::PLAIN).receive_for_all(&body))
            }
            WireItem::ForOne(body) => {
                assert!(one.hub.in_order(OrderId::PLAIN).receive_for_one(&body))
            }
            WireItem::Pong(ticket) => one.hub.in_order(OrderId::PLAIN).pass_fence(ticket),
        }
        // What was published where it is not subscribed has passed it by.
        if is_whole {
            one.newest = one.newest.max(newest);
        }
        let is_settled = one.hub.settled() == one.hub.newest_number();
        // Another copy of the newest message that it has heard may follow.
        one.settled = if is_settled { one.newest } else { one.copied - 1 };
        one.numbers.push((one.hub.newest_number(), one.newest));
        one.hub.flush();
        if let Some(text) = trace {
            let number = self.gateways[gateway].hub.newest_number();
            self.note(|| format!("{text} at {number}"));
        }
    }

    pub(super) fn break_one(&mut self) {
        let live = self.which(|one| one.is_alive && one.connection.is_some());
        if let Some(gateway) = self.rng.choice(live) {
            self.note(|| format!("G{gateway} loses its connection"));
            self.gateways[gateway].connection = None;
            let after = self.rng.u64(..100);
            self.at(after, Happening::NoticeBreak(gateway));
        }
        let next = self.random(self.plan.breaks);
        self.at(next, Happening::BreakOne);
    }

    pub(super) fn notice_break(&mut self, gateway: usize) {
        let one = &mut self.gateways[gateway];
        if one.is_alive {
            one.hub.lose();
            one.is_restored = false;
            let after = self.rng.u64(..300);
            self.at(after, Happening::Connected(gateway));
        }
    }

    pub(super) fn which(&self, is: impl Fn(&SimulatedGateway) -> bool) -> Vec<usize> {
        (0..self.gateways.len()).filter(|at| is(&self.gateways[*at])).collect()
    }

    /// Sends what the hubs have asked their sources for.
    pub(super) fn take_asked(&mut self) {
        for gateway in 0..self.gateways.len() {
            let asked = std::mem::take(&mut *self.gateways[gateway].asked.borrow_mut());
            if self.gateways[gateway].connection.is_none() {
                continue;
            }
            for asked in asked {
                match asked {
                    Asked::Source(requests) => {
                        for (subscription, request) in requests {
                            self.command(
                                gateway,
                                match request {
                                    SourceRequest::Follow => Command::Subscribe(subscription, 0),
                                    SourceRequest::Leave => Command::Unsubscribe(subscription),
                                },
                            );
                        }
                    }
                    Asked::Fleet(requests) => {
                        requests.into_iter().for_each(|request| self.serve(gateway, request));
                    }
                }
            }
        }
    }

    pub(super) fn serve(&mut self, gateway: usize, request: FleetRequest) {
        let is_lost = self.rng.u8(..100) < self.plan.lost;
        let after = self.rng.u64(..20);
        match request {
            FleetRequest::Fence(ticket) => self.command(gateway, Command::Ping(ticket)),
            _ if is_lost => {}
            FleetRequest::PublishForAll { body, question } => {
                let body = body.to_vec();
                self.at(after, Happening::PublishForAll { gateway, body, question });
            }
            FleetRequest::PublishForOne { run, body } => {
                let body = body.to_vec();
                self.at(2 * after, Happening::PublishForOne { run, body });
            }
        }
    }
}

impl SimulatedGateway {
    fn hear_copy(&mut self, subscription: &Subscription, message: &PublishedMessage) {
        let PublishedMessage { channel, payload, index, is_too_large } = message;
        if std::mem::replace(&mut self.copied, *index) != *index {
            let payload = (!is_too_large).then_some(&payload[..]);
            self.hub.begin_message(channel.as_bytes(), payload);
        }
        let (is_pattern, name) = (subscription.is_pattern, subscription.name.as_str());
        if *is_too_large {
            return self.hub.skip(is_pattern, name);
        }
        let data = Bytes::from(format!("{channel} {index}"));
        self.hub.publish(is_pattern, name, Instant::now(), |_| {
            Some(Event { data: data.clone(), ..Event::default() })
        });
    }
}
