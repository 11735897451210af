//! Patterns that are followed before anybody asks: what was published to nobody is there.

use crate::support::{EventStream, Gateway, GatewayBuilder, Program, Redis, SOON, Via, eventually};

const ROUTES: &str = "\
- path: /orders/{id}
  events: { channels: [\"orders:{id}\"], follow: [\"orders:*\"], replay: all }
- path: /told/{id}
  events: { channels: [\"orders:{id}\"], follow: [\"orders:*\"], replay: all, format: envelope }
- path: /other/{channel}
  events: { channels: [\"{channel}\"], replay: all }
";

/// `redis-cli` publishes, as any client of Redis would.
async fn publish(port: u16, channel: &str, payload: &str) {
    let port = port.to_string();
    let words = ["-h", "127.0.0.1", "-p", &port, "publish", channel, payload];
    let done = Program::new("redis-cli").args(words).output(SOON).await;
    assert_eq!(done.code(), 0, "{done:?}");
}

/// The data of the next events.
async fn data(stream: &mut EventStream, count: usize) -> Vec<String> {
    let mut data = Vec::new();
    for _ in 0..count {
        data.push(stream.next_event().await.data);
    }
    data
}

/// What a client is sent that comes back with an id, until the event with this data.
async fn until(gateway: &Gateway, target: &str, id: &str, last: &str) -> Vec<String> {
    let mut stream = gateway.resume(Via::Http2, target, id).await;
    let mut data = Vec::new();
    while data.last().is_none_or(|data| data != last) {
        data.push(stream.next_event().await.data);
    }
    data
}

async fn is_subscribed(redis: &Redis, patterns: u64) {
    let count = async || redis.command::<u64>(&["PUBSUB", "NUMPAT"]).await == patterns;
    eventually(SOON, "the patterns are followed, and no others", count).await;
}

async fn started(builder: GatewayBuilder) -> Gateway {
    let gateway = builder.start().await;
    gateway.becomes(200, SOON).await;
    gateway
}

#[tokio::test]
#[ignore = "needs redis-cli: run by tests/run"]
async fn what_was_published_to_nobody_is_sent_to_who_comes_later() {
    let redis = Redis::start().await;
    let nobody = Redis::stopped(&[]);
    let bus = Gateway::build(&nobody).redis_url("embedded://127.0.0.1:0").routes(ROUTES);
    let bus = started(bus).await;
    let bus_port = bus.address("bus").port();
    let of_redis = started(Gateway::build(&redis).routes(ROUTES)).await;
    for (gateway, port) in [(of_redis, redis.port()), (bus, bus_port)] {
        let id = gateway.subscribe("/other/news").await.last_id().to_owned();
        for payload in ["1", r#"{"event":"paid","data":"2"}"#] {
            publish(port, "orders:7", payload).await;
        }
        publish(port, "orders:8", "3").await;
        let mut late = gateway.open("/orders/7").await;
        assert_eq!(data(&mut late, 2).await, ["1", r#"{"event":"paid","data":"2"}"#]);
        let mut told = gateway.open("/told/7").await;
        assert_eq!(data(&mut told, 1).await, ["1"]);
        let paid = told.next_event().await;
        assert_eq!((&*paid.name, &*paid.data), ("paid", "2"));
        // A client that was elsewhere before misses nothing either, and what comes then comes once.
        let back = tokio::spawn(async move {
            let told = until(&gateway, "/orders/8", &id, "4").await;
            (gateway, told)
        });
        late.ready().await;
        publish(port, "orders:8", "4").await;
        let (_gateway, sent) = back.await.unwrap();
        assert_eq!(sent, ["3", "4"]);
    }
}

#[tokio::test]
async fn the_channel_that_was_unused_for_longest_makes_room_and_is_one_gap() {
    let redis = Redis::start().await;
    let builder = Gateway::build(&redis).routes(ROUTES).settings("max_channels: 4");
    let gateway = started(builder).await;
    let mut first = gateway.subscribe("/orders/0").await;
    let id = first.last_id().to_owned();
    // One channel for each of two formats.
    for (channel, payload) in [("orders:1", "1"), ("orders:2", "2"), ("orders:0", "3")] {
        redis.publish(channel, payload).await;
    }
    assert_eq!(first.next_event().await.data, "3");
    gateway.counts("ssegate_channels", &[], 4.0).await;
    let gap = r#"{"reason":"expired","channels":["orders:1"]}"#;
    let back = async || {
        let mut stream = gateway.resume(Via::Http1, "/orders/1", &id).await;
        stream.next_event().await.data
    };
    assert_eq!(back().await, gap);
}

#[tokio::test]
async fn a_reload_follows_and_leaves_patterns_under_open_streams() {
    let redis = Redis::start().await;
    let gateway = started(Gateway::build(&redis).events("replay: all")).await;
    let mut stream = gateway.subscribe("/events/orders:1").await;
    is_subscribed(&redis, 0).await;
    let follow = |text: String, patterns: &str| {
        text.replace("replay: all", &format!("replay: all\n      follow: [{patterns}]"))
    };
    gateway.rewrite(|text| follow(text, "\"orders:*\""));
    assert!(gateway.reload().await);
    is_subscribed(&redis, 1).await;
    let left = async || redis.listeners("orders:1").await == 0;
    eventually(SOON, "the pattern feeds the channel", left).await;
    redis.publish("orders:1", "1").await;
    redis.publish("orders:2", "2").await;
    gateway.rewrite(|text| text.replace("orders:*", "order*"));
    assert!(gateway.reload().await);
    redis.publish("orders:1", "3").await;
    is_subscribed(&redis, 1).await;
    let mut other = gateway.open("/events/orders:2").await;
    assert_eq!(data(&mut other, 1).await, ["2"]);
    gateway.rewrite(|text| text.replace("follow: [\"order*\"]", ""));
    assert!(gateway.reload().await);
    redis.publish("orders:1", "4").await;
    is_subscribed(&redis, 0).await;
    redis.publish("orders:1", "5").await;
    redis.publish("orders:2", "6").await;
    assert_eq!(data(&mut stream, 4).await, ["1", "3", "4", "5"]);
    assert_eq!(data(&mut other, 1).await, ["6"]);
}

#[tokio::test]
async fn a_break_is_one_gap_on_a_followed_channel() {
    let redis = Redis::start().await;
    let gateway = started(Gateway::build(&redis).routes(ROUTES)).await;
    let id = gateway.subscribe("/orders/9").await.last_id().to_owned();
    redis.publish("orders:7", "1").await;
    let mut stream = gateway.subscribe("/orders/8").await;
    redis.command::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    let gap = stream.next_event().await;
    assert_eq!((&*gap.name, gap.data.contains("redis_away")), ("gap", true), "{gap:?}");
    redis.publish("orders:7", "2").await;
    let sent = until(&gateway, "/orders/7", &id, "2").await;
    assert_eq!(sent, ["1", r#"{"reason":"redis_away","channels":["orders:7"]}"#, "2"]);
}
