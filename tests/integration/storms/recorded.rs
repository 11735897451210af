//! Storms on recorded channels over three gateways that are killed without a warning. Where one is killed, nobody is
//! told anything; where all are, only what was published during that time is missing, and each reader is told one gap.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::sailor::Landed;
use super::sea::{Force, Sea, Source, StormPublisher};
use super::storm;
use crate::support::{ClusterSet, Gateway, GatewayBuilder, Redis, SOON, free_port, measured};

/// What three gateways in one process of a busy machine record and send.
const FORCE: Force =
    Force { clients: 200, channels: 50, per_second: 2000, lasts: Duration::from_secs(30) };

/// What gateways have received of a message is in its log after this, on a busy machine.
const RECORDED: Duration = Duration::from_secs(2);

/// All that is published in a storm is kept, and waits for a client on a busy machine.
const SETTINGS: &str = "sse: { queue: { bytes: 16MiB } }\nrecorded: { count: 100000 }";

/// Three gateways with the same Redis, or the same Cluster.
struct Convoy<B> {
    build: B,
    ports: [u16; 3],
    gateways: Vec<Gateway>,
}

impl<B: Fn() -> GatewayBuilder> Convoy<B> {
    async fn start(build: B) -> Self {
        let ports = [(); 3].map(|()| free_port());
        let mut convoy = Self { build, ports, gateways: Vec::new() };
        for at in 0..3 {
            let gateway = convoy.started(at).await;
            convoy.gateways.push(gateway);
        }
        convoy
    }

    async fn started(&self, at: usize) -> Gateway {
        let gateway = (self.build)().port(self.ports[at]).settings(SETTINGS).start().await;
        gateway.becomes(200, 2 * SOON).await;
        gateway
    }

    fn sea(&self) -> Arc<Sea> {
        let addresses = self.gateways.iter().map(|gateway| gateway.address("http")).collect();
        Sea::new(Source::Recorded, FORCE, addresses)
    }

    /// Kills these at once, and starts them again.
    async fn replace(&mut self, killed: &[usize]) {
        killed.iter().for_each(|&at| self.gateways[at].signal(Signal::KILL));
        for &at in killed {
            self.gateways[at].exit_within(SOON).await;
        }
        for &at in killed {
            self.gateways[at] = self.started(at).await;
        }
    }
}

async fn one_is_killed(
    publisher: &impl StormPublisher,
    mut convoy: Convoy<impl Fn() -> GatewayBuilder>,
    kills: u32,
) {
    let (sea, start) = (convoy.sea(), Instant::now());
    let killing = async {
        sea.all_have_come().await;
        for kill in 0..kills {
            tokio::time::sleep(FORCE.lasts / (kills + 1)).await;
            convoy.replace(&[kill as usize % 3]).await;
        }
    };
    let landed = storm(&sea, publisher, killing).await;
    report(&sea, &landed, start);
    for client in &landed {
        assert_eq!((client.gaps, &client.missing), (0, &Vec::new()), "client {}", client.client);
    }
}

/// All gateways are away: the next number of each channel once all that was published before was recorded, when they
/// were killed, and when everybody was back.
struct GatewayOutage {
    recorded: Vec<usize>,
    killed: Vec<usize>,
    back: Vec<usize>,
}

async fn all_are_killed(
    publisher: &impl StormPublisher,
    mut convoy: Convoy<impl Fn() -> GatewayBuilder>,
    times: usize,
) {
    let (sea, start) = (convoy.sea(), Instant::now());
    let mut outages: Vec<GatewayOutage> = Vec::new();
    let killing = async {
        let next = || (0..FORCE.channels).map(|channel| sea.next(channel)).collect();
        sea.all_have_come().await;
        for _ in 0..times {
            sea.all_have_passed().await;
            let recorded = next();
            tokio::time::sleep(RECORDED).await;
            sea.outages.fetch_add(1, Ordering::SeqCst);
            let killed = next();
            convoy.replace(&[0, 1, 2]).await;
            // A sharded channel is recorded again once a client has come back to it.
            sea.all_have_passed().await;
            outages.push(GatewayOutage { recorded, killed, back: next() });
        }
    };
    let landed = storm(&sea, publisher, killing).await;
    report(&sea, &landed, start);
    let mut missing_before = HashSet::new();
    for Landed { client, missing, gaps_of_channels, .. } in &landed {
        let is_once = gaps_of_channels.iter().all(|gaps| *gaps == times);
        assert!(is_once, "client {client} is told {gaps_of_channels:?} times of {times}");
        for (channel, numbers) in missing {
            let is_in = |outage: &&GatewayOutage| {
                outage.recorded[*channel] <= numbers.start && numbers.end <= outage.back[*channel]
            };
            let outage = outages.iter().find(is_in);
            let outage =
                outage.unwrap_or_else(|| panic!("client {client} lacks {numbers:?} of c{channel}"));
            missing_before.extend(
                numbers
                    .clone()
                    .filter(|number| *number < outage.killed[*channel])
                    .map(|number| (*channel, number)),
            );
        }
    }
    measured(&format!("{} of them were published before all were killed", missing_before.len()));
}

fn report(sea: &Sea, landed: &[Landed], start: Instant) {
    let messages: usize = (0..FORCE.channels).map(|channel| sea.next(channel)).sum();
    let sum = |what: fn(&Landed) -> usize| landed.iter().map(what).sum::<usize>();
    let missing = sum(|client| client.missing.iter().map(|(_, numbers)| numbers.len()).sum());
    measured(&format!(
        "{} clients, {messages} messages, {} events, {missing} missing, {} voyages, {} gaps, {:?}",
        landed.len(),
        sum(|client| client.seen),
        sum(|client| client.voyages),
        sum(|client| client.gaps),
        start.elapsed()
    ));
}

/// The masters of a Cluster, and which of them has each channel.
struct ClusterWaters {
    set: ClusterSet,
    owners: HashMap<String, usize>,
}

impl ClusterWaters {
    async fn start() -> Self {
        let set = ClusterSet::start().await;
        let mut owners = HashMap::new();
        for channel in 0..FORCE.channels {
            let name = format!("c{channel}");
            let owner = set.owner(set.slot(&name).await, &[0, 1, 2]).await;
            owners.insert(name, owner);
        }
        Self { set, owners }
    }

    async fn convoy(&self) -> Convoy<impl Fn() -> GatewayBuilder + use<'_>> {
        const ROUTES: &str = "\
- path: /events
  events: { channels: [\"{query.channel}\"], source: recorded, sharded: true }
";
        let (node, url) = (&self.set.nodes[0], self.set.url(&[3, 4]));
        Convoy::start(move || Gateway::build(node).redis_url(&url).routes(ROUTES)).await
    }
}

impl StormPublisher for ClusterWaters {
    async fn send(&self, _source: Source, messages: &[(String, String)]) -> bool {
        let mut are_sent = true;
        for (at, node) in self.set.nodes.iter().enumerate() {
            let here: Vec<_> =
                messages.iter().filter(|(name, _)| self.owners[name] == at).cloned().collect();
            are_sent &= here.is_empty() || node.try_spublish(&here).await;
        }
        are_sent
    }
}

async fn convoy_at(redis: &Redis) -> Convoy<impl Fn() -> GatewayBuilder + use<'_>> {
    const ROUTES: &str = "\
- path: /events
  events: { channels: [\"{query.channel}\"], source: recorded, follow: [\"c*\"] }
";
    Convoy::start(move || Gateway::build(redis).routes(ROUTES)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_on_recorded_channels_of_gateways_that_are_killed_one_by_one() {
    let redis = Redis::start().await;
    Box::pin(one_is_killed(&redis, convoy_at(&redis).await, 6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_on_recorded_channels_of_gateways_that_are_all_killed_at_once() {
    let redis = Redis::start().await;
    Box::pin(all_are_killed(&redis, convoy_at(&redis).await, 3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_on_recorded_sharded_channels_of_gateways_that_are_killed_one_by_one() {
    let waters = ClusterWaters::start().await;
    Box::pin(one_is_killed(&waters, waters.convoy().await, 6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_on_recorded_sharded_channels_of_gateways_that_are_all_killed_at_once() {
    let waters = ClusterWaters::start().await;
    Box::pin(all_are_killed(&waters, waters.convoy().await, 3)).await;
}
