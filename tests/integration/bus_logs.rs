//! Routes with `source: stream` on the embedded bus: no Redis runs.

use redis::FromRedisValue;
use serde_json::{Value, json};

use crate::support::{
    EventStream, Gateway, GatewayBuilder, Redis, Request, SOON, Via, eventually, within,
};

const ROUTES: &str = "\
- { path: /events, events: { channels: [\"{query.channel}\"], source: stream } }
- { path: \"/events/{channel}\", events: { channels: [\"{channel}\"], source: stream } }
- { path: \"/entries/{channel}\", publish: { channels: [\"{channel}\"], max_stream_entries: 100 }, \
    auth: { tokens: [{ name: app, sha256: cc36709324dcdf33d7bae33d46f252afac7e23f8293932eb8d84c9049a4b880a }] } }
";

fn build() -> GatewayBuilder {
    Gateway::build(&Redis::stopped(&[])).redis_url("embedded://127.0.0.1:0").routes(ROUTES)
}

/// Sends a command to the bus of a gateway, as any client does.
async fn command<T: FromRedisValue>(gateway: &Gateway, words: &[&str]) -> T {
    let url = format!("redis://{}", gateway.address("bus"));
    let client = redis::Client::open(url).unwrap();
    let mut connection =
        client.get_multiplexed_async_connection_with_config(&patient()).await.unwrap();
    redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.unwrap()
}

async fn add(gateway: &Gateway, stream: &str, data: &str) -> String {
    command(gateway, &["XADD", stream, "*", "data", data]).await
}

/// A client that does not give up on a busy machine.
fn patient() -> redis::AsyncConnectionConfig {
    redis::AsyncConnectionConfig::new().set_response_timeout(Some(SOON))
}

/// Adds entries in one go.
async fn add_all(gateway: &Gateway, stream: &str, data: impl Iterator<Item = String>) {
    let url = format!("redis://{}", gateway.address("bus"));
    let client = redis::Client::open(url).unwrap();
    let mut connection =
        client.get_multiplexed_async_connection_with_config(&patient()).await.unwrap();
    let mut pipeline = redis::pipe();
    for data in data {
        pipeline.cmd("XADD").arg(stream).arg("*").arg("data").arg(data).ignore();
    }
    pipeline.query_async::<()>(&mut connection).await.unwrap();
}

async fn data(stream: &mut EventStream, count: usize) -> Vec<String> {
    let mut data = Vec::with_capacity(count);
    for _ in 0..count {
        let event = stream.next_event().await;
        assert_eq!(event.name, "message", "{}", event.data);
        data.push(event.data);
    }
    data
}

fn numbers(range: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    range.map(|number| number.to_string())
}

#[tokio::test]
async fn entries_on_the_bus_arrive_with_their_ids_over_every_protocol() {
    let gateway = build().start().await;
    add(&gateway, "orders", "before").await;
    let mut streams = Vec::new();
    for via in Via::ALL {
        streams.push(gateway.subscribe_via(via, "/events/orders").await);
    }
    let words = ["XADD", "orders", "*", "data", "shipped", "event", "order"];
    let id: String = command(&gateway, &words).await;
    for stream in &mut streams {
        let event = stream.next_event().await;
        assert_eq!((event.name.as_str(), event.data.as_str()), ("order", "shipped"));
        assert_eq!(event.id, id);
    }
    gateway.becomes(200, SOON).await;
    let lost = "in memory only";
    assert!(gateway.log().contains(lost), "{}", gateway.log());
}

#[tokio::test]
async fn new_streams_on_the_bus_are_followed_while_others_wait() {
    let gateway = build().start().await;
    let mut streams = Vec::new();
    for number in 0..50 {
        streams.push(gateway.subscribe(&format!("/events/s{number}")).await);
    }
    // The reader that waits is woken with CLIENT UNBLOCK where a stream is added to it.
    let all = async {
        for (number, stream) in streams.iter_mut().enumerate() {
            let name = format!("s{number}");
            add(&gateway, &name, &name).await;
            assert_eq!(stream.next_event().await.data, name);
        }
    };
    within(2 * SOON, "an event on each", all).await;
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_missed_of_the_bus() {
    let gateway = build().start().await;
    let mut stream = gateway.subscribe("/events?channel=a&channel=b").await;
    add(&gateway, "a", "a0").await;
    add(&gateway, "b", "b0").await;
    let mut both = data(&mut stream, 2).await;
    both.sort();
    assert_eq!(both, ["a0", "b0"]);
    let last = stream.last_id().to_owned();
    drop(stream);
    // More than one piece.
    add_all(&gateway, "a", (1..1000).map(|n| format!("a{n}"))).await;
    add_all(&gateway, "b", (1..300).map(|n| format!("b{n}"))).await;
    let mut back = gateway.resume(Via::Http2, "/events?channel=a&channel=b", &last).await;
    let missed = data(&mut back, 999 + 299).await;
    for (name, count) in [("a", 1000), ("b", 300)] {
        let of_one: Vec<_> = missed.iter().filter(|data| data.starts_with(name)).collect();
        let expected: Vec<_> = (1..count).map(|n| format!("{name}{n}")).collect();
        assert_eq!(of_one, expected.iter().collect::<Vec<_>>());
    }
    add(&gateway, "a", "live").await;
    assert_eq!(back.next_event().await.data, "live");
}

#[tokio::test]
async fn a_client_is_told_what_the_bus_does_not_have_any_more() {
    let gateway = build().settings("sse: { linger: 0s }").start().await;
    let mut stream = gateway.subscribe("/events/s").await;
    add_all(&gateway, "s", numbers(0..10)).await;
    assert_eq!(data(&mut stream, 10).await, numbers(0..10).collect::<Vec<_>>());
    let last = stream.last_id().to_owned();
    drop(stream);
    let left = async || gateway.metrics().await.sum("ssegate_channels", &[]) == 0.0;
    eventually(SOON, "it is left", left).await;
    add_all(&gateway, "s", numbers(10..20)).await;
    let trimmed: u64 = command(&gateway, &["XTRIM", "s", "MAXLEN", "5"]).await;
    assert_eq!(trimmed, 15);
    let mut back = gateway.resume(Via::Http1, "/events/s", &last).await;
    let gap = back.next_event().await;
    assert_eq!(gap.data, r#"{"reason":"trimmed","channels":["s"]}"#);
    assert_eq!(data(&mut back, 5).await, numbers(15..20).collect::<Vec<_>>());
    // And while it listens.
    command::<u64>(&gateway, &["DEL", "s"]).await;
    let words = ["XADD", "s", "1-1", "data", "anew"];
    command::<String>(&gateway, &words).await;
    let reset = within(2 * SOON, "the reset is noticed", back.next_event()).await;
    assert_eq!(reset.data, r#"{"reason":"reset","channels":["s"]}"#);
    assert_eq!(back.next_event().await.data, "anew");
}

#[tokio::test]
async fn large_entries_on_the_bus_arrive_live_and_again() {
    let gateway =
        build().settings("max_event_bytes: 4MiB\nsse: { queue: { bytes: 64MiB } }").start().await;
    let mut stream = gateway.subscribe("/events/s").await;
    for size in [1, 1000, 100_000, 4 << 20] {
        let payload = "x".repeat(size);
        add(&gateway, "s", &payload).await;
        assert!(stream.next_event().await.data == payload, "{size} bytes");
    }
    let last = stream.last_id().to_owned();
    let payloads: Vec<String> = (0..8).map(|n| n.to_string().repeat(3 << 20)).collect();
    add_all(&gateway, "s", payloads.iter().cloned()).await;
    let mut back = gateway.resume(Via::Http1, "/events/s", &last).await;
    for payload in &payloads {
        assert!(stream.next_event().await.data == *payload, "live");
        assert!(back.next_event().await.data == *payload, "again");
    }
}

#[tokio::test]
async fn what_is_posted_becomes_an_entry_on_the_bus() {
    let gateway = build().start().await;
    let mut stream = gateway.subscribe("/events/orders").await;
    let post = async |body: &str, key: &str| -> Value {
        let request = Request::new("POST", "/entries/orders?event=shipped")
            .header("authorization", "Bearer the-token-of-the-app-which-is-long")
            .header("idempotency-key", key)
            .body(body.as_bytes());
        let response = gateway.send(Via::Http2, request).await;
        assert_eq!(response.status, 200);
        serde_json::from_str(&response.text().await).unwrap()
    };
    let first = post("one", "k").await;
    assert_eq!(post("one", "k").await, first, "the key publishes once");
    let event = stream.next_event().await;
    assert_eq!((event.name.as_str(), event.data.as_str()), ("shipped", "one"));
    assert_eq!(json!({ "id": event.id }), first);
    for number in 0..200 {
        post(&number.to_string(), &format!("n{number}")).await;
    }
    let kept: u64 = command(&gateway, &["XLEN", "orders"]).await;
    assert_eq!(kept, 100, "max_stream_entries");
    assert_eq!(data_of(&mut stream, 200).await.last().map(String::as_str), Some("199"));
}

async fn data_of(stream: &mut EventStream, count: usize) -> Vec<String> {
    let mut data = Vec::new();
    for _ in 0..count {
        data.push(stream.next_event().await.data);
    }
    data
}

#[tokio::test]
async fn a_full_bus_refuses_entries_and_says_so() {
    let gateway =
        build().settings("max_event_bytes: 1MiB\nlimits: { bus_streams: 4MiB }").start().await;
    let url = format!("redis://{}", gateway.address("bus"));
    let client = redis::Client::open(url).unwrap();
    let mut connection =
        client.get_multiplexed_async_connection_with_config(&patient()).await.unwrap();
    let mut added = 0;
    let error = loop {
        let mut xadd = redis::cmd("XADD");
        xadd.arg("s").arg("*").arg("data").arg("x".repeat(500_000));
        match xadd.query_async::<String>(&mut connection).await {
            Ok(_) => added += 1,
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("OOM"), "{error}");
    assert_eq!(added, 8);
    gateway.counts("ssegate_bus_entries_refused_total", &[], 1.0).await;
    let metrics = gateway.metrics().await;
    assert!(metrics.sum("ssegate_bus_stream_bytes", &[]) <= f64::from(4 << 20));
    assert!(gateway.log().contains("limits.bus_streams reached"));
    // Messages and short streams go on.
    let mut stream = gateway.subscribe("/events/s").await;
    command::<String>(&gateway, &["XADD", "s", "MAXLEN", "1", "*", "data", "short"]).await;
    assert_eq!(stream.next_event().await.data, "short");
}

#[tokio::test]
async fn a_gateway_that_stops_or_restarts_says_what_is_lost() {
    let mut gateway = build().settings("drain: 1s").start().await;
    let mut stream = gateway.subscribe("/events/s").await;
    add(&gateway, "s", "kept in memory").await;
    stream.next_event().await;
    let last = stream.last_id().to_owned();
    // Somebody else waits, too.
    let url = format!("redis://{}", gateway.address("bus"));
    let mut connection =
        redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let waiting = tokio::spawn(async move {
        let mut xread = redis::cmd("XREAD");
        xread.arg("BLOCK").arg(0).arg("STREAMS").arg("other").arg("$");
        xread.query_async::<redis::Value>(&mut connection).await
    });
    eventually(SOON, "it waits", async || {
        let info: String = command(&gateway, &["INFO", "clients"]).await;
        info.contains("blocked_clients:2")
    })
    .await;
    gateway.terminate();
    assert_eq!(gateway.exit_within(SOON).await.code(), Some(0));
    assert!(waiting.await.unwrap().is_err(), "its connection is closed");
    let anew = build().start().await;
    let mut back = anew.resume(Via::Http1, "/events/s", &last).await;
    assert_eq!(back.next_event().await.data, r#"{"reason":"reset","channels":["s"]}"#);
    add(&anew, "s", "new").await;
    assert_eq!(back.next_event().await.data, "new");
}
