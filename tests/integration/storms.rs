//! Storms: many clients that hang up at random moments and come back with their last id, while
//! events keep coming and what is behind them fails. Each client's sequence is complete, in order,
//! without repeats; where something is gone, it was told, once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{
    EventStream, Gateway, GatewayBuilder, Redis, Request, SOON, Via, free_port, within,
};

/// How much of a storm.
#[derive(Clone, Copy)]
struct Force {
    clients: usize,
    channels: usize,
    per_second: usize,
    lasts: Duration,
}

/// A few seconds, also on a busy machine.
const SHORT: Force =
    Force { clients: 60, channels: 20, per_second: 1000, lasts: Duration::from_secs(4) };
/// What is promised.
const FULL: Force =
    Force { clients: 200, channels: 50, per_second: 5000, lasts: Duration::from_secs(30) };

/// Where the events come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    PubSub,
    Streams,
}

/// What is published on each channel: its numbers, from 0.
struct Sea {
    source: Source,
    /// The number that comes next on each channel; raised before it is sent.
    next: Vec<AtomicUsize>,
    /// Nothing more comes.
    is_calm: AtomicBool,
    /// Where a client may connect.
    gateways: RwLock<Vec<SocketAddr>>,
    /// How often the source has been away so far.
    outages: AtomicUsize,
    /// How often a client has come to a stream.
    voyages: AtomicUsize,
}

impl Sea {
    fn new(source: Source, force: Force, gateways: Vec<SocketAddr>) -> Arc<Self> {
        Arc::new(Self {
            source,
            next: (0..force.channels).map(|_| AtomicUsize::new(0)).collect(),
            is_calm: AtomicBool::new(false),
            gateways: RwLock::new(gateways),
            outages: AtomicUsize::new(0),
            voyages: AtomicUsize::new(0),
        })
    }

    /// Publishes the next numbers, some on each channel in turn.
    async fn publish(&self, redis: &Redis, force: Force) {
        const TURN: Duration = Duration::from_millis(20);
        let end = Instant::now() + force.lasts;
        // On a busy machine it may take longer until each has come, hung up, and come back.
        let has_been_long = || {
            let voyages = self.voyages.load(Ordering::SeqCst);
            let now = Instant::now();
            now >= end && (voyages >= force.clients * 2 || now >= end + 4 * SOON)
        };
        let mut turn = tokio::time::interval(TURN);
        let in_a_turn = force.per_second / 50;
        let mut at = 0;
        while !has_been_long() {
            turn.tick().await;
            let messages: Vec<(String, String)> = (0..in_a_turn)
                .map(|_| {
                    at = (at + 1) % force.channels;
                    let number = self.next[at].fetch_add(1, Ordering::SeqCst);
                    (format!("c{at}"), format!("{at}:{number}"))
                })
                .collect();
            self.send(redis, &messages).await;
        }
    }

    /// One message on each channel, so that everybody sees the end.
    async fn calm(&self, redis: &Redis) {
        for (channel, next) in self.next.iter().enumerate() {
            let number = next.fetch_add(1, Ordering::SeqCst);
            self.send(redis, &[(format!("c{channel}"), format!("{channel}:{number}"))]).await;
        }
        self.is_calm.store(true, Ordering::SeqCst);
    }

    async fn send(&self, redis: &Redis, messages: &[(String, String)]) {
        let is_sent = match self.source {
            Source::PubSub => redis.try_publish(messages).await,
            Source::Streams => redis.try_add(messages).await,
        };
        assert!(is_sent, "redis-server runs while something is published");
    }

    fn next(&self, channel: usize) -> usize {
        self.next[channel].load(Ordering::SeqCst)
    }

    /// A client, to its end: answers how many events it saw, and how often it came back.
    async fn sail(self: Arc<Self>, client: usize) -> (usize, usize) {
        let count = self.next.len();
        let channels: Vec<usize> = match client % 4 {
            0 => vec![client % count, (client + 1) % count, (client + 7) % count],
            _ => vec![client % count],
        };
        let mut log = Log::new(channels);
        let mut voyages = 0;
        while !log.is_complete(&self) {
            let via = if client.is_multiple_of(2) { Via::Http1 } else { Via::H2c };
            let Some(mut stream) = self.board(via, &log).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            voyages += 1;
            self.voyages.fetch_add(1, Ordering::SeqCst);
            let ends = Instant::now() + Duration::from_millis(fastrand::u64(20..1500));
            loop {
                let end = if self.is_calm.load(Ordering::SeqCst) { ends + 2 * SOON } else { ends };
                match tokio::time::timeout_at(end, stream.block()).await {
                    Ok(Some(block)) => {
                        if block.comments.iter().any(|comment| comment == "ready") {
                            log.ready(&self);
                        }
                        if let Some(event) = block.event {
                            log.enter(
                                &event.name,
                                &event.data,
                                self.outages.load(Ordering::SeqCst),
                            );
                        }
                        // A client keeps its id until it is told another one.
                        if !stream.last_id().is_empty() {
                            log.last_id = Some(stream.last_id().to_owned());
                        }
                    }
                    // It was cut off, or we hang up.
                    Ok(None) | Err(_) => break,
                }
                if log.is_complete(&self) {
                    break;
                }
            }
            assert!(
                !self.is_calm.load(Ordering::SeqCst) || Instant::now() < ends + 2 * SOON,
                "client {client} waits for {:?} after {:?}",
                log.expected,
                log.last_id
            );
        }
        assert!(log.gaps <= self.outages.load(Ordering::SeqCst), "one gap for each outage at most");
        (log.seen, voyages)
    }

    /// Connects somewhere; `None` where nobody answers just now.
    async fn board(&self, via: Via, log: &Log) -> Option<EventStream> {
        let gateway = {
            let gateways = self.gateways.read().unwrap();
            gateways[fastrand::usize(..gateways.len())]
        };
        let names: Vec<_> = log.channels.iter().map(|c| format!("channel=c{c}")).collect();
        let mut request = Request::events(&format!("/events?{}", names.join("&")));
        if let Some(id) = &log.last_id {
            request = request.header("last-event-id", id);
        }
        drop(tokio::net::TcpStream::connect(gateway).await.ok()?);
        // A gateway that is killed meanwhile is a failure of a task, not of this test.
        let response = tokio::spawn(async move { request.send(via, gateway).await });
        let response = tokio::time::timeout(SOON, response).await.ok()?.ok()?;
        (response.status == 200).then(|| EventStream::new(response))
    }
}

/// What one client has seen.
struct Log {
    channels: Vec<usize>,
    /// The number that comes next on each of them; `None` before the first.
    expected: HashMap<usize, Option<usize>>,
    /// The last number with which each may begin.
    soonest: HashMap<usize, usize>,
    /// Something may be missing on these.
    told: HashMap<usize, bool>,
    last_id: Option<String>,
    seen: usize,
    gaps: usize,
}

impl Log {
    fn new(channels: Vec<usize>) -> Self {
        let expected = channels.iter().map(|channel| (*channel, None)).collect();
        Self {
            channels,
            expected,
            soonest: HashMap::new(),
            told: HashMap::new(),
            last_id: None,
            seen: 0,
            gaps: 0,
        }
    }

    /// What is published from now on arrives.
    fn ready(&mut self, sea: &Sea) {
        for &channel in &self.channels {
            self.soonest.entry(channel).or_insert_with(|| sea.next(channel));
        }
    }

    fn enter(&mut self, name: &str, data: &str, outages: usize) {
        if name == "gap" {
            // Who left before all its channels were subscribed to has an id of those that were.
            let was_never_ready = data.contains("expired") && self.soonest.is_empty();
            if !was_never_ready {
                let is_due = data.contains("redis_away") && outages > self.gaps;
                assert!(is_due, "{data} after {} gaps, last {:?}", self.gaps, self.last_id);
                self.gaps += 1;
            }
            for &channel in &self.channels {
                if data.contains(&format!("\"c{channel}\"")) {
                    self.told.insert(channel, true);
                }
            }
            return;
        }
        let (channel, number) = data.split_once(':').unwrap();
        let (channel, number): (usize, usize) = (channel.parse().unwrap(), number.parse().unwrap());
        let expected = self.expected.get_mut(&channel).expect("it was asked for");
        let was_told = self.told.insert(channel, false).unwrap_or(false);
        match *expected {
            Some(expected) if was_told => assert!(number >= expected, "{data} is repeated"),
            Some(expected) => {
                assert_eq!(number, expected, "on channel {channel}, after {:?}", self.last_id)
            }
            None => {
                let soonest = self.soonest.get(&channel);
                assert!(
                    was_told || soonest.is_none_or(|soonest| number <= *soonest),
                    "{data} came first"
                );
            }
        }
        *expected = Some(number + 1);
        self.seen += 1;
    }

    /// Whether it has everything, and nothing more comes.
    fn is_complete(&self, sea: &Sea) -> bool {
        sea.is_calm.load(Ordering::SeqCst)
            && self.expected.iter().all(|(&channel, next)| *next == Some(sea.next(channel)))
    }
}

/// Lets the clients sail while events are published and `meanwhile` happens.
async fn storm(sea: &Arc<Sea>, force: Force, redis: &Redis, meanwhile: impl Future<Output = ()>) {
    let mut clients = JoinSet::new();
    for client in 0..force.clients {
        clients.spawn(Arc::clone(sea).sail(client));
    }
    tokio::join!(sea.publish(redis, force), meanwhile);
    sea.calm(redis).await;
    let (seen, voyages) = land(clients).await;
    assert!(seen >= force.clients * sea.next(0) / 2, "{seen} events seen");
    assert!(voyages >= force.clients * 2, "{voyages} voyages");
}

async fn land(mut clients: JoinSet<(usize, usize)>) -> (usize, usize) {
    let (mut seen, mut voyages) = (0, 0);
    within(Duration::from_secs(180), "everybody has everything", async {
        while let Some(result) = clients.join_next().await {
            let (events, times) = result.unwrap();
            (seen, voyages) = (seen + events, voyages + times);
        }
    })
    .await;
    (seen, voyages)
}

/// Enough is kept, and queued, for whoever is away for a moment on a busy machine.
fn gateway(redis: &Redis, source: Source, port: u16) -> GatewayBuilder {
    let builder = Gateway::build(redis)
        .port(port)
        .settings("sse: { history: { count: 20000 }, queue: { bytes: 16MiB } }");
    match source {
        Source::PubSub => builder,
        Source::Streams => builder.streams(),
    }
}

async fn hang_ups(source: Source, force: Force) {
    let redis = Redis::start().await;
    let gateway = gateway(&redis, source, 0).start().await;
    let sea = Sea::new(source, force, vec![gateway.address("http")]);
    storm(&sea, force, &redis, async {}).await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_gaps_total", &[]), 0.0);
    drop(gateway);
}

/// Two gateways, of which one or the other is killed and started again so many times.
async fn kills_of_gateways(force: Force, kills: u32) {
    let redis = Redis::start().await;
    let ports = [free_port(), free_port()];
    let mut gateways = Vec::new();
    for port in ports {
        gateways.push(gateway(&redis, Source::Streams, port).start().await);
    }
    let addresses = gateways.iter().map(|gateway| gateway.address("http")).collect();
    let sea = Sea::new(Source::Streams, force, addresses);
    storm(&sea, force, &redis, async {
        for kill in 0..kills {
            tokio::time::sleep(force.lasts / (kills + 1)).await;
            let at = kill as usize % 2;
            gateways[at].signal(Signal::KILL);
            gateways[at].exit_within(SOON).await;
            gateways[at] = gateway(&redis, Source::Streams, ports[at]).start().await;
        }
    })
    .await;
}

/// Three gateways at one Redis, which are replaced one after the other so many times: each new one follows what
/// the others follow before clients come, and the old one drains. No gap is told to anybody.
async fn replacements_of_gateways(force: Force, replacements: usize) {
    let redis = Redis::start().await;
    let start = || async {
        let settings = "sse: { history: { count: 20000 }, queue: { bytes: 16MiB } }\ndrain: 1s";
        // What only another gateway has heard is a gap: so each follows all from the start.
        let routes =
            "- path: /events\n  events: { channels: [\"{query.channel}\"], follow: [\"c*\"] }\n";
        let gateway = Gateway::build(&redis).routes(routes).settings(settings).start().await;
        gateway.becomes(200, SOON).await;
        gateway
    };
    let mut gateways = [start().await, start().await, start().await];
    let addresses = gateways.iter().map(|gateway| gateway.address("http")).collect();
    let sea = Sea::new(Source::PubSub, force, addresses);
    storm(&sea, force, &redis, async {
        for at in 0..replacements {
            let new = start().await;
            // Until it has heard more than any client may be behind, on a busy machine.
            let heard = sea.next(0) + 2 * force.per_second / force.channels;
            within(4 * SOON, "messages", async {
                while sea.next(0) < heard {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
            let mut old = std::mem::replace(&mut gateways[at % 3], new);
            sea.gateways.write().unwrap()[at % 3] = gateways[at % 3].address("http");
            old.signal(Signal::TERM);
            assert_eq!(old.exit_within(2 * SOON).await.code(), Some(0));
        }
    })
    .await;
    for gateway in &gateways {
        let metrics = gateway.metrics().await;
        assert_eq!(metrics.sum("ssegate_gaps_total", &["reason=\"unknown_id\""]), 0.0);
        assert!(metrics.sum("ssegate_fleet_clients_total", &["result=\"complete\""]) > 0.0);
    }
}

/// redis-server is killed and started again, with what it had written, so many times.
async fn kills_of_redis(source: Source, force: Force, kills: u32) {
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut redis = Redis::with(&durable).await;
    let gateway = gateway(&redis, source, 0).start().await;
    let sea = Sea::new(source, force, vec![gateway.address("http")]);
    let mut clients = JoinSet::new();
    for client in 0..force.clients {
        clients.spawn(Arc::clone(&sea).sail(client));
    }
    let part = Force { lasts: force.lasts / (kills + 1), ..force };
    for _ in 0..kills {
        sea.publish(&redis, part).await;
        sea.outages.fetch_add(1, Ordering::SeqCst);
        redis.kill();
        gateway.becomes(503, SOON).await;
        redis.restart().await;
        if source == Source::PubSub && kills == 1 {
            // What is published before anybody listens is gone; that is what gaps are for.
            sea.publish(&redis, Force { lasts: Duration::from_millis(100), ..part }).await;
        }
        gateway.becomes(200, SOON).await;
    }
    sea.publish(&redis, part).await;
    sea.calm(&redis).await;
    land(clients).await;
    let metrics = gateway.metrics().await;
    if source == Source::Streams {
        assert_eq!(metrics.sum("ssegate_gaps_total", &[]), 0.0);
    }
    assert_eq!(metrics.sum("ssegate_streams_closed_total", &["reason=\"lagged\""]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_hang_up_miss_nothing_of_what_is_published() {
    hang_ups(Source::PubSub, SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_hang_up_miss_nothing_of_streams() {
    hang_ups(Source::Streams, SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_are_killed_lose_nothing_of_streams() {
    kills_of_gateways(SHORT, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_are_replaced_lose_nothing_of_what_is_published() {
    Box::pin(replacements_of_gateways(SHORT, 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_loses_nothing_of_streams() {
    kills_of_redis(Source::Streams, SHORT, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_is_told_once_to_each_client() {
    kills_of_redis(Source::PubSub, SHORT, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_of_hang_ups_on_what_is_published() {
    hang_ups(Source::PubSub, FULL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_of_hang_ups_on_streams() {
    hang_ups(Source::Streams, FULL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_over_two_gateways_that_are_killed_five_times() {
    kills_of_gateways(FULL, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_over_three_gateways_that_are_replaced_six_times() {
    Box::pin(replacements_of_gateways(FULL, 6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_on_streams_of_a_redis_that_is_killed_three_times() {
    kills_of_redis(Source::Streams, FULL, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_on_what_a_redis_publishes_that_is_killed_three_times() {
    kills_of_redis(Source::PubSub, FULL, 3).await;
}
