//! What is kept takes as much memory as the metrics say, and no more than it may.

use crate::support::{EventStream, Gateway, Redis, SOON, eventually};

const CHANNELS: usize = 10_000;
const ON_A_STREAM: usize = 100;

/// Streams that follow ten thousand channels.
async fn follow(gateway: &Gateway) -> Vec<EventStream> {
    let mut streams = Vec::new();
    for first in (0..CHANNELS).step_by(ON_A_STREAM) {
        let names: Vec<_> = (first..first + ON_A_STREAM).map(|n| format!("channel=c{n}")).collect();
        streams.push(gateway.open(&format!("/events?{}", names.join("&"))).await);
    }
    for stream in &mut streams {
        stream.ready().await;
    }
    streams
}

/// So many events on each channel; waits until they have been kept, and read.
async fn publish(redis: &Redis, streams: &mut [EventStream], rounds: usize, payload: &str) {
    for _ in 0..rounds {
        for first in (0..CHANNELS).step_by(ON_A_STREAM) {
            let messages: Vec<_> = (first..first + ON_A_STREAM)
                .map(|n| (format!("c{n}"), payload.to_owned()))
                .collect();
            assert!(redis.try_publish(&messages).await);
        }
        for stream in &mut *streams {
            for _ in 0..ON_A_STREAM {
                stream.next_event().await;
            }
        }
    }
}

async fn kept(gateway: &Gateway) -> f64 {
    gateway.metrics().await.sum("ssegate_history_bytes", &[])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metric_is_what_the_process_holds() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .settings("shards: 1\nhistory_memory: 512MiB\nsse: { history: { count: 32 } }")
        .start()
        .await;
    let mut streams = follow(&gateway).await;
    // What the way itself takes is there before it is measured.
    publish(&redis, &mut streams, 2, "x").await;
    let (held, kept_before) = (gateway.resident_bytes(), kept(&gateway).await);
    publish(&redis, &mut streams, 12, &"x".repeat(500)).await;
    #[expect(clippy::cast_precision_loss, reason = "it need not be exact")]
    let held = gateway.resident_bytes().saturating_sub(held) as f64;
    let kept = kept(&gateway).await - kept_before;
    assert!(kept > 60e6, "{kept} bytes are kept");
    let ratio = held / kept;
    assert!((0.8..1.2).contains(&ratio), "{held} bytes are held, {kept} in the metric");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_channels_stay_within_the_bound() {
    const BOUND: u64 = 32 << 20;
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).settings("shards: 1\nhistory_memory: 32MiB").start().await;
    let mut streams = follow(&gateway).await;
    publish(&redis, &mut streams, 1, "x").await;
    let held = gateway.resident_bytes();
    for _ in 0..4 {
        publish(&redis, &mut streams, 3, &"x".repeat(500)).await;
        let (kept, bound) = (kept(&gateway).await, 32.0 * 1024.0 * 1024.0);
        assert!(kept <= bound && kept > bound / 2.0, "{kept} bytes are kept");
    }
    let grown = gateway.resident_bytes().saturating_sub(held);
    assert!(grown < BOUND + BOUND / 4, "{grown} bytes more are held");
    // Whoever comes back for what made room is told.
    drop(streams);
    let left = async || gateway.metrics().await.sum("ssegate_streams", &[]) == 0.0;
    eventually(SOON, "all streams are gone", left).await;
}
