//! What Redis says is subscribed, against what the gateway believes.

use std::net::SocketAddr;

use crate::support::{Gateway, Redis, Relay, SOON, eventually, within};

async fn through_a_relay(redis: &Redis) -> (Relay, Gateway) {
    let relay = Relay::to(SocketAddr::from(([127, 0, 0, 1], redis.port()))).await;
    let url = format!("redis://{}", relay.address());
    let gateway = Gateway::build(redis).redis_url(&url).start().await;
    (relay, gateway)
}

#[tokio::test]
async fn what_agrees_is_counted_and_nothing_else_happens() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut stream = gateway.subscribe("/events/news").await;
    let agreed = ["result=\"agreed\""];
    gateway.counts("ssegate_redis_self_checks_total", &agreed, 2.0).await;
    redis.publish("news", "hello").await;
    assert_eq!(stream.next_event().await.data, "hello");
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_redis_reconnects_total", &[]), 0.0);
    assert_eq!(
        metrics.sum("ssegate_redis_self_checks_total", &[]),
        metrics.sum("ssegate_redis_self_checks_total", &agreed)
    );
}

#[tokio::test]
async fn what_redis_has_forgotten_is_subscribed_again_and_told() {
    let redis = Redis::start().await;
    let (relay, gateway) = through_a_relay(&redis).await;
    let mut stream = gateway.subscribe("/events/news").await;
    let _other = gateway.subscribe("/events/other").await;
    gateway.becomes(200, SOON).await;
    relay.leave("news");
    let forgotten = async || redis.listeners("news").await == 0;
    eventually(SOON, "it is forgotten", forgotten).await;
    assert_eq!(redis.listeners("other").await, 1);
    assert_eq!(gateway.readiness().await, 200, "nobody has noticed yet");

    let gap = within(SOON, "it is noticed", stream.next_event()).await;
    assert!(gap.name == "gap" && gap.data.contains("redis_away"), "{gap:?}");
    redis.publish("news", "heard").await;
    assert_eq!(stream.next_event().await.data, "heard");
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_redis_self_checks_total", &["result=\"mended\""]), 1.0);
    assert_eq!(metrics.sum("ssegate_redis_errors_total", &["kind=\"deaf\""]), 1.0);
}

#[tokio::test]
async fn a_connection_that_answers_and_hears_nothing_is_replaced() {
    let redis = Redis::start().await;
    let (relay, gateway) = through_a_relay(&redis).await;
    let mut stream = gateway.subscribe("/events/news").await;
    relay.deafen();
    redis.publish("news", "not heard").await;
    // Five seconds, then twice four for the message to ourselves.
    let gap = within(2 * SOON, "it is noticed", async {
        loop {
            if let Some(event) = stream.block().await.unwrap().event {
                return event;
            }
        }
    });
    let gap = gap.await;
    assert!(gap.name == "gap" && gap.data.contains("redis_away"), "{gap:?}");
    redis.publish("news", "heard").await;
    assert_eq!(stream.next_event().await.data, "heard");
}

#[tokio::test]
async fn a_user_who_may_only_listen_listens() {
    let redis = Redis::start().await;
    let acl = include_str!("../../deploy/redis-users.acl");
    let line = acl.lines().find(|line| line.contains("user ssegate")).unwrap();
    let words: Vec<&str> = line.split(' ').skip(2).collect();
    let rules = regroup(&words);
    let rules: Vec<&str> =
        ["ACL", "SETUSER", "ssegate"].into_iter().chain(rules.iter().map(String::as_str)).collect();
    redis.command::<()>(&rules).await;
    let url = redis.url().replace("redis://", "redis://ssegate:listens@");
    let gateway = Gateway::build(&redis)
        .redis_url(&url)
        .route(
            "- path: /streams/{channel}\n  events: { channels: [\"{channel}\"], source: stream }\n",
        )
        .start()
        .await;
    let mut published = gateway.subscribe("/events/news").await;
    let mut added = gateway.subscribe("/streams/s").await;
    let agreed = ["result=\"agreed\""];
    gateway.counts("ssegate_redis_self_checks_total", &agreed, 1.0).await;
    redis.publish("news", "hello").await;
    redis.add("s", "hello").await;
    assert_eq!(published.next_event().await.data, "hello");
    assert_eq!(added.next_event().await.data, "hello");
    assert_eq!(gateway.metrics().await.sum("ssegate_redis_errors_total", &[]), 0.0);

    // Less is enough to listen.
    redis.command::<()>(&["ACL", "SETUSER", "ssegate", "clearselectors", "-pubsub"]).await;
    let forbidden = ["result=\"forbidden\""];
    gateway.counts("ssegate_redis_self_checks_total", &forbidden, 1.0).await;
    redis.publish("news", "again").await;
    assert_eq!(published.next_event().await.data, "again");
}

/// A selector, in brackets, is one rule.
fn regroup(words: &[&str]) -> Vec<String> {
    let mut rules: Vec<String> = Vec::new();
    for word in words {
        match rules.last_mut() {
            Some(rule) if rule.starts_with('(') && !rule.ends_with(')') => {
                rule.push(' ');
                rule.push_str(word);
            }
            _ => rules.push((*word).to_owned()),
        }
    }
    rules
}
