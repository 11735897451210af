//! Redis away, back, deaf: no stream closes, every hole is told, and the way back is short.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Event, EventStream, Gateway, Redis, Relay, Request, SOON, Via, eventually};

/// Checks that `event` tells a hole of this reason.
fn assert_gap(event: &Event, reason: &str, channels: &[&str]) {
    assert_eq!(event.name, "gap", "{event:?}");
    let told: serde_json::Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!(told["reason"], reason);
    let mut named: Vec<_> = told["channels"].as_array().unwrap().iter().collect();
    named.sort_by_key(|channel| channel.as_str());
    assert_eq!(named, channels);
    assert_ne!(event.id, "");
}

#[tokio::test]
async fn redis_may_be_away_at_the_start() {
    let mut redis = Redis::stopped(&[]);
    let gateway = Gateway::start(&redis).await;
    assert_eq!(gateway.readiness().await, 503);
    assert_eq!(gateway.admin("/livez").await.status, 200);

    let mut streams = Vec::new();
    for via in Via::ALL {
        streams.push(gateway.send(via, Request::events("/events/news")).await.stream());
    }
    redis.restart().await;
    gateway.becomes(200, SOON).await;
    for stream in &mut streams {
        stream.ready().await;
    }
    assert_eq!(redis.publish("news", "hello").await, 1);
    for stream in &mut streams {
        assert_eq!(stream.next_event().await.data, "hello", "and no gap before it");
    }
    assert_eq!(gateway.metrics().await.sum("ssegate_gaps_total", &[]), 0.0);
}

#[tokio::test]
async fn a_redis_killed_and_back_after_twenty_seconds_closes_no_stream() {
    let mut redis = Redis::start().await;
    let gateway = Gateway::build(&redis).settings("sse: { keep_alive: 2s }").start().await;
    let mut streams = gateway.subscribe_all("/events/news", 96).await;
    for via in Via::ALL {
        streams.push(gateway.subscribe_via(via, "/events/news").await);
    }

    redis.kill();
    gateway.becomes(503, SOON).await;
    // For twenty seconds there is nothing but keep-alives.
    let refused = async || {
        let kind = ["kind=\"connection\""];
        gateway.metrics().await.sum("ssegate_redis_errors_total", &kind)
    };
    let mut before = 0.0;
    for _ in 0..2 {
        before = refused().await;
        let back = Instant::now() + Duration::from_secs(10);
        while Instant::now() < back {
            for stream in &mut streams {
                stream.next_comment().await;
            }
        }
    }
    // In the second half, too, it was tried again and again, never more than a second apart.
    let attempts = refused().await - before;
    assert!(attempts >= 7.0, "{attempts} attempts in ten seconds");
    let mut late = gateway.open("/events/news").await;
    redis.restart().await;

    let subscribed = async || redis.publish("news", "back").await == 1;
    eventually(SOON, "subscribed again", subscribed).await;
    gateway.becomes(200, SOON).await;
    for stream in &mut streams {
        assert_gap(&stream.next_event().await, "redis_away", &["news"]);
        assert_eq!(stream.next_event().await.data, "back");
    }
    late.ready().await;
    redis.publish("news", "again").await;
    for stream in &mut streams {
        assert_eq!(stream.next_event().await.data, "again", "one gap, not two");
    }

    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_redis_reconnects_total", &[]), 1.0);
    assert_eq!(metrics.sum("ssegate_gaps_total", &["reason=\"redis_away\""]), 100.0);
    assert_eq!(metrics.sum("ssegate_redis_connected", &[]), 1.0);
    assert_eq!(metrics.sum("ssegate_streams_closed_total", &[]), 0.0);
    assert!(metrics.sum("ssegate_redis_errors_total", &[]) >= 1.0);
}

#[tokio::test]
async fn a_stream_that_opened_while_redis_was_away_gets_ready_and_no_gap() {
    let mut redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let _other = gateway.subscribe("/events/other").await;
    redis.kill();
    gateway.becomes(503, SOON).await;

    let mut stream = gateway.open("/events/news").await;
    redis.restart().await;
    stream.ready().await;
    redis.publish("news", "hello").await;
    assert_eq!(stream.next_event().await.data, "hello");
}

#[tokio::test]
async fn each_cut_is_followed_by_a_new_subscription_and_told_once() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut stream = gateway.subscribe("/events?channel=a&channel=b").await;

    for cut in 1..=20 {
        let killed: u64 = redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        assert_eq!(killed, 1, "one connection for all channels");
        // The gap itself says that what is published from now on arrives.
        assert_gap(&stream.next_event().await, "redis_away", &["a", "b"]);
        redis.publish("a", cut.to_string()).await;
        redis.publish("b", cut.to_string()).await;
        assert_eq!(stream.next_event().await.data, cut.to_string());
        assert_eq!(stream.next_event().await.data, cut.to_string());
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_redis_reconnects_total", &[]), 20.0);
    assert_eq!(metrics.sum("ssegate_gaps_total", &[]), 20.0);
}

#[tokio::test]
async fn a_path_that_has_gone_silent_is_noticed_by_the_ping() {
    let redis = Redis::start().await;
    let relay = Relay::to(SocketAddr::from(([127, 0, 0, 1], redis.port()))).await;
    let url = format!("redis://{}", relay.address());
    let gateway = Gateway::build(&redis).redis_url(&url).start().await;
    let mut stream = gateway.subscribe("/events/news").await;
    let connections = relay.accepted();

    relay.stall();
    let noticed = async || relay.accepted() > connections;
    // The gateway sends a PING after five seconds of silence, and waits five more for the reply.
    eventually(4 * SOON, "a new connection", noticed).await;
    assert_gap(&stream.next_event().await, "redis_away", &["news"]);
    redis.publish("news", "heard").await;
    assert_eq!(stream.next_event().await.data, "heard");
}

#[tokio::test]
async fn attempts_to_reconnect_stay_below_a_few_a_second() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let redis = Redis::stopped(&[]);
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let _gateway = Gateway::build(&redis).redis_url(&url).start().await;

    // Whoever connects is hung up on. The waits double up to 1 s, each drawn from its whole range: about 48 attempts
    // of the two tasks, and 36 to 62 were seen.
    let mut attempts = 0;
    let end = Instant::now() + Duration::from_secs(10);
    while let Ok(accepted) = tokio::time::timeout_at(end, listener.accept()).await {
        drop(accepted);
        attempts += 1;
    }
    assert!((5..=100).contains(&attempts), "{attempts} attempts in 10 s");
}

#[tokio::test]
async fn a_wrong_password_is_counted_and_tried_again() {
    let redis = Redis::start().await;
    redis.command::<String>(&["CONFIG", "SET", "requirepass", "secret"]).await;
    let url = redis.url().replace("redis://", "redis://:wrong@");
    let gateway = Gateway::build(&redis).redis_url(&url).start().await;
    let mut stream: EventStream = gateway.open("/events/news").await;
    assert!(stream.next_block().await.retry.is_some());

    gateway.counts("ssegate_redis_errors_total", &[], 2.0).await;
    assert_eq!(gateway.readiness().await, 503);
    assert!(!gateway.log().contains("wrong"), "the password is in the log:\n{}", gateway.log());
    assert!(!stream.has_ended());
}
