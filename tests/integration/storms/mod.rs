//! Storms: many clients that hang up at random moments and come back with their last id, while
//! events keep coming and what is behind them fails. Each client's sequence is complete, in order,
//! without repeats; where something is gone, it was told, once.

mod fleet;
mod gateways;
mod log;
mod recorded;
mod sailor;
mod sea;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;

use self::sailor::Landed;
use self::sea::{FULL, Force, SHORT, Sea, Source, StormPublisher};
use crate::support::{Gateway, GatewayBuilder, Redis, SOON, free_port, within};

/// Lets the clients sail while events are published and `meanwhile` happens.
async fn storm(
    sea: &Arc<Sea>,
    publisher: &impl StormPublisher,
    meanwhile: impl Future<Output = ()>,
) -> Vec<Landed> {
    let clients = set_sail(sea);
    sea.is_busy.store(true, Ordering::SeqCst);
    let meanwhile = async {
        meanwhile.await;
        sea.is_busy.store(false, Ordering::SeqCst);
    };
    let weather = Box::pin(async {
        tokio::join!(sea.publish(publisher, sea.force.lasts), meanwhile);
        sea.calm(publisher).await;
    });
    // A client that has seen something wrong ends all.
    let (landed, ()) = tokio::join!(land(clients, sea), weather);
    let seen: usize = landed.iter().map(|client| client.seen).sum();
    let voyages: usize = landed.iter().map(|client| client.voyages).sum();
    assert!(seen >= sea.force.clients * sea.next(0) / 2, "{seen} events seen");
    assert!(voyages >= sea.force.clients * 2, "{voyages} voyages");
    landed
}

fn set_sail(sea: &Arc<Sea>) -> JoinSet<Landed> {
    (0..sea.force.clients).map(|client| Arc::clone(sea).sail(client)).collect()
}

async fn land(clients: JoinSet<Landed>, sea: &Sea) -> Vec<Landed> {
    let limit = sea.force.lasts + Duration::from_secs(300);
    within(limit, "everybody has everything", clients.join_all()).await
}

/// Enough is kept, and queued, for whoever is away for a moment on a busy machine.
fn gateway(redis: &Redis, source: Source, port: u16) -> GatewayBuilder {
    let builder = Gateway::build(redis)
        .port(port)
        .settings("sse: { history: { count: 20000 }, queue: { bytes: 16MiB } }");
    match source {
        Source::PubSub | Source::Recorded => builder,
        Source::Streams => builder.streams(),
    }
}

async fn hang_ups(source: Source, force: Force) {
    let redis = Redis::start().await;
    let gateway = gateway(&redis, source, 0).start().await;
    let sea = Sea::new(source, force, vec![gateway.address("http")]);
    storm(&sea, &redis, async {}).await;
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
    storm(&sea, &redis, async {
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
/// redis-server is killed and started again, with what it had written, so many times.
async fn kills_of_redis(source: Source, force: Force, kills: u32) {
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut redis = Redis::with(&durable).await;
    let gateway = gateway(&redis, source, 0).start().await;
    let sea = Sea::new(source, force, vec![gateway.address("http")]);
    let clients = set_sail(&sea);
    let part = force.lasts / (kills + 1);
    for _ in 0..kills {
        sea.publish(&redis, part).await;
        sea.outages.fetch_add(1, Ordering::SeqCst);
        redis.kill();
        gateway.becomes(503, SOON).await;
        redis.restart().await;
        if source == Source::PubSub && kills == 1 {
            // What is published before anybody listens is gone; that is what gaps are for.
            sea.publish(&redis, Duration::from_millis(100)).await;
        }
        gateway.becomes(200, SOON).await;
    }
    sea.publish(&redis, part).await;
    sea.calm(&redis).await;
    land(clients, &sea).await;
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
async fn long_storm_on_streams_of_a_redis_that_is_killed_three_times() {
    kills_of_redis(Source::Streams, FULL, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_storm_on_what_a_redis_publishes_that_is_killed_three_times() {
    kills_of_redis(Source::PubSub, FULL, 3).await;
}
