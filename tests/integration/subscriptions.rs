//! Channels: subscribed with the first listener, left some time after the last; what may be named.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Gateway, Redis, Request, SOON, Via, eventually};

#[tokio::test]
async fn publish_answers_how_many_gateways_listen() {
    let redis = Redis::start().await;
    let gateways = (Gateway::start(&redis).await, Gateway::start(&redis).await);
    assert_eq!(redis.publish("news", "nobody").await, 0, "a channel nobody watches costs nothing");

    let _first = gateways.0.subscribe_all("/events/news", 5).await;
    assert_eq!(redis.publish("news", "five streams").await, 1);

    let _second = gateways.1.subscribe("/events/news").await;
    assert_eq!(redis.publish("news", "two gateways").await, 2);
    assert_eq!(redis.publish("other", "nobody").await, 0);
}

#[tokio::test]
async fn a_channel_is_left_when_the_linger_after_its_last_listener_is_over() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).events("linger: 2s").start().await;
    let first = gateway.subscribe("/events/news").await;
    let second = gateway.subscribe("/events/news").await;
    drop(first);
    let left = Instant::now();
    drop(second);

    let closed = async || gateway.metrics().await.sum("ssegate_streams", &[]) == 0.0;
    eventually(SOON, "both streams are closed", closed).await;
    let gone = async || redis.listeners("news").await == 0;
    eventually(SOON, "the channel is left", gone).await;
    assert!(left.elapsed() >= Duration::from_millis(1900), "after {:?}", left.elapsed());
}

#[tokio::test]
async fn a_listener_that_comes_within_the_linger_keeps_the_channel() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).events("linger: 2s").start().await;
    let mut other = gateway.subscribe("/events/other").await;
    drop(gateway.subscribe("/events/news").await);
    let mut again = gateway.subscribe("/events/news").await;

    // The other channel's linger, begun later, is over: so would be the first one's.
    drop(gateway.subscribe("/events/short").await);
    let gone = async || redis.listeners("short").await == 0;
    eventually(SOON, "the short-lived channel is left", gone).await;
    assert_eq!(redis.publish("news", "kept").await, 1);
    assert_eq!(again.next_event().await.data, "kept");
    redis.publish("other", "kept").await;
    assert_eq!(other.next_event().await.data, "kept");
}

#[tokio::test]
async fn comings_and_goings_leave_nothing_behind() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).events("linger: 1s").start().await;
    drop(gateway.subscribe("/events/first").await);
    let files = gateway.open_files();

    for round in 0..20 {
        for target in ["/events/a", "/events/b"] {
            drop(gateway.subscribe_all(&format!("{target}{round}"), 10).await);
        }
    }
    let nothing = async || channels_followed(&redis).await.is_empty();
    eventually(SOON, "no channel is subscribed", nothing).await;
    let metrics = gateway.metrics().await;
    for gauge in ["ssegate_streams", "ssegate_channels", "ssegate_subscriptions"] {
        assert_eq!(metrics.sum(gauge, &[]), 0.0, "{gauge}");
    }
    let closed = async || gateway.open_files() <= files + 2;
    eventually(SOON, "all connections are closed", closed).await;
}

#[tokio::test]
async fn names_that_may_not_be_asked_for_get_400() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let long = "x".repeat(256);
    let refused = [
        "__keyspace@0__:secret",
        "__keyevent@0__:set",
        "__sentinel__:hello",
        "a%0Ab",
        "a%00b",
        "a%7F",
        "a%C2%85",
        &long,
    ];
    for name in refused {
        for target in [format!("/events/{name}"), format!("/events?channel={name}")] {
            let response = gateway.send(Via::Http1, Request::events(&target)).await;
            assert_eq!(response.status, 400, "{target}");
        }
    }
    assert_eq!(gateway.get("/events").await.status, 400, "no channel at all");
    assert_eq!(gateway.get("/events?channel=").await.status, 400, "an empty name");
    let one_bad = gateway.get("/events?channel=ok&channel=__sentinel__:x").await;
    assert_eq!(one_bad.status, 400, "one bad name among good ones");

    let longest = format!("/events/{}", "x".repeat(255));
    assert_eq!(gateway.get(&longest).await.status, 200);
}

#[tokio::test]
async fn reserved_names_stay_reserved_behind_a_prefix() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).events("strip_prefix: \"__key\"").start().await;
    let response = gateway.get("/events/space@0__:secret").await;
    assert_eq!(response.status, 400);
}

#[tokio::test]
async fn a_prefix_is_put_on_when_subscribing() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).events("strip_prefix: \"app:\"").start().await;
    let mut stream = gateway.subscribe("/events/news").await;

    assert_eq!(redis.publish("news", "without").await, 0);
    assert_eq!(redis.publish("app:news", "with").await, 1);
    assert_eq!(stream.next_event().await.data, "with");
}

#[tokio::test]
async fn glob_characters_are_plain_where_patterns_are_not_allowed() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut stream = gateway.subscribe("/events/news.*").await;

    assert_eq!(redis.publish("news.sport", "matched by a pattern").await, 0);
    assert_eq!(redis.publish("news.*", "a name like any other").await, 1);
    assert_eq!(stream.next_event().await.data, "a name like any other");
}

#[tokio::test]
async fn patterns_are_subscribed_where_the_route_allows_them() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .routes("- path: /events\n  events: { channels: [\"{query.channel}\"], patterns: true }\n")
        .start()
        .await;
    let mut pattern = gateway.subscribe("/events?channel=news.*").await;
    let mut both = gateway.subscribe("/events?channel=news.*&channel=news.sport").await;

    for (channel, payload) in [("news.sport", "1"), ("other", "2"), ("news.art", "3")] {
        redis.publish(channel, payload).await;
    }
    for stream in [&mut pattern, &mut both] {
        assert_eq!(stream.next_event().await.data, "1", "once, however it was asked for");
        assert_eq!(stream.next_event().await.data, "3");
    }
}

#[tokio::test]
async fn no_pattern_reaches_what_redis_keeps_for_itself() {
    let redis = Redis::with(&["--notify-keyspace-events", "KEA"]).await;
    let gateway = Gateway::build(&redis)
        .routes("- path: /events\n  events: { channels: [\"{query.channel}\"], patterns: true }\n")
        .start()
        .await;
    for name in ["*", "__*", "%3F_keyspace@0__:*", "[_]_keyevent*", "__key\\space@*", "_*"] {
        let response = gateway.get(&format!("/events?channel={name}")).await;
        assert_eq!(response.status, 400, "{name}");
    }
    assert_eq!(gateway.get("/events?channel=k*").await.status, 200);
}

#[tokio::test]
async fn a_stream_has_at_most_as_many_channels_as_its_route_says() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .routes("- path: /events\n  events: { channels: [\"{query.channel}\"], max_channels: 3 }\n")
        .start()
        .await;
    assert_eq!(gateway.get("/events?channel=a&channel=b&channel=c").await.status, 200);
    assert_eq!(gateway.get("/events?channel=a&channel=b&channel=c&channel=d").await.status, 400);
}

#[tokio::test]
async fn over_the_limit_on_all_channels_a_client_is_asked_to_come_back() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).settings("max_channels: 2").start().await;
    let _kept = (gateway.subscribe("/events/a").await, gateway.subscribe("/events/b").await);

    let mut refused = gateway.send(Via::Http1, Request::events("/events/c")).await.stream();
    assert_eq!(refused.next_block().await.retry, Some(3000), "opened before it was refused");
    let (reason, retry) = refused.sent_away().await;
    assert_eq!(reason, "too many channels are followed at once");
    assert!(retry >= 3000, "{retry}");
    let _fine = gateway.subscribe("/events/a").await;
    gateway.counts("ssegate_channels_refused_total", &[], 1.0).await;
}

#[tokio::test]
async fn a_thousand_channels_come_and_go_at_once() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).events("linger: 1s").start().await;
    let mut streams = Vec::new();
    for number in 0..1000 {
        streams.push(gateway.open(&format!("/events/c{number}")).await);
    }
    for stream in &mut streams {
        stream.ready().await;
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        redis.publish(&format!("c{number}"), number.to_string()).await;
        assert_eq!(stream.next_event().await.data, number.to_string());
    }
    drop(streams);
    let gone = async || channels_followed(&redis).await.is_empty();
    eventually(SOON, "all channels are left", gone).await;
}

/// The channels that somebody follows at Redis; not that on which the gateway listens to itself.
async fn channels_followed(redis: &Redis) -> Vec<String> {
    let mut channels: Vec<String> = redis.command(&["PUBSUB", "CHANNELS"]).await;
    // Those of the gateway itself are there as long as it is.
    channels.retain(|channel| !channel.starts_with("ssegate:"));
    channels
}
