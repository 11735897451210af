//! Clients that come, read and leave.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::client::{Fault, Heard};
use super::super::gateway::SimulatedGateway;
use super::super::plan::pick;
use super::traffic::subscription;
use super::{FleetWorld, Happening};
use crate::{HistorySettings, Ids, LastSeen, StreamOpening, StreamRequest, StreamSettings, Topic};

impl FleetWorld {
    pub(super) fn connect(&mut self, client: usize) {
        if self.clients[client].stream.is_some() {
            return;
        }
        let ready = self.which(SimulatedGateway::takes_clients);
        let Some(gateway) = self.rng.choice(ready) else {
            return self.at(100, Happening::Connect(client));
        };
        let one = &mut self.clients[client];
        let history = HistorySettings {
            count: self.plan.history,
            bytes: self.plan.history_bytes,
            age: self.plan.history_age,
        };
        let settings = StreamSettings { linger: self.plan.linger, ..StreamSettings::default() };
        let topics = one.names.iter().map(|name| topic(name)).collect();
        let stream = self.gateways[gateway].shard.subscribe(StreamRequest {
            topics,
            settings: Arc::new(settings),
            prefix_bytes: 0,
            history: Some(history),
            last_seen: LastSeen::up_to(one.id.as_ref().map(|id| id.as_bytes().to_vec())),
            opening: StreamOpening { is_continued: false, ready_has_position: one.takes_position },
            expires_at: None,
            cut: Box::new(|| {}),
            tag: 0,
        });
        one.open(gateway, stream, heard(&self.gateways[gateway]));
        one.blocks_left = (self.rng.u8(..10) == 0).then(|| self.rng.usize(1..6));
        let (visit, names, id) = (one.visits, one.names.clone(), one.id.clone());
        self.note(|| format!("client {client} {names:?} comes to G{gateway} with {id:?}"));
        if Instant::now() < self.traffic_ends {
            let stay = self.random(self.plan.stay);
            self.at(stay, Happening::Leave(client, visit));
        }
    }

    pub(super) fn cut(&mut self, client: usize) {
        let one = &mut self.clients[client];
        let Some((gateway, _)) = &one.stream else { return };
        let gateway = *gateway;
        let trace = self
            .trace
            .is_some()
            .then(|| format!("client {client} leaves G{gateway} with {:?}", one.id));
        one.cut(heard(&self.gateways[gateway]));
        let away = pick(&mut self.rng, &[5, 100, 1500]);
        let away = self.rng.u64(..away);
        self.at(away, Happening::Connect(client));
        if let Some(text) = trace {
            self.note(|| text);
        }
    }

    /// Returns whether any client has read something.
    pub(super) fn read_all(&mut self) -> Result<bool, Fault> {
        let mut has_read = false;
        for client in 0..self.clients.len() {
            let one = &mut self.clients[client];
            let Some((gateway, _)) = &one.stream else { continue };
            let heard = heard(&self.gateways[*gateway]);
            let before = (one.id.clone(), one.count.needless);
            let has_more = one.has_opened();
            let (is_over, has_taken) = one.read(heard, &self.server).map_err(|fault| {
                if let Some(trace) = &mut self.trace {
                    trace.push_str(&format!("client {client}: {fault}\n"));
                }
                fault
            })?;
            has_read |= has_more || has_taken;
            let (id, needless) = (one.id.clone(), one.count.needless);
            if id != before.0 || needless != before.1 {
                let text = if needless == before.1 { "" } else { ", needless gap" };
                self.note(|| format!("client {client} is at {id:?}{text}"));
            }
            if is_over {
                self.cut(client);
            }
        }
        Ok(has_read)
    }
}

fn heard(gateway: &SimulatedGateway) -> Heard<'_> {
    let SimulatedGateway { newest, settled, numbers, run, earlier, is_restored, .. } = gateway;
    let is_restored = *is_restored;
    Heard { newest: *newest, settled: *settled, numbers, run, earlier, is_restored }
}

fn topic(name: &str) -> Topic {
    Topic { subscription: subscription(name), format: ssegate_format::Format::Raw, ids: Ids::Ours }
}
