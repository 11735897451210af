//! The simulation: gateways, a server and clients, by the clock of the test.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use ssegate_sse::Event;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::client::{Count, Fault, FleetClient, Heard};
use super::gateway::{Asked, SimulatedGateway};
use super::plan::{Plan, pick};
use super::server::{Command, PublishedMessage, Server, ServerConnection, WireItem};
use crate::tests::settle;
use crate::{
    ChannelName, Continued, FleetRequest, HistorySettings, Ids, LastSeen, OrderId, Snapshot,
    SourceRequest, StreamOpening, StreamRequest, StreamSettings, Subscription, Topic,
};

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

    // The server.

    fn publish_some(&mut self) {
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

    fn publish(&mut self, channel: usize, payload: Vec<u8>, is_too_large: bool) {
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

    fn publish_for_all(&mut self, gateway: usize, body: &[u8], question: Option<u64>) {
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
    fn send(&mut self, gateway: usize, item: WireItem) {
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

    fn execute(&mut self, gateway: usize, command: Command) {
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

    // Gateways.

    fn start_gateway(&mut self) -> usize {
        let gateway = self.new_gateway();
        self.connect_gateway(gateway);
        gateway
    }

    fn new_gateway(&mut self) -> usize {
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

    fn connect_gateway(&mut self, gateway: usize) {
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
    fn command(&mut self, gateway: usize, mut command: Command) {
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

    fn is_connected(&self, gateway: usize, connection: u64) -> bool {
        let one = &self.gateways[gateway];
        one.is_alive && one.connection.is_some() && one.connections == connection
    }

    fn arrive(&mut self, gateway: usize) {
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
            WireItem::ForAll(body) => assert!(one.hub.in_order(OrderId::PLAIN).hear_for_all(&body)),
            WireItem::ForOne(body) => assert!(one.hub.in_order(OrderId::PLAIN).hear_for_one(&body)),
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

    fn break_one(&mut self) {
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

    fn notice_break(&mut self, gateway: usize) {
        let one = &mut self.gateways[gateway];
        if one.is_alive {
            one.hub.lose();
            one.is_restored = false;
            let after = self.rng.u64(..300);
            self.at(after, Happening::Connected(gateway));
        }
    }

    fn replace_one(&mut self) {
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

    fn take_over(&mut self, old: usize, new: usize, tries: usize) {
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

    fn restart(&mut self, left: &[u8], numbers: Vec<(String, Vec<(u64, u64)>)>, since: Instant) {
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

    fn end_old(&mut self, gateway: usize, is_killed: bool) {
        self.note(|| format!("G{gateway} ends, killed: {is_killed}"));
        if is_killed {
            self.kill(gateway);
        } else {
            self.gateways[gateway].drain(Duration::from_millis(800));
            self.at(900, Happening::ExitDrained(gateway));
        }
    }

    /// A gateway that drains exits once its streams have ended.
    fn exit_drained(&mut self, gateway: usize) {
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

    fn kill(&mut self, gateway: usize) {
        self.note(|| format!("G{gateway} is gone"));
        for client in 0..self.clients.len() {
            if self.clients[client].stream.as_ref().is_some_and(|(at, _)| *at == gateway) {
                self.cut(client);
            }
        }
        self.gateways[gateway].die();
    }

    fn which(&self, is: impl Fn(&SimulatedGateway) -> bool) -> Vec<usize> {
        (0..self.gateways.len()).filter(|at| is(&self.gateways[*at])).collect()
    }

    /// Sends what the hubs have asked their sources for.
    fn take_asked(&mut self) {
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

    fn serve(&mut self, gateway: usize, request: FleetRequest) {
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

    // Clients.

    fn connect(&mut self, client: usize) {
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

    fn cut(&mut self, client: usize) {
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
    fn read_all(&mut self) -> Result<bool, Fault> {
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

fn heard(gateway: &SimulatedGateway) -> Heard<'_> {
    let SimulatedGateway { newest, settled, numbers, run, earlier, is_restored, .. } = gateway;
    let is_restored = *is_restored;
    Heard { newest: *newest, settled: *settled, numbers, run, earlier, is_restored }
}

fn subscription(name: &str) -> Subscription {
    let is_pattern = name.contains(['*', '?', '[']);
    Subscription { name: ChannelName::new(name).expect("a name"), is_pattern }
}

fn topic(name: &str) -> Topic {
    Topic { subscription: subscription(name), format: ssegate_format::Format::Raw, ids: Ids::Ours }
}
