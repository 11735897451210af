//! What becomes of streams and of those who wait for one when the gateway stops.

use super::{STREAM, build, first, get};
use crate::support::{Redis, SOON, Upstream, Via};

/// Readers end as on an events route, and the backend's stream with them.
#[tokio::test]
async fn a_drain_ends_readers_and_their_stream() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let mut gateway = build(&redis, &upstream, "leave: 1h").start().await;
    let (mut reader, call) = first(&gateway, &upstream, "/").await;
    gateway.terminate();
    assert_eq!(reader.end().await, Ok(()));
    call.closed().await;
    assert!(gateway.exit_within(SOON).await.success());
}

/// Whoever waits for the backend then is sent away, and not given a stream that nobody ends.
#[tokio::test]
async fn whoever_waits_is_sent_away_by_a_drain() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let mut gateway = build(&redis, &upstream, "leave: 1h").start().await;
    gateway.becomes(200, SOON).await;
    let mut waiting = Box::pin(gateway.send(Via::Http1, get("/")));
    let mut call = tokio::select! {
        call = upstream.call() => call,
        _ = &mut waiting => panic!("nobody has responded"),
    };
    gateway.terminate();
    gateway.becomes(503, SOON).await;
    call.write(STREAM).await;
    waiting.await.stream().sent_away().await;
    call.closed().await;
    assert!(gateway.exit_within(SOON).await.success());
}
