//! Messages over the limit: dropped as they are read, counted, and told as a gap.

use crate::support::{Gateway, Redis, SOON, eventually};

const LIMIT: usize = 64 << 10;

#[tokio::test]
async fn an_event_at_the_limit_arrives_and_one_byte_more_is_a_gap() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).settings("max_event_bytes: 64KiB").start().await;
    let mut stream = gateway.subscribe("/events/news").await;

    redis.publish("news", "x".repeat(LIMIT)).await;
    assert_eq!(stream.next_event().await.data.len(), LIMIT);

    redis.publish("news", "x".repeat(LIMIT + 1)).await;
    redis.publish("news", "after").await;
    let gap = stream.next_event().await;
    assert_eq!(gap.name, "gap");
    let told: serde_json::Value = serde_json::from_str(&gap.data).unwrap();
    assert_eq!(told["reason"], "too_large");
    assert_eq!(told["channels"], serde_json::json!(["news"]));

    let after = stream.next_event().await;
    assert_eq!(after.data, "after");
    assert_ne!(gap.id, "", "the gap has the new position");
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_events_dropped_total", &["reason=\"too_large\""]), 1.0);
    assert_eq!(metrics.sum("ssegate_gaps_total", &["reason=\"too_large\""]), 1.0);
}

#[tokio::test]
async fn only_those_who_follow_the_channel_are_told() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).settings("max_event_bytes: 64KiB").start().await;
    let mut concerned = gateway.subscribe("/events?channel=news&channel=other").await;
    let mut unconcerned = gateway.subscribe("/events/other").await;

    redis.publish("news", "x".repeat(LIMIT + 1)).await;
    redis.publish("other", "hello").await;
    assert_eq!(concerned.next_event().await.name, "gap");
    assert_eq!(concerned.next_event().await.data, "hello");
    assert_eq!(unconcerned.next_event().await.data, "hello");
}

#[tokio::test]
async fn a_route_may_keep_gaps_to_itself() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .settings("max_event_bytes: 64KiB")
        .events("gap_events: false")
        .start()
        .await;
    let mut stream = gateway.subscribe("/events/news").await;
    redis.publish("news", "x".repeat(LIMIT + 1)).await;
    redis.publish("news", "after").await;
    let after = stream.next_event().await;
    assert_eq!((after.name.as_str(), after.data.as_str()), ("message", "after"));
    gateway.counts("ssegate_events_dropped_total", &["reason=\"too_large\""], 1.0).await;
}

#[tokio::test]
async fn what_is_too_large_is_never_held_in_memory() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).settings("max_event_bytes: 64KiB").start().await;
    let mut stream = gateway.subscribe("/events/news").await;
    let before = gateway.resident_bytes();

    let huge = vec![b'x'; 64 << 20];
    redis.publish("news", &huge).await;
    assert_eq!(stream.next_event().await.name, "gap");
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{} KiB for a message that nobody gets", grown >> 10);

    redis.publish("news", "after").await;
    let after = async || stream.next_event().await.data == "after";
    eventually(SOON, "what comes after is delivered", after).await;
}
