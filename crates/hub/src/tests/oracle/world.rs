//! The simulation: a hub, a Redis and its clients, step by step.

use std::fmt::Write as _;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fastrand::Rng;
use ssegate_format::Format;
use ssegate_sse::frame::Form;

use super::client::OracleClient;
use super::plan::{FollowPlan, Plan, followed, names};
use super::redis::{Redis, WireItem};
use crate::tests::{TestHub, settle, topic};
use crate::{
    ChannelName, FollowedPattern, HistorySettings, HubSettings, Ids, NameShape, Retention,
    RetentionRule, RetentionRules, SourceKind, SourceRequest, StreamSettings,
};

pub(super) struct World {
    pub(super) plan: Plan,
    rng: Rng,
    test: TestHub,
    redis: Redis,
    pub(super) clients: Vec<OracleClient>,
    pub(super) trace: Option<String>,
    // Everything that the gateway received was delivered.
    is_delivered: bool,
}

impl World {
    pub(super) fn new(plan: Plan, mut rng: Rng, is_traced: bool) -> Self {
        let patterns = match plan.follow {
            FollowPlan::Never => Vec::new(),
            FollowPlan::Always => vec!["c*"],
            FollowPlan::Changing => followed(&mut rng),
        };
        let test = TestHub::new(plan.shards, settings(&plan, &patterns));
        let clients =
            (0..plan.clients).map(|_| OracleClient::new(names(&plan, &mut rng))).collect();
        let redis = Redis { is_connected: true, ..Redis::default() };
        let trace = is_traced.then(String::new);
        Self { plan, rng, test, redis, clients, trace, is_delivered: true }
    }

    pub(super) async fn live(&mut self) -> Result<(), String> {
        for _ in 0..self.plan.steps {
            self.step().await?;
        }
        self.rest().await
    }

    async fn step(&mut self) -> Result<(), String> {
        let kind = self.rng.usize(..100);
        match kind {
            0..30 => {
                let name = format!("c{}", self.rng.usize(..self.plan.channels));
                self.redis.publish(&name);
                self.note(|redis| format!("publish {name} {}", redis.newest));
            }
            30..45 => self.open(),
            45..55 => self.cut(),
            55..70 => self.read()?,
            70..75 => {
                let time = Duration::from_millis(self.rng.u64(1..60));
                tokio::time::sleep(time).await;
            }
            75 if self.redis.is_connected => self.redis.wire.push_back(WireItem::Echo),
            76..78 if self.plan.breaks => self.lose(),
            78..80 if self.plan.changes_channels => {
                let client = self.rng.usize(..self.clients.len());
                if self.clients[client].stream.is_none() {
                    let names = names(&self.plan, &mut self.rng);
                    self.note(|_| format!("client {client} wants {names:?}"));
                    let client = &mut self.clients[client];
                    // Of a channel that is new to it, anything may be missing, unless all are followed and
                    // nothing is dropped.
                    client.complete.retain(|name, _| names.contains(name));
                    if self.plan.keeps_everything() && client.id.is_some() {
                        let place = self.redis.newest_at(client.number());
                        // What comes is kept by channel, not by pattern.
                        for name in names.iter().filter(|name| *name != "c*") {
                            client.complete.entry(name.clone()).or_insert(place);
                        }
                    }
                    client.came_after = 0;
                    client.names = names;
                }
            }
            80..83 if self.plan.follow == FollowPlan::Changing => {
                let patterns = followed(&mut self.rng);
                self.note(|_| format!("a reload: follow {patterns:?}"));
                self.test.hub.change(settings(&self.plan, &patterns));
            }
            _ => {
                self.execute_requests();
                let count = if self.plan.delays { self.rng.usize(..3) } else { usize::MAX };
                self.take(count);
            }
        }
        self.is_delivered = self.rng.u8(..4) > 0;
        if self.is_delivered {
            self.test.hub.flush();
            settle().await;
        }
        Ok(())
    }

    /// Everything arrives, every client comes back and reads: nothing may be missing at the end.
    async fn rest(&mut self) -> Result<(), String> {
        if !self.redis.is_connected {
            self.connect();
        }
        // With few channels allowed, some have to wait until others are left.
        for client in 0..self.clients.len() {
            for other in &mut self.clients {
                other.cut(&self.redis);
            }
            settle().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            for _ in 0..60 {
                if self.clients[client].stream.is_none() {
                    self.open_one(client);
                }
                settle().await;
                self.execute_requests();
                self.take(usize::MAX);
                self.test.hub.flush();
                settle().await;
                self.read_one(client, usize::MAX)?;
            }
            let newest = self.redis.newest;
            self.note(|_| format!("client {client} at the end"));
            let Self { clients, redis, .. } = self;
            let client = &mut clients[client];
            let is_closed = client.stream.as_ref().is_none_or(|s| s.close_reason().is_some());
            if !is_closed && client.is_up_to_date {
                client.check(newest, redis)?;
            }
        }
        Ok(())
    }

    fn open(&mut self) {
        let client = self.rng.usize(..self.clients.len());
        if self.clients[client].stream.is_none() {
            self.open_one(client);
        }
    }

    fn open_one(&mut self, client: usize) {
        let shard = self.rng.usize(..self.plan.shards);
        let history = history(&self.plan);
        let settings = StreamSettings {
            linger: self.plan.linger,
            max_queue_bytes: self.plan.max_queue_bytes,
            ..StreamSettings::default()
        };
        let (names, id) = (self.clients[client].names.clone(), self.clients[client].id.clone());
        if id.is_none() {
            self.clients[client].came_after = self.delivered_for_good();
        }
        self.note(|_| format!("client {client} opens {names:?} after {id:?} on shard {shard}"));
        let topics = names.iter().map(|name| topic(name)).collect();
        let stream = self.test.open_topics(shard, topics, id.as_deref(), settings, history);
        self.clients[client].stream = Some(stream);
    }

    /// No message up to this one will be delivered to a client that subscribes now.
    fn delivered_for_good(&self) -> u64 {
        let hub = &self.test.hub;
        match self.redis.newest_copy {
            _ if !self.is_delivered => 0,
            // Another copy may follow.
            Some(copy) if hub.settled() < hub.newest_number() => self.redis.taken.min(copy - 1),
            _ => self.redis.taken,
        }
    }

    fn cut(&mut self) {
        let client = self.rng.usize(..self.clients.len());
        self.note(|_| format!("client {client} is cut"));
        self.clients[client].cut(&self.redis);
    }

    fn read(&mut self) -> Result<(), String> {
        let client = self.rng.usize(..self.clients.len());
        let most = if self.rng.bool() { usize::MAX } else { self.rng.usize(1..4) };
        self.read_one(client, most)
    }

    fn read_one(&mut self, client: usize, most: usize) -> Result<(), String> {
        let read = self.clients[client].read(most, &self.redis);
        let taken = std::mem::take(&mut self.clients[client].taken);
        self.note(|_| format!("client {client} reads {taken:?}"));
        let closed = self.clients[client].stream.as_ref().is_some_and(|stream| {
            let context = Context::from_waker(Waker::noop());
            stream.close_reason().is_some()
                && stream.poll_next(Form::Text, &context) == Poll::Ready(None)
        });
        if closed && !self.clients[client].text.contains("\n\n") {
            self.clients[client].cut(&self.redis);
        }
        read.map_err(|error| format!("client {client}: {error}"))
    }

    /// Redis executes what the hub requests.
    fn execute_requests(&mut self) {
        if !self.redis.is_connected {
            if self.rng.u8(..3) == 0 {
                self.connect();
            }
            return;
        }
        let requests = std::pin::pin!(self.test.hub.source_requests(SourceKind::PubSub));
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(requests) = requests.poll(&mut context) {
            let mut requests: Vec<_> = requests.collect();
            requests.sort_by_key(|(subscription, request)| {
                (*request == SourceRequest::Follow, subscription.name.clone())
            });
            for (subscription, request) in requests {
                self.redis.execute(subscription, request);
            }
        }
    }

    fn take(&mut self, count: usize) {
        for _ in 0..count.min(self.redis.wire.len()) {
            let next = self.redis.wire.front().cloned();
            self.redis.take_one(&self.test);
            let number = self.test.hub.newest_number();
            self.note(|_| format!("the gateway receives {next:?}: {number}"));
        }
        self.test.hub.flush();
    }

    fn lose(&mut self) {
        if self.redis.is_connected {
            self.note(|_| "the connection breaks".into());
            self.redis.is_connected = false;
            self.redis.is_restored = false;
            self.redis.subscribed.clear();
            self.redis.wire.clear();
            self.redis.newest_copy = None;
            self.test.hub.lose();
            for client in &mut self.clients {
                client.is_up_to_date = false;
            }
        }
    }

    fn connect(&mut self) {
        self.note(|_| "the gateway connects".into());
        self.redis.is_connected = true;
        // What was requested meanwhile is among the followed subscriptions.
        let requests = std::pin::pin!(self.test.hub.source_requests(SourceKind::PubSub));
        drop(requests.poll(&mut Context::from_waker(Waker::noop())));
        let mut followed = self.test.hub.followed();
        followed.sort();
        for subscription in followed {
            self.redis.execute(subscription, SourceRequest::Follow);
        }
        self.redis.wire.push_back(WireItem::Restored);
    }

    fn note(&mut self, line: impl FnOnce(&Redis) -> String) {
        if let Some(trace) = &mut self.trace {
            writeln!(trace, "{}", line(&self.redis)).expect("a string takes any text");
        }
    }
}

fn history(plan: &Plan) -> HistorySettings {
    let age = Duration::from_secs(1_000_000);
    HistorySettings { count: plan.history, bytes: 1 << 30, age }
}

fn settings(plan: &Plan, followed: &[&str]) -> HubSettings {
    let retention = Retention { history: Some(history(plan)), linger: plan.linger };
    let names = NameShape::new(vec!["c".into(), String::new()]);
    let rule = RetentionRule { names, format: Format::Raw, ids: Ids::Ours, retention };
    let pattern = |name: &&str| FollowedPattern {
        pattern: ChannelName::new(name).expect("a name"),
        format: Format::Raw,
    };
    HubSettings {
        max_channels: plan.max_channels,
        history_memory: plan.history_memory,
        retention: Arc::new(RetentionRules::new([rule])),
        followed: followed.iter().map(pattern).collect(),
        ..HubSettings::default()
    }
}
