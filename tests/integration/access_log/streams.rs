//! Streams: the line of their opening, and the one of their end.

use serde_json::{Value, json};

use super::{build, line, lines};
use crate::auth::{CRON, SECRET, of, seconds};
use crate::slow_readers::stalled;
use crate::support::{
    EventStream, Gateway, Redis, Request, SOON, Upstream, Via, eventually, within,
};

/// The two lines of the only stream of this target, once it has ended.
async fn both(gateway: &Gateway, target: &str) -> (Value, Value) {
    let closed = line(gateway, "stream_closed", target).await;
    let opened = line(gateway, "stream_opened", target).await;
    assert_eq!(lines(gateway, target).len(), 2, "{:#?}", lines(gateway, target));
    for key in ["client", "path", "route", "status", "protocol", "channels", "id"] {
        assert_eq!(opened[key], closed[key], "{key}: {opened} {closed}");
    }
    (opened, closed)
}

#[tokio::test]
async fn a_stream_has_a_line_when_it_is_opened_and_one_when_it_is_closed() {
    let redis = Redis::start().await;
    let gateway = build(&redis).start().await;
    for (number, via) in Via::ALL.into_iter().enumerate() {
        let target = format!("/events?channel=a{number}&channel=b{number}");
        let mut stream = gateway.subscribe_via(via, &target).await;
        let opened = line(&gateway, "stream_opened", &target).await;
        for key in ["events", "bytes", "duration_ms", "reason"] {
            assert_eq!(opened[key], Value::Null, "{key}: {opened}");
        }
        for text in ["one", "two"] {
            redis.publish(&format!("a{number}"), text).await;
            assert_eq!(stream.next_event().await.data, text);
        }
        drop(stream);
        let (_opened, closed) = both(&gateway, &target).await;
        let protocol = if via.is_http2() { "HTTP/2.0" } else { "HTTP/1.1" };
        for (key, value) in [
            ("client", json!("127.0.0.1")),
            ("route", json!("/events")),
            ("protocol", json!(protocol)),
            ("status", json!(200)),
            ("channels", json!(2)),
            ("events", json!(2)),
            ("reason", json!("client_left")),
            ("resumed", Value::Null),
        ] {
            assert_eq!(closed[key], value, "{key} via {via:?}: {closed}");
        }
        assert!(closed["duration_ms"].as_f64() > Some(0.0), "{closed}");
        assert!(closed["bytes"].as_u64() > Some(20), "{closed}");
    }
    // As the metric counts them.
    eventually(SOON, "the bytes of the lines are those of the metric", async || {
        let closed = lines(&gateway, "/events").into_iter();
        let logged = closed.filter_map(|line| line["bytes"].as_f64()).sum::<f64>();
        logged == gateway.metrics().await.sum("ssegate_stream_bytes_sent_total", &[])
    })
    .await;
}

#[tokio::test]
async fn the_reason_of_the_end_is_that_of_the_metrics() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let jwt = format!("jwt: {{ keys: {SECRET}, algorithms: HS256, leeway: 0s }}");
    let mut gateway = build(&redis)
        .settings("drain: 1s\nmax_channels: 4\nrevocation: {}")
        .routes(&format!(
            "- {{ path: /open, events: {{ channels: [news] }} }}\n\
             - {{ path: /aged, events: {{ channels: [news], max_stream_age: 200ms }} }}\n\
             - {{ path: /mine, events: {{ channels: [news] }}, auth: {{ {jwt} }} }}\n\
             - {{ path: /any, events: {{ channels: [\"{{query.channel}}\"] }} }}\n\
             - {{ path: \"/app/{{*rest}}\", proxy: {{ upstream: \"http://{}\" }} }}\n",
            upstream.address()
        ))
        .start()
        .await;
    let reason = async |gateway: &Gateway, target: &str| {
        let (_opened, closed) = both(gateway, target).await;
        closed["reason"].as_str().unwrap().to_owned()
    };
    let listen = async |target: &str, claims: &Value| {
        let bearer = format!("Bearer {}", of("alice", claims));
        let request = Request::events(target).header("authorization", &bearer);
        gateway.send(Via::Http2, request).await.stream()
    };
    let drained = gateway.subscribe_via(Via::Http2, "/open?drained").await;
    drop(gateway.subscribe("/open?left").await);
    assert_eq!(reason(&gateway, "/open?left").await, "client_left");
    let _aged = gateway.subscribe("/aged").await;
    assert_eq!(reason(&gateway, "/aged").await, "max_stream_age");
    let _expired = listen("/mine?expired", &json!({"exp": seconds(2)})).await;
    assert_eq!(reason(&gateway, "/mine?expired").await, "expired");
    let (_opened, closed) = both(&gateway, "/mine?expired").await;
    assert_eq!(closed["id"], "alice");
    let _revoked = listen("/mine?revoked", &json!({})).await;
    line(&gateway, "stream_opened", "/mine?revoked").await;
    let revoke = Request::new("POST", "/revoke").header("content-type", "application/json");
    let revoke =
        revoke.body(br#"{"sub":"alice"}"#).send(Via::Http1, gateway.address("admin")).await;
    assert_eq!(revoke.status, 200);
    assert_eq!(reason(&gateway, "/mine?revoked").await, "revoked");
    let many = "/any?channel=a&channel=b&channel=c&channel=d&channel=e";
    let _refused = gateway.open(many).await;
    assert_eq!(reason(&gateway, many).await, "refused");
    for (target, length, expected) in [
        ("/app/ended", "", "backend_ended"),
        ("/app/failed", "content-length: 99\r\n", "backend_failed"),
    ] {
        let (response, ()) =
            tokio::join!(gateway.send(Via::Http2, Request::events(target)), async {
                let mut call = upstream.call().await;
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{length}\r\n");
                call.write(format!("{head}data: x\n\n")).await;
            });
        drop(response.stream().end().await);
        assert_eq!(reason(&gateway, target).await, expected);
        let (_opened, closed) = both(&gateway, target).await;
        assert_eq!((&closed["bytes"], &closed["events"]), (&json!(9), &Value::Null), "{closed}");
    }
    gateway.terminate();
    gateway.exit_within(SOON).await;
    assert_eq!(reason(&gateway, "/open?drained").await, "drained");
    drop(drained);
}

#[tokio::test]
async fn a_client_that_reads_too_slowly_is_logged_so_and_as_an_error() {
    let redis = Redis::start().await;
    for (settings, expected) in [
        ("sse: { queue: { bytes: 1KiB } }", "lagged"),
        ("write_timeout: 1s\nsse: { queue: { bytes: 64MiB } }", "stalled"),
        ("limits: { queue_memory: 1MiB }\nsse: { queue: { bytes: 64MiB } }", "queue_memory"),
    ] {
        let gateway = Gateway::build(&redis)
            .settings(&format!("log: {{ access: errors }}\n{settings}"))
            .start()
            .await;
        drop(gateway.subscribe("/events/well").await);
        let _slow = stalled(gateway.address("http"), "/events/news").await;
        let payload = "x".repeat(64 << 10);
        eventually(4 * SOON, expected, async || {
            redis.publish("news", &payload).await;
            gateway.stdout().iter().any(|line| line.contains(expected))
        })
        .await;
        let lines = lines(&gateway, "/events");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(
            (&lines[0]["event"], &lines[0]["reason"]),
            (&json!("stream_closed"), &json!(expected))
        );
    }
}

/// Reads until `ready`, past what is sent before it, and leaves.
async fn leave_when_ready(mut stream: EventStream) {
    within(SOON, "`ready`", async {
        while !stream.next_block().await.comments.iter().any(|comment| comment == "ready") {}
    })
    .await;
}

/// Comes back with this id, reads until `ready`, and leaves.
async fn come_back(gateway: &Gateway, target: &str, id: &str) -> Value {
    leave_when_ready(gateway.resume(Via::Http2, target, id).await).await;
    let (opened, closed) = both(gateway, target).await;
    assert_eq!(opened["resumed"], Value::Null);
    let text = closed.to_string() + &opened.to_string();
    assert!(!text.contains(id), "{text}");
    closed["resumed"].clone()
}

#[tokio::test]
async fn a_stream_that_was_resumed_says_from_where() {
    let redis = Redis::start().await;
    let routes = "\
- { path: /events, events: { channels: [news] } }
- { path: /log, events: { channels: [log], source: stream } }
- { path: /off, events: { channels: [news], history: off } }
";
    let first = build(&redis).routes(routes).start().await;
    first.becomes(200, SOON).await;
    let second = build(&redis).routes(routes).start().await;
    second.becomes(200, SOON).await;
    let mut streams = Vec::new();
    for gateway in [&first, &second] {
        streams.push(gateway.subscribe("/events?stays").await);
    }
    let mut stream = first.subscribe("/events?first").await;
    // An id that other gateways can know has three parts.
    eventually(SOON, "an id with a place", async || {
        redis.publish("news", "x").await;
        stream.next_event().await;
        stream.last_id().splitn(3, '-').count() == 3
    })
    .await;
    let id = stream.last_id().to_owned();
    redis.publish("news", "missed").await;
    assert_eq!(stream.next_event().await.data, "missed");
    assert_eq!(come_back(&first, "/events?own", &id).await, "history");
    // An id that was given after a mark that both have heard with the channel confirmed.
    let mut tries = 0;
    eventually(SOON, "the second gateway knows the place", async || {
        redis.publish("news", "again").await;
        assert_eq!(stream.next_event().await.data, "again");
        tries += 1;
        let target = format!("/events?other{tries}");
        come_back(&second, &target, stream.last_id()).await == "fleet"
    })
    .await;
    assert_eq!(come_back(&first, "/events?unknown", "zzzzzz-1").await, "gap");
    assert_eq!(come_back(&first, "/off?id", &id).await, "none");
    redis.command::<String>(&["XADD", "log", "1-0", "data", "a"]).await;
    redis.command::<String>(&["XADD", "log", "2-0", "data", "b"]).await;
    assert_eq!(come_back(&second, "/log?entry", "1-0").await, "log");
    assert_eq!(come_back(&second, "/log?unknown", "strange").await, "gap");
    let by_query = format!("/events?own_by_query&last_event_id={id}");
    leave_when_ready(first.open(&by_query).await).await;
    assert_eq!(line(&first, "stream_closed", "/events?own_by_query").await["resumed"], "history");
    assert!(!first.log().contains(&id) && !second.log().contains(&id));
}

#[tokio::test]
async fn a_stream_that_a_backend_hands_over_is_one_of_ours() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis)
        .settings(&format!("auth: {{ tokens: [{{ name: cron, sha256: {CRON} }}] }}"))
        .routes(&format!("{}  handover: {{ key: {SECRET} }}\n", upstream.route("/app/{*rest}")))
        .start()
        .await;
    let request = Request::events("/app/x").header("authorization", "Bearer cron-token");
    let (response, ()) = tokio::join!(gateway.send(Via::Http1, request), async {
        let grip =
            "grip-hold: stream\r\ngrip-channel: a, b, c\r\ncontent-type: text/event-stream\r\n";
        upstream.call().await.answer("200 OK", grip, "data: first\n\n").await;
    });
    let mut stream = response.stream();
    assert_eq!(stream.next_event().await.data, "first");
    stream.ready().await;
    drop(stream);
    let (opened, closed) = both(&gateway, "/app/x").await;
    assert!(opened["upstream_ms"].is_number(), "{opened}");
    assert_eq!(
        (&closed["channels"], &closed["events"], &closed["id"]),
        (&json!(3), &json!(0), &json!("cron"))
    );
    assert!(closed["bytes"].as_u64() > Some(13), "{closed}");
}
