//! Clients that come and go, against an oracle that knows every message.
//!
//! A simulated Redis numbers all messages and sends one gateway those that it is subscribed to, in order
//! and with delays; the hub and its shards are the real ones. Clients follow channels and patterns, leave,
//! and come back with the last id that they have read; meanwhile channels are closed, evicted and
//! opened again, histories are trimmed, and the connection breaks. What comes after a client's first
//! `ready` must reach it once and in order, or be covered by a gap that names the channel.
//!
//! `SSEGATE_SEEDS=100000` runs more of it, `SSEGATE_SEED=7` one seed with a trace.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use ssegate_sse::Event;
use ssegate_sse::frame::Form;
use tokio::time::Instant;

use super::{TestHub, run, settle, topic};
use crate::Subscription;
use crate::{HistorySettings, HubSettings, SourceKind, SourceRequest, StreamSettings, Subscriber};

/// What the simulation does in one seed.
#[derive(Clone, Debug)]
struct Plan {
    steps: usize,
    channels: usize,
    // Of three clients, this many subscribe to the pattern, too.
    patterns: u8,
    clients: usize,
    shards: usize,
    history: usize,
    history_memory: usize,
    max_channels: usize,
    linger: Duration,
    max_queue_bytes: usize,
    breaks: bool,
    delays: bool,
    changes_channels: bool,
}

impl Plan {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            steps: 160,
            channels: rng.usize(1..=5),
            patterns: rng.u8(..2),
            clients: rng.usize(1..=5),
            shards: rng.usize(1..=2),
            history: *rng.choice(&[1, 3, 50]).expect("a choice"),
            history_memory: *rng.choice(&[700, 1 << 20]).expect("a choice"),
            max_channels: *rng.choice(&[2, 4, 100]).expect("a choice"),
            linger: Duration::from_millis(*rng.choice(&[0, 20, 100_000]).expect("a choice")),
            max_queue_bytes: *rng.choice(&[1, 60, 1 << 20]).expect("a choice"),
            breaks: rng.u8(..3) == 0,
            delays: rng.bool(),
            changes_channels: rng.bool(),
        }
    }

    /// A plan in which most messages come twice, and other things happen between the two copies.
    fn of_copies(rng: &mut Rng) -> Self {
        Self {
            channels: rng.usize(1..=2),
            patterns: 2,
            max_channels: 100,
            delays: true,
            breaks: false,
            ..Self::draw(rng)
        }
    }

    /// A plan in which nothing is ever dropped.
    fn calm(rng: &mut Rng) -> Self {
        Self {
            history: 10_000,
            history_memory: 1 << 30,
            max_channels: 100,
            linger: Duration::from_secs(100_000),
            max_queue_bytes: *rng.choice(&[60, 1 << 20]).expect("a choice"),
            breaks: false,
            changes_channels: false,
            ..Self::draw(rng)
        }
    }
}

/// What is on its way from Redis to the gateway.
#[derive(Clone, Debug)]
enum WireItem {
    Copy {
        subscription: Subscription,
        channel: String,
        index: u64,
    },
    /// With the newest message before it.
    Subscribed(Subscription, u64),
    Unsubscribed(Subscription),
    Restored,
    /// What the gateway has published to itself.
    Echo,
}

/// Redis, and the connection of one gateway to it.
#[derive(Default)]
struct Redis {
    // The messages of each channel; the pattern `c*` matches all.
    messages: BTreeMap<String, Vec<u64>>,
    newest: u64,
    subscribed: HashSet<Subscription>,
    wire: VecDeque<WireItem>,
    is_connected: bool,
    // The newest message that the gateway has received, or missed for good.
    taken: u64,
    // The message of which another copy may follow.
    newest_copy: Option<u64>,
    // The newest message when a number was given.
    by_number: HashMap<u64, u64>,
}

impl Redis {
    fn publish(&mut self, channel: &str) {
        self.newest += 1;
        let index = self.newest;
        self.messages.entry(channel.to_owned()).or_default().push(index);
        self.messages.entry("c*".to_owned()).or_default().push(index);
        for name in [channel, "c*"] {
            let subscription = topic(name).subscription;
            if self.is_connected && self.subscribed.contains(&subscription) {
                let channel = channel.to_owned();
                self.wire.push_back(WireItem::Copy { subscription, channel, index });
            }
        }
    }

    fn execute(&mut self, subscription: Subscription, request: SourceRequest) {
        match request {
            SourceRequest::Follow => {
                self.subscribed.insert(subscription.clone());
                self.wire.push_back(WireItem::Subscribed(subscription, self.newest));
            }
            SourceRequest::Leave => {
                self.subscribed.remove(&subscription);
                self.wire.push_back(WireItem::Unsubscribed(subscription));
            }
        }
    }

    /// The gateway receives the next item that Redis sent.
    fn take_one(&mut self, test: &TestHub) {
        let Some(next) = self.wire.pop_front() else { return };
        match next {
            WireItem::Copy { subscription, channel, index } => {
                if self.newest_copy != Some(index) {
                    test.hub.begin_message(channel.as_bytes());
                }
                self.newest_copy = Some(index);
                self.taken = index;
                let data = Bytes::from(format!("{channel} {index}"));
                let (is_pattern, name) = (subscription.is_pattern, subscription.name.as_str());
                test.hub.publish(is_pattern, name, Instant::now(), |_| {
                    Some(Event { data: data.clone(), ..Event::default() })
                });
            }
            WireItem::Subscribed(subscription, index) => {
                self.taken = index;
                let is_left_later = self.wire.iter().any(
                    |later| matches!(later, WireItem::Unsubscribed(left) if *left == subscription),
                );
                if !is_left_later {
                    test.hub.confirm(subscription.is_pattern, subscription.name.as_str());
                }
            }
            WireItem::Unsubscribed(_) => {}
            WireItem::Restored => test.hub.restored(),
            WireItem::Echo => test.hub.end_message(),
        }
        self.by_number.insert(test.hub.number(), self.taken);
    }

    /// The newest message when this number was given.
    fn newest_at(&self, number: u64) -> u64 {
        let known = self.by_number.iter().filter(|(given, _)| **given <= number);
        known.max_by_key(|(given, _)| **given).map_or(0, |(_, index)| *index)
    }
}

/// Parses a stream as the standard says, and checks what is in it.
struct OracleClient {
    names: Vec<String>,
    stream: Option<Subscriber>,
    text: String,
    id: Option<String>,
    // The message up to which nothing of a channel is missing. Empty before the first `ready`.
    complete: HashMap<String, u64>,
    // Channels named in a gap: what is missing before their next message is no loss.
    excused: HashSet<String>,
    // Its past has come, with gaps for what was missing: from here on nothing may be missing.
    is_up_to_date: bool,
    // This stream was sent `ready`.
    is_ready: bool,
    got: HashSet<u64>,
    newest: u64,
    // Messages up to here were delivered before it subscribed to these names, so they are not for it.
    came_after: u64,
    // Gaps on channels of which nothing was to be missing.
    gaps: usize,
    // For the trace.
    taken: String,
}

impl OracleClient {
    fn new(names: Vec<String>) -> Self {
        Self {
            names,
            stream: None,
            text: String::new(),
            id: None,
            complete: HashMap::new(),
            excused: HashSet::new(),
            is_up_to_date: false,
            is_ready: false,
            got: HashSet::new(),
            newest: 0,
            came_after: 0,
            gaps: 0,
            taken: String::new(),
        }
    }

    fn cut(&mut self, redis: &Redis) {
        self.stream = None;
        let place = redis.newest_at(self.number());
        for name in self.excused.drain() {
            let complete = self.complete.entry(name).or_default();
            *complete = place.max(*complete);
        }
        self.text.clear();
        self.is_up_to_date = false;
        self.is_ready = false;
    }

    /// The number in its last id.
    fn number(&self) -> u64 {
        let number = self.id.as_deref().and_then(|id| id.split_once('-'));
        number.map_or(0, |(_, number)| number.parse().expect("a number"))
    }

    /// Reads what has arrived, but no more than `most` blocks.
    fn read(&mut self, most: usize, redis: &Redis) -> Result<(), String> {
        let Some(stream) = &self.stream else { return Ok(()) };
        let context = Context::from_waker(Waker::noop());
        loop {
            match stream.poll_next(Form::Text, &context) {
                Poll::Ready(Some(bytes)) => self.text += str::from_utf8(&bytes).expect("text"),
                Poll::Ready(None) => break,
                Poll::Pending => break,
            }
        }
        for _ in 0..most {
            let Some(end) = self.text.find("\n\n") else { break };
            let block: String = self.text.drain(..end + 2).collect();
            self.taken.push_str(&block);
            self.take(&block, redis)?;
        }
        // A comment line, without a block.
        if !self.text.contains("\n\n") && self.text.contains(": ready\n") {
            self.ready(redis)?;
        }
        Ok(())
    }

    fn take(&mut self, block: &str, redis: &Redis) -> Result<(), String> {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        if let Some(id) = field("id: ") {
            self.id = Some(id.to_owned());
        }
        if block.contains(": ready\n") {
            self.ready(redis)?;
        }
        let Some(data) = field("data: ") else { return Ok(()) };
        if field("event: ") == Some("gap") {
            return self.gap(data, redis);
        }
        let (channel, index) = data.split_once(' ').expect("a channel and an index");
        let index: u64 = index.parse().expect("an index");
        if !self.got.insert(index) {
            return Err(format!("{index} came twice"));
        }
        if index < self.newest {
            return Err(format!("{index} came after {}", self.newest));
        }
        self.newest = index;
        if index <= self.came_after {
            return Err(format!("{index} is from before it subscribed, after {}", self.came_after));
        }
        let matches = |name: &String| name == channel || name == "c*";
        assert!(self.names.iter().any(matches), "{channel} is not subscribed");
        // Where a message comes twice, the history may have kept either copy.
        let comes_once = !self.names.iter().any(|name| name == "c*");
        if comes_once && self.excused.remove(channel) {
            self.complete.insert(channel.to_owned(), index - 1);
        }
        if self.is_up_to_date { self.check(index, redis) } else { Ok(()) }
    }

    fn ready(&mut self, redis: &Redis) -> Result<(), String> {
        self.is_up_to_date = true;
        self.is_ready = true;
        for name in self.excused.drain() {
            self.complete.insert(name, redis.taken);
        }
        for name in &self.names {
            self.complete.entry(name.clone()).or_insert(redis.newest);
        }
        self.check(self.newest, redis)
    }

    fn gap(&mut self, data: &str, redis: &Redis) -> Result<(), String> {
        let place = redis.newest_at(self.number());
        let is_of_break = data.contains("redis_away");
        let named: Vec<String> = self
            .names
            .iter()
            .filter(|name| data.contains(&format!("\"{name}\"")))
            .cloned()
            .collect();
        assert!(!named.is_empty(), "{data}");
        for name in &named {
            if let Some(complete) = self.complete.get_mut(name) {
                self.gaps += 1;
                if is_of_break {
                    *complete = place.max(*complete);
                } else {
                    self.excused.insert(name.clone());
                }
            }
        }
        // For a client that was ready; for others it is a part of their past.
        self.is_up_to_date |= is_of_break && self.is_ready;
        if self.is_up_to_date { self.check(place, redis) } else { Ok(()) }
    }

    /// Everything up to `index` must have come, or be covered by a gap.
    fn check(&mut self, index: u64, redis: &Redis) -> Result<(), String> {
        for (name, complete) in &mut self.complete {
            if self.excused.contains(name) {
                continue;
            }
            let messages = redis.messages.get(name).map_or(&[][..], Vec::as_slice);
            let start = messages.partition_point(|known| *known <= *complete);
            let due = messages[start..].iter().take_while(|known| **known <= index);
            let missing: Vec<_> = due.filter(|known| !self.got.contains(known)).collect();
            if !missing.is_empty() {
                return Err(format!("{missing:?} of {name} are missing before {index}"));
            }
            *complete = index.max(*complete);
        }
        Ok(())
    }
}

struct World {
    plan: Plan,
    rng: Rng,
    test: TestHub,
    redis: Redis,
    clients: Vec<OracleClient>,
    trace: Option<String>,
    // Everything that the gateway received was delivered.
    is_delivered: bool,
}

impl World {
    fn new(plan: Plan, mut rng: Rng, is_traced: bool) -> Self {
        let settings = HubSettings {
            max_channels: plan.max_channels,
            history_memory: plan.history_memory,
            ..HubSettings::default()
        };
        let test = TestHub::new(plan.shards, settings);
        let clients =
            (0..plan.clients).map(|_| OracleClient::new(names(&plan, &mut rng))).collect();
        let redis = Redis { is_connected: true, ..Redis::default() };
        let trace = is_traced.then(String::new);
        Self { plan, rng, test, redis, clients, trace, is_delivered: true }
    }

    async fn live(&mut self) -> Result<(), String> {
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
                    // Of a channel that is new to it, anything may be missing.
                    client.complete.retain(|name, _| names.contains(name));
                    client.came_after = 0;
                    client.names = names;
                }
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
        let history = HistorySettings {
            count: self.plan.history,
            bytes: 1 << 30,
            age: Duration::from_secs(1_000_000),
        };
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
            Some(copy) if hub.settled() < hub.number() => self.redis.taken.min(copy - 1),
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
            let number = self.test.hub.number();
            self.note(|_| format!("the gateway receives {next:?}: {number}"));
        }
        self.test.hub.flush();
    }

    fn lose(&mut self) {
        if self.redis.is_connected {
            self.note(|_| "the connection breaks".into());
            self.redis.is_connected = false;
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

fn names(plan: &Plan, rng: &mut Rng) -> Vec<String> {
    let mut names: Vec<_> = (0..plan.channels).map(|n| format!("c{n}")).collect();
    rng.shuffle(&mut names);
    names.truncate(rng.usize(1..=3).min(plan.max_channels));
    if rng.u8(..3) < plan.patterns && names.len() < plan.max_channels {
        names.push("c*".into());
    }
    names
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs the seeds; a seed may have at most `gaps` gaps.
fn run_seeds(plan: fn(&mut Rng) -> Plan, gaps: Option<usize>) {
    run_many_seeds(plan, gaps, number_of("SSEGATE_SEEDS").unwrap_or(600));
}

fn run_many_seeds(plan: fn(&mut Rng) -> Plan, gaps: Option<usize>, count: u64) {
    let one = number_of("SSEGATE_SEED");
    let seeds = one.map_or(0..count, |seed| seed..seed + 1);
    for seed in seeds {
        run(async move {
            let mut rng = Rng::with_seed(seed);
            let plan = plan(&mut rng);
            let mut world = World::new(plan, rng, one.is_some());
            let outcome = world.live().await;
            let sent: usize = world.clients.iter().map(|client| client.gaps).sum();
            let trace = world.trace.unwrap_or_default();
            if let Err(error) = outcome {
                panic!("{trace}seed {seed}: {error}; {:?}", world.plan);
            }
            assert!(gaps.is_none_or(|most| sent <= most), "{trace}seed {seed}: {sent} gaps");
        });
    }
}

#[test]
fn a_client_that_comes_back_misses_nothing_without_a_gap() {
    run_seeds(Plan::draw, None);
}

#[test]
fn a_client_that_subscribes_between_two_copies_of_a_message_gets_it() {
    run_seeds(Plan::of_copies, None);
}

#[test]
fn no_gap_is_sent_where_nothing_was_dropped() {
    run_seeds(Plan::calm, Some(0));
}

#[test]
#[ignore = "long: run by tests/run --full"]
fn long_clients_that_come_back_miss_nothing_without_a_gap() {
    for (plan, gaps) in
        [(Plan::draw as fn(&mut Rng) -> Plan, None), (Plan::of_copies, None), (Plan::calm, Some(0))]
    {
        run_many_seeds(plan, gaps, 10_000);
    }
}
