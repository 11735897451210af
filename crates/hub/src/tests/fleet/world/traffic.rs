//! What the server is sent, and sends.

use std::time::Duration;

use tokio::time::Instant;

use super::super::plan::pick;
use super::super::server::{Command, PublishedMessage, WireItem};
use super::{FleetWorld, Happening};
use crate::{ChannelName, Subscription};

impl FleetWorld {
    pub(super) fn publish_some(&mut self) {
        let count = if self.plan.bursts { pick(&mut self.rng, &[1, 1, 5]) } else { 1 };
        for _ in 0..count {
            let channel = self.rng.usize(..self.plan.channels);
            let is_too_large = self.plan.too_large && self.rng.u8(..20) == 0;
            let payload = match self.plan.constant_payloads {
                true => b"same".to_vec(),
                false if self.rng.bool() => vec![self.rng.u8(..3)],
                false => self.rng.u32(..).to_le_bytes().to_vec(),
            };
            self.publish(channel, payload, is_too_large);
        }
        let next = self.random(self.plan.between);
        self.at(next, Happening::Publish);
    }

    pub(super) fn publish(&mut self, channel: usize, payload: Vec<u8>, is_too_large: bool) {
        self.server.newest += 1;
        let (index, name) = (self.server.newest, format!("c{channel}"));
        let mut names = vec![name.clone()];
        if self.plan.patterned[channel] {
            names.push("p*".into());
        }
        if !is_too_large {
            for name in &names {
                self.server.messages.entry(name.clone()).or_default().push(index);
            }
        }
        self.note(|| format!("PUBLISH {index} {name} {is_too_large}"));
        let message = PublishedMessage { channel: name, payload, index, is_too_large };
        let followed = ["c*", "c?", "c[0-1]"].map(str::to_owned);
        let matches =
            |name: &String| ssegate_glob::matches(name.as_bytes(), message.channel.as_bytes());
        names.extend(followed.into_iter().filter(matches));
        for gateway in 0..self.gateways.len() {
            let Some(connection) = &self.gateways[gateway].connection else { continue };
            let hit = |name: &String| {
                let subscription = subscription(name);
                connection.subscribed.contains(&subscription).then_some(subscription)
            };
            let hits: Vec<Subscription> = names.iter().filter_map(hit).collect();
            let last = hits.len();
            for (at, subscription) in hits.into_iter().enumerate() {
                let (message, is_last) = (message.clone(), at + 1 == last);
                self.send(gateway, WireItem::Copy { subscription, message, is_last });
            }
        }
    }

    pub(super) fn publish_for_all(&mut self, gateway: usize, body: &[u8], question: Option<u64>) {
        self.note(|| format!("G{gateway} says {}", String::from_utf8_lossy(body)));
        let mut subscribers = 0;
        for to in 0..self.gateways.len() {
            if self.gateways[to].connection.as_ref().is_some_and(|c| c.hears_fleet) {
                subscribers += 1;
                self.send(to, WireItem::ForAll(body.to_vec()));
            }
        }
        if let Some(question) = question {
            let after = self.rng.u64(..10);
            self.at(after, Happening::Asked { gateway, question, subscribers });
        }
    }

    /// Sends something to a gateway, behind what was sent before.
    pub(super) fn send(&mut self, gateway: usize, item: WireItem) {
        let slowness = match self.rng.u8(..20) {
            0 => self.plan.delay,
            _ => self.gateways[gateway].slowness,
        };
        let delay = Duration::from_millis(self.rng.u64(..=slowness));
        let (number, newest) = (self.gateways[gateway].connections, self.server.newest);
        let Some(connection) = &mut self.gateways[gateway].connection else { return };
        let at = Instant::now() + delay;
        let at = connection.newest_arrival.map_or(at, |newest| newest.max(at));
        connection.newest_arrival = Some(at);
        connection.wire.push_back((at, newest, item));
        self.at_time(at, Happening::Arrive(gateway, number));
    }

    pub(super) fn execute(&mut self, gateway: usize, command: Command) {
        let Some(connection) = &mut self.gateways[gateway].connection else { return };
        let reply = match command {
            Command::Fleet => {
                connection.hears_fleet = true;
                Some(WireItem::Fleet)
            }
            Command::Subscribe(subscription, number) => {
                connection.subscribed.insert(subscription.clone());
                Some(WireItem::Confirmed(subscription, number))
            }
            Command::Unsubscribe(subscription) => {
                connection.subscribed.remove(&subscription);
                None
            }
            Command::Restored => Some(WireItem::Restored),
            Command::Ping(ticket) => Some(WireItem::Pong(ticket)),
        };
        if let Some(reply) = reply {
            self.send(gateway, reply);
        }
    }
}

pub(super) fn subscription(name: &str) -> Subscription {
    let is_pattern = name.contains(['*', '?', '[']);
    Subscription { name: ChannelName::new(name).expect("a name"), is_pattern }
}
