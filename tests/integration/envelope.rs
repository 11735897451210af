//! The `envelope` format: a JSON object with `event` or `type`, `data`, `id` and `retry`.

use crate::support::{Event, Gateway, Redis, Request, SOON, Via, within};

async fn gateway(redis: &Redis, settings: &str) -> Gateway {
    Gateway::build(redis).events(&format!("format: envelope\n{settings}")).start().await
}

#[tokio::test]
async fn an_envelope_gives_an_event_its_name_and_data() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis, "").await;
    let mut stream = gateway.subscribe("/events/news").await;

    let cases = [
        (r#"{"event":"ping","data":"hello"}"#, "ping", "hello"),
        (r#"{"type":"ping","data":"hello"}"#, "ping", "hello"),
        (r#"{"data":"two\nlines"}"#, "message", "two\nlines"),
        (r#"{"event":"ping","data":{ "a": [1, 2.50, "ö"] }}"#, "ping", r#"{"a":[1,2.50,"ö"]}"#),
        (r#"{"event":"ping"}"#, "ping", ""),
        (r#"{"data":""}"#, "message", ""),
        (r#"{"data":null}"#, "message", "null"),
        (r#"{"event":"ping","data":null}"#, "ping", "null"),
        (r#"{"event":"one","data":"a","event":"two","data":"b"}"#, "two", "b"),
        ("\u{feff}{\"event\":\"ping\",\"data\":\"x\"}", "ping", "x"),
    ];
    for (payload, name, data) in cases {
        redis.publish("news", payload).await;
        let event = stream.next_event().await;
        assert_eq!((event.name.as_str(), event.data.as_str()), (name, data), "{payload}");
    }
}

#[tokio::test]
async fn a_publishers_retry_reaches_the_client() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis, "").await;
    let mut stream = gateway.subscribe("/events/news").await;

    redis.publish("news", r#"{"data":"slower","retry":60000}"#).await;
    // The position may be told once more first.
    let retry = within(SOON, "`retry`", async {
        loop {
            if let Some(retry) = stream.next_block().await.retry {
                break retry;
            }
        }
    });
    assert_eq!(retry.await, 60_000);
    assert_eq!(stream.next_event().await.data, "slower");
}

#[tokio::test]
async fn a_publishers_id_is_used_only_without_history() {
    let redis = Redis::start().await;
    let payload = r#"{"data":"x","id":"order-7"}"#;

    let without = gateway(&redis, "history: off").await;
    let mut stream = without.subscribe("/events/news").await;
    redis.publish("news", payload).await;
    let expected =
        Event { name: "message".to_owned(), data: "x".to_owned(), id: "order-7".to_owned() };
    assert_eq!(stream.next_event().await, expected);

    let with = gateway(&redis, "").await;
    let mut stream = with.subscribe("/events/news").await;
    redis.publish("news", payload).await;
    assert_ne!(stream.next_event().await.id, "order-7");
}

#[tokio::test]
async fn an_id_that_no_request_could_bring_back_is_left_out_and_counted() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis, "history: off").await;
    for (bytes, is_used) in [(1024, true), (1025, false), (20_000, false)] {
        for via in [Via::Http1, Via::Http2] {
            let mut stream = gateway.subscribe_via(via, "/events/news").await;
            let id = "i".repeat(bytes);
            redis.publish("news", format!(r#"{{"data":"x","id":"{id}"}}"#)).await;
            let event = stream.next_event().await;
            assert_eq!((event.data.as_str(), event.id == id), ("x", is_used), "{bytes}");
            // Whatever it was told, it can come back.
            let request = Request::events("/events/news").header("last-event-id", &event.id);
            let response = gateway.send(via, request).await;
            assert_eq!(response.status, 200, "{bytes} {via:?}");
        }
    }
    gateway.counts("ssegate_events_malformed_total", &[], 4.0).await;
}

#[tokio::test]
async fn a_name_that_would_break_its_line_never_reaches_the_wire() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis, "history: off").await;
    let mut stream = gateway.subscribe("/events/news").await;

    for payload in [
        r#"{"event":"a\nid: 7","data":"x"}"#,
        r#"{"event":"a\rb","data":"x"}"#,
        r#"{"id":"a\nevent: b","data":"x"}"#,
        r#"{"id":"a\u0000b","data":"x"}"#,
    ] {
        redis.publish("news", payload).await;
    }
    redis.publish("news", r#"{"event":"last","data":"end"}"#).await;
    loop {
        let event = stream.next_event().await;
        if event.name == "last" {
            break;
        }
        assert_eq!((event.name.as_str(), event.data.as_str()), ("message", "x"));
        assert_eq!(event.id, "");
    }
}

#[tokio::test]
async fn a_payload_that_is_no_envelope_is_the_data_itself() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis, "").await;
    let mut stream = gateway.subscribe("/events/news").await;

    for payload in ["hello", "[1]", "{", "\"text\"", r#"{"order":7}"#, ""] {
        redis.publish("news", payload).await;
        let event = stream.next_event().await;
        assert_eq!((event.name.as_str(), event.data.as_str()), ("message", payload));
    }
}

#[tokio::test]
async fn two_routes_read_one_channel_each_in_its_own_way() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .routes(
            "- path: /raw\n  events: { channels: [news] }\n\
             - path: /parsed\n  events: { channels: [news], format: envelope }\n",
        )
        .start()
        .await;
    let mut raw = gateway.subscribe("/raw").await;
    let mut parsed = gateway.subscribe("/parsed").await;

    let payload = r#"{"event":"ping","data":"hello"}"#;
    assert_eq!(redis.publish("news", payload).await, 1, "one subscription serves both");
    assert_eq!(raw.next_event().await.data, payload);
    assert_eq!(parsed.next_event().await.data, "hello");
}

#[tokio::test]
async fn what_would_forge_a_field_is_left_out_and_the_event_is_delivered_and_not_dropped() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis, "").await;
    let mut stream = gateway.subscribe("/events/news").await;
    redis.publish("news", r#"{"event":"a\nb","data":"x"}"#).await;
    let event = stream.next_event().await;
    assert_eq!((event.name.as_str(), event.data.as_str()), ("message", "x"));
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_events_malformed_total", &[]), 1.0);
    assert_eq!(metrics.sum("ssegate_events_dropped_total", &[]), 0.0);
}
