//! The simulation: gateways, a server and clients, by the clock of the test.

mod gateways;
mod replacing;
mod traffic;
mod visits;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::client::{Count, Fault, FleetClient};
use super::gateway::SimulatedGateway;
use super::plan::{Plan, pick};
use super::server::{Command, Server, WireItem};
use crate::OrderId;
use crate::tests::settle;

/// Something that happens at a time.
enum Happening {
    Publish,
    /// A client connects, or leaves if this is still that visit.
    Connect(usize),
    Leave(usize, u64),
    /// A command of this connection of a gateway reaches the server; what it has sent arrives.
    Execute(usize, u64, Command),
    Arrive(usize, u64),
    /// A gateway publishes for others.
    PublishForAll {
        gateway: usize,
        body: Vec<u8>,
        question: Option<u64>,
    },
    PublishForOne {
        run: String,
        body: Vec<u8>,
    },
    Asked {
        gateway: usize,
        question: u64,
        subscribers: usize,
    },
    BreakOne,
    NoticeBreak(usize),
    Connected(usize),
    ReplaceOne,
    EndOld {
        gateway: usize,
        is_killed: bool,
    },
    ExitDrained(usize),
    /// A gateway asks another for its histories, in whose place it is to come.
    TakeOver {
        old: usize,
        new: usize,
        tries: usize,
    },
    /// A gateway starts with what another has left.
    Restart {
        left: Vec<u8>,
        numbers: Vec<(String, Vec<(u64, u64)>)>,
        since: Instant,
    },
}

pub(super) struct FleetWorld {
    plan: Plan,
    rng: Rng,
    server: Server,
    gateways: Vec<SimulatedGateway>,
    clients: Vec<FleetClient>,
    due: BTreeMap<(Instant, u64), Happening>,
    happenings: u64,
    traffic_ends: Instant,
    count: Count,
    changed: Rc<Notify>,
    start: Instant,
    pub(super) trace: Option<String>,
}

impl FleetWorld {
    pub(super) fn new(plan: Plan, rng: Rng, is_traced: bool) -> Self {
        let now = Instant::now();
        let traffic_ends = now + Duration::from_millis(plan.traffic);
        Self {
            plan,
            rng,
            server: Server::default(),
            gateways: Vec::new(),
            clients: Vec::new(),
            due: BTreeMap::new(),
            happenings: 0,
            traffic_ends,
            count: Count::default(),
            changed: Rc::default(),
            start: now,
            trace: is_traced.then(String::new),
        }
    }

    pub(super) async fn live(&mut self) -> Result<Count, Fault> {
        for _ in 0..self.plan.gateways {
            self.start_gateway();
        }
        let mut names: Vec<String> = (0..self.plan.channels).map(|n| format!("c{n}")).collect();
        if self.plan.patterned.contains(&true) {
            names.push("p*".into());
        }
        for client in 0..self.plan.clients {
            let mut some = names.clone();
            self.rng.shuffle(&mut some);
            some.truncate(pick(&mut self.rng, &[1, 1, 2, 3]));
            some.sort();
            self.clients.push(FleetClient::new(some, self.rng.u8(..4) > 0));
            let at = self.rng.u64(..self.plan.traffic * 2 / 5);
            self.at(at, Happening::Connect(client));
        }
        self.at(1, Happening::Publish);
        if self.plan.replacements > 0 {
            let at = self.rng.u64(300..self.plan.replacements + 300);
            self.at(at, Happening::ReplaceOne);
        }
        if self.plan.breaks > 0 {
            let at = self.random(self.plan.breaks);
            self.at(at, Happening::BreakOne);
        }
        let end = self.traffic_ends + Duration::from_secs(14);
        while let Some((&(next, _), _)) = self.due.first_key_value()
            && next < end
        {
            let changed = Rc::clone(&self.changed);
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = changed.notified() => {}
            }
            self.take_asked();
            while let Some(entry) = self.due.first_entry()
                && entry.key().0 <= Instant::now()
            {
                let happening = entry.remove();
                self.happen(happening);
                // A stream requests its past when it is read, a page at a time.
                let mut idle = 0;
                while idle < 2 {
                    settle().await;
                    idle = if self.read_all()? { 0 } else { idle + 1 };
                }
                self.take_asked();
            }
        }
        self.finish()
    }

    fn finish(&mut self) -> Result<Count, Fault> {
        let mut count = self.count;
        for (at, client) in self.clients.iter_mut().enumerate() {
            let gateway = client.stream.as_ref().map(|(gateway, _)| &self.gateways[*gateway]);
            let is_connected = gateway.is_some_and(|gateway| gateway.is_restored);
            let is_live =
                client.stream.as_ref().is_some_and(|(_, stream)| stream.close_reason().is_none());
            if is_live && client.is_up_to_date() && is_connected {
                let checked = client.check(self.server.newest, &self.server);
                if let (Err(fault), Some(trace)) = (&checked, &mut self.trace) {
                    writeln!(trace, "client {at}: {fault}").expect("a string takes any text");
                }
                checked?;
            }
            count.resumes += client.count.resumes;
            count.gaps += client.count.gaps;
            count.needless += client.count.needless;
        }
        Ok(count)
    }

    // Time.

    fn at(&mut self, milliseconds: u64, happening: Happening) {
        self.at_time(Instant::now() + Duration::from_millis(milliseconds), happening);
    }

    fn at_time(&mut self, time: Instant, happening: Happening) {
        self.happenings += 1;
        self.due.insert((time, self.happenings), happening);
    }

    /// A random time with this mean.
    fn random(&mut self, mean: u64) -> u64 {
        let time = Duration::from_millis(mean).mul_f64(-(1.0 - self.rng.f64()).ln().max(-20.0));
        u64::try_from(time.as_millis()).unwrap_or(mean)
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let time = self.start.elapsed().as_millis();
            writeln!(trace, "{time:6} {}", text()).expect("a string takes any text");
        }
    }

    fn happen(&mut self, happening: Happening) {
        let is_traffic = Instant::now() < self.traffic_ends;
        match happening {
            Happening::Publish if is_traffic => self.publish_some(),
            Happening::Connect(client) => self.connect(client),
            Happening::Leave(client, visit) => {
                if self.clients[client].visits == visit {
                    self.cut(client);
                }
            }
            Happening::Execute(gateway, connection, command) => {
                if self.is_connected(gateway, connection) {
                    self.execute(gateway, command);
                }
            }
            Happening::Arrive(gateway, connection) => {
                if self.is_connected(gateway, connection) {
                    self.arrive(gateway);
                }
            }
            Happening::PublishForAll { gateway, body, question } => {
                self.publish_for_all(gateway, &body, question);
            }
            Happening::PublishForOne { run, body } => {
                let to = self.gateways.iter().position(|g| g.is_alive && g.run == run);
                if let Some(to) = to {
                    self.send(to, WireItem::ForOne(body));
                }
            }
            Happening::Asked { gateway, question, subscribers } => {
                if self.gateways[gateway].is_alive {
                    self.gateways[gateway]
                        .hub
                        .in_order(OrderId::PLAIN)
                        .asked(question, subscribers);
                }
            }
            Happening::BreakOne if is_traffic => self.break_one(),
            Happening::NoticeBreak(gateway) => self.notice_break(gateway),
            Happening::Connected(gateway) => self.connect_gateway(gateway),
            Happening::ReplaceOne if is_traffic => self.replace_one(),
            Happening::EndOld { gateway, is_killed } => self.end_old(gateway, is_killed),
            Happening::ExitDrained(gateway) => self.exit_drained(gateway),
            Happening::TakeOver { old, new, tries } => self.take_over(old, new, tries),
            Happening::Restart { left, numbers, since } => self.restart(&left, numbers, since),
            Happening::Publish | Happening::BreakOne | Happening::ReplaceOne => {}
        }
    }
}
