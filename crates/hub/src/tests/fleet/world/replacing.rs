//! Gateways that take the place of others.

use std::time::Duration;

use tokio::time::Instant;

use super::super::gateway::SimulatedGateway;
use super::super::plan::pick;
use super::{FleetWorld, Happening};
use crate::{Continued, Snapshot};

impl FleetWorld {
    pub(super) fn replace_one(&mut self) {
        let live = self.which(SimulatedGateway::takes_clients);
        if let Some(gateway) = self.rng.choice(live) {
            let is_killed = !self.plan.is_calm && self.rng.u8(..5) == 0;
            match self.rng.u8(..3) {
                0 if self.plan.hands_over => {
                    // What the old one has heard meanwhile has numbers of its own.
                    let new = self.new_gateway();
                    let begins_after = self.gateways[gateway].hub.newest_number() + 10_000;
                    self.gateways[new].hub.begin_after(begins_after);
                    self.gateways[new].is_serving = false;
                    self.connect_gateway(new);
                    let after = pick(&mut self.rng, &[30, 300]);
                    self.at(after, Happening::TakeOver { old: gateway, new, tries: 0 });
                }
                1 if self.plan.hands_over => {
                    self.gateways[gateway].restarts = true;
                    self.end_old(gateway, false);
                }
                _ => {
                    self.start_gateway();
                    let after = pick(&mut self.rng, &[50, 500, 1500]);
                    self.at(after, Happening::EndOld { gateway, is_killed });
                }
            }
        }
        let next = self.plan.replacements * self.rng.u64(30..130) / 100;
        self.at(next, Happening::ReplaceOne);
    }

    pub(super) fn take_over(&mut self, old: usize, new: usize, tries: usize) {
        if !self.gateways[new].is_alive {
            return;
        }
        let mut continued = Continued::TooLate;
        if self.gateways[old].is_alive {
            let left = self.gateways[old].snapshot();
            let left = Snapshot::read(&left, Instant::now()).expect("a hub has written it");
            continued = self.gateways[new].hub.take_over(&left, tries == 20);
            self.note(|| format!("G{new} takes over from G{old}: {continued:?}"));
        }
        let is_without_fleet = continued == Continued::NoFleet;
        if (is_without_fleet || continued == Continued::NotYet) && tries < 20 {
            return self.at(50, Happening::TakeOver { old, new, tries: tries + 1 });
        }
        if matches!(continued, Continued::With(_)) {
            self.count.taken_over += 1;
            self.gateways[new].earlier = self.gateways[old].all_numbers();
        }
        self.gateways[new].is_serving = true;
        if self.gateways[old].is_alive {
            self.end_old(old, false);
        }
    }

    pub(super) fn restart(
        &mut self,
        left: &[u8],
        numbers: Vec<(String, Vec<(u64, u64)>)>,
        since: Instant,
    ) {
        let mut new = self.new_gateway();
        let mut left = Snapshot::read(left, since).expect("a hub has written it");
        let mut channels = self.gateways[new].hub.restore(&left);
        if self.rng.u8(..4) == 0 {
            // It ends before the server has confirmed anything, and leaves what it was left.
            let again = self.gateways[new].snapshot();
            self.kill(new);
            new = self.new_gateway();
            left = Snapshot::read(&again, Instant::now()).expect("a hub has written it");
            channels = self.gateways[new].hub.restore(&left);
        }
        self.note(|| format!("G{new} goes on with {channels} channels"));
        self.count.restored += 1;
        self.gateways[new].earlier = numbers;
        self.connect_gateway(new);
    }

    pub(super) fn end_old(&mut self, gateway: usize, is_killed: bool) {
        self.note(|| format!("G{gateway} ends, killed: {is_killed}"));
        if is_killed {
            self.kill(gateway);
        } else {
            self.gateways[gateway].drain(Duration::from_millis(800));
            self.at(900, Happening::ExitDrained(gateway));
        }
    }

    /// A gateway that drains exits once its streams have ended.
    pub(super) fn exit_drained(&mut self, gateway: usize) {
        if self.clients.iter().any(|c| c.stream.as_ref().is_some_and(|(at, _)| *at == gateway)) {
            self.at(100, Happening::ExitDrained(gateway));
        } else {
            if self.gateways[gateway].restarts {
                let left = self.gateways[gateway].snapshot();
                let numbers = self.gateways[gateway].all_numbers();
                let after = pick(&mut self.rng, &[1, 50, 1000]);
                let since = Instant::now();
                self.at(after, Happening::Restart { left, numbers, since });
            }
            self.kill(gateway);
        }
    }

    pub(super) fn kill(&mut self, gateway: usize) {
        self.note(|| format!("G{gateway} is gone"));
        for client in 0..self.clients.len() {
            if self.clients[client].stream.as_ref().is_some_and(|(at, _)| *at == gateway) {
                self.cut(client);
            }
        }
        self.gateways[gateway].die();
    }
}
