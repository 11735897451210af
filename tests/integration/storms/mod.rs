//! Storms: many clients that hang up at random moments and come back with their last id, while
//! events keep coming and what is behind them fails. Each client's sequence is complete, in order,
//! without repeats; where something is gone, it was told, once.

mod fleet;
mod log;
mod sailor;
mod sea;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;

use self::sea::{FULL, Force, SHORT, Sea, Source};
use crate::support::{Gateway, GatewayBuilder, Redis, SOON, free_port, within};

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
