//! Publishing over HTTP: from a route with `auth`, and from the admin listener.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::{
    Gateway, GatewayBuilder, Http2, Program, Redis, Relay, Request, Response, SOON, Slowness, Via,
    eventually, measured, within,
};

const TOKEN: &str = "cron-token";
// printf %s cron-token | sha256sum
const AUTH: &str = "auth: { tokens: [{ name: cron, sha256: c614b871ed744c04d17e441d256bf952a329ff5707e4d6d6829cfb9137857768 }, { name: other, sha256: 6c67163bbed989f232b31acc4f04df54b31285bfc01bd022c735b71e041a4754 }] }";
const CORS: &str = "cors: { origins: [\"https://friend.example\"] }";

const ROUTES: &str = "\
- { path: \"/events/{channel}\", events: { channels: [\"{channel}\"] }, auth: off }
- { path: \"/named/{channel}\", events: { channels: [\"named:{channel}\"], format: envelope, strip_prefix: \"app:\", history: off }, auth: off }
- { path: \"/publish/{channel}\", publish: { max_body: 64KiB }, cors: { origins: [\"https://friend.example\"] } }
- { path: /several, publish: { channels: [\"{query.channel}\"] } }
- { path: /own, publish: { channels: [\"named:{auth.id}\"] } }
";
const LOGS: &str = "\
- { path: \"/log/{channel}\", events: { channels: [\"log:{channel}\"], source: stream }, auth: off }
- { path: \"/entries/{channel}\", publish: { channels: [\"log:{channel}\"], max_stream_entries: 100 } }
";

fn routes(builder: GatewayBuilder) -> GatewayBuilder {
    builder.settings(AUTH).routes(&format!("{ROUTES}{LOGS}"))
}

/// With the embedded bus.
async fn on_the_bus() -> Gateway {
    let nobody = Redis::stopped(&[]);
    Gateway::build(&nobody)
        .redis_url("embedded://127.0.0.1:0")
        .settings(AUTH)
        .routes(ROUTES)
        .start()
        .await
}

fn post(target: &str, body: impl AsRef<[u8]>) -> Request {
    Request::new("POST", target)
        .header("authorization", &format!("Bearer {TOKEN}"))
        .body(body.as_ref())
}

async fn json_of(response: Response) -> Value {
    assert_eq!(response.status, 200, "{:?}", response.headers);
    assert_eq!(response.header("content-type"), "application/json");
    serde_json::from_str(&response.text().await).unwrap()
}

/// The status and the text of a refusal.
async fn refusal(response: Response) -> (u16, String) {
    (response.status, response.text().await)
}

#[tokio::test]
async fn what_is_posted_arrives_as_it_is() {
    let redis = Redis::start().await;
    for gateway in [routes(Gateway::build(&redis)).start().await, on_the_bus().await] {
        let mut stream = gateway.subscribe("/events/news").await;
        for via in Via::ALL {
            for (kind, body) in [
                ("text/plain", &b"hello"[..]),
                ("application/json", br#"{"event":"forged","data":"x"}"#),
                ("application/octet-stream", b"a\r\nid: 7\n\nb"),
                ("application/x-www-form-urlencoded", b"a=1&b=2"),
            ] {
                let request = post("/publish/news", body).header("content-type", kind);
                let reply = json_of(gateway.send(via, request).await).await;
                assert_eq!(reply, json!({"receivers": 1}), "{via:?}");
                let event = stream.next_event().await;
                let expected = String::from_utf8_lossy(body).replace("\r\n", "\n");
                assert_eq!((event.name.as_str(), event.data), ("message", expected));
            }
            let text = post("/publish/news", "t").header("accept", "text/plain");
            let response = gateway.send(via, text).await;
            assert_eq!((response.status, response.text().await), (200, "1\n".to_owned()));
            assert_eq!(stream.next_event().await.data, "t");
        }
        let published = ["route=\"/publish/{channel}\"", "result=\"published\""];
        gateway.counts("ssegate_published_total", &published, 20.0).await;
    }
}

#[tokio::test]
async fn names_and_ids_are_carried_by_the_format_of_the_route() {
    let redis = Redis::start().await;
    for gateway in [routes(Gateway::build(&redis)).start().await, on_the_bus().await] {
        let mut stream = gateway.subscribe("/named/a").await;
        for (query, data, name, id) in [
            ("", r#"{"event":"forged","data":"x"}"#, "message", ""),
            ("?event=ping", "1", "ping", ""),
            ("?event=p%20q&id=7", "a\nb", "p q", "7"),
        ] {
            let target = format!("/publish/named:a{query}");
            let reply = json_of(gateway.send(Via::Http2, post(&target, data)).await).await;
            assert_eq!(reply["receivers"], 1, "the strip_prefix of the route is added");
            let event = stream.next_event().await;
            assert_eq!((event.name.as_str(), event.data.as_str()), (name, data));
            assert!(id.is_empty() || event.id == id, "{event:?}");
        }
        for (target, why) in [
            ("/publish/news?event=ping", "the route /events/{channel} has format: raw"),
            ("/publish/news?id=7", "set format: envelope and history: off on it"),
            ("/publish/named:a?event=a%0Ab", "the event name has a control character"),
        ] {
            let (status, text) = refusal(gateway.send(Via::Http1, post(target, "x")).await).await;
            assert_eq!(status, 400, "{text}");
            assert!(text.contains(why), "{text}");
        }
    }
}

#[tokio::test]
async fn several_messages_are_published_in_order() {
    let redis = Redis::start().await;
    let gateway = routes(Gateway::build(&redis)).start().await;
    let mut stream = gateway.subscribe("/events/a").await;
    let lines: String = (0..1000).map(|number| format!("{number}\n")).collect();
    let array = format!("[{}]", lines.trim_end().replace('\n', ","));
    for (kind, body) in [("application/x-ndjson", lines), ("application/json", array)] {
        for via in [Via::Http1, Via::Http2] {
            let request = post("/publish/a", &body).header("content-type", kind);
            let reply = json_of(gateway.send(via, request).await).await;
            let replies = reply.as_array().expect("a list");
            assert_eq!(replies.len(), 1000);
            assert!(replies.iter().all(|reply| *reply == json!({"receivers": 1})));
            for number in 0..1000 {
                assert_eq!(stream.next_event().await.data, number.to_string());
            }
        }
    }
    let body = format!("{}1", "1\n".repeat(1000));
    let request = post("/publish/a", body).header("content-type", "application/x-ndjson");
    let (status, text) = refusal(gateway.send(Via::Http1, request).await).await;
    assert!(status == 400 && text.contains("more than 1000 messages"), "{text}");
}

#[tokio::test]
async fn a_message_may_name_one_of_the_channels_of_its_request_and_no_other() {
    let redis = Redis::start().await;
    let gateway = routes(Gateway::build(&redis)).start().await;
    let (mut a, mut b) =
        (gateway.subscribe("/events/a").await, gateway.subscribe("/events/b").await);
    let send = async |target: &str, body: &str| {
        let request = post(target, body).header("content-type", "application/x-ndjson");
        gateway.send(Via::Http2, request).await
    };
    let body = "{\"data\":\"1\",\"channel\":\"a\"}\n{\"data\":\"2\",\"channel\":\"b\"}\n\"3\"";
    let reply = json_of(send("/several?channel=a&channel=b", body).await).await;
    assert_eq!(reply.as_array().map(Vec::len), Some(4), "the last one goes to both: {reply}");
    for (stream, expected) in [(&mut a, ["1", "3"]), (&mut b, ["2", "3"])] {
        for data in expected {
            assert_eq!(stream.next_event().await.data, data);
        }
    }
    for (target, body) in [
        ("/several?channel=a", "\"x\"\n{\"data\":1,\"channel\":\"b\"}"),
        ("/publish/a", "{\"data\":1,\"channel\":\"b\"}"),
        ("/own", "{\"data\":1,\"channel\":\"named:other\"}"),
    ] {
        let response = send(target, body).await;
        assert_eq!(response.status, 403, "{target}");
    }
    redis.publish("a", "last").await;
    assert_eq!(a.next_event().await.data, "last", "nothing of a refused request is published");
    let mut own = gateway.subscribe("/named/cron").await;
    let reply = json_of(gateway.send(Via::Http1, post("/own", "mine")).await).await;
    assert_eq!(reply["receivers"], 1);
    assert_eq!(own.next_event().await.data, "mine");
}

#[tokio::test]
async fn an_events_route_with_streams_gets_entries() {
    let redis = Redis::start().await;
    let gateway = routes(Gateway::build(&redis)).start().await;
    let mut stream = gateway.subscribe("/log/a").await;
    for via in [Via::Http1, Via::Http2] {
        let reply =
            json_of(gateway.send(via, post("/publish/log:a?event=ping", "x\ny")).await).await;
        let event = stream.next_event().await;
        assert_eq!((event.name.as_str(), event.data.as_str()), ("ping", "x\ny"));
        assert_eq!(reply, json!({"id": event.id}), "the id of the entry");
    }
    let lines = "1\n".repeat(1000);
    let request = post("/entries/b", lines).header("content-type", "application/x-ndjson");
    let reply = json_of(gateway.send(Via::Http2, request).await).await;
    assert!(reply[999]["id"].as_str().is_some_and(|id| id.contains('-')), "{reply}");
    let kept: u64 = redis.command(&["XLEN", "log:b"]).await;
    assert!(kept < 300, "about a hundred entries are kept: {kept}");
    redis.command::<()>(&["SET", "log:wrong", "x"]).await;
    let (status, text) =
        refusal(gateway.send(Via::Http1, post("/publish/log:wrong", "x")).await).await;
    assert!(status == 502 && text.contains("Redis refused the message (WRONGTYPE)"), "{text}");
}

#[tokio::test]
async fn a_channel_that_nobody_can_follow_is_noted() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .settings(AUTH)
        .routes("- { path: /a, events: { channels: [a] } }\n- { path: \"/publish/{c}\", publish: {} }\n")
        .start()
        .await;
    let reply = json_of(gateway.send(Via::Http2, post("/publish/b", "x")).await).await;
    assert_eq!(reply, json!({"receivers": 0, "note": "no events route has this channel"}));
    let reply = json_of(gateway.send(Via::Http2, post("/publish/a", "x")).await).await;
    assert_eq!(reply, json!({"receivers": 0}));
}

#[tokio::test]
async fn what_may_not_publish_is_refused_before_anything_is_published() {
    let redis = Redis::start().await;
    let gateway = routes(Gateway::build(&redis)).start().await;
    let mut stream = gateway.subscribe("/events/news").await;
    let large = "x".repeat((64 << 10) + 1);
    for via in Via::ALL {
        let anonymous = Request::new("POST", "/publish/news").body(b"x");
        let wrong = anonymous.clone().header("authorization", "Bearer nonsense");
        let twice = post("/publish/news", "x")
            .header("idempotency-key", "a")
            .header("idempotency-key", "b");
        let reserved = post("/publish/__keyspace@0__:x", "x");
        let own = post("/publish/ssegate:revoke:list", "x");
        for (request, status) in [
            (anonymous, 401),
            (own, 400),
            (wrong, 401),
            (Request::new("PUT", "/publish/news").body(b"x"), 405),
            (Request::get("/publish/news"), 405),
            (post("/publish/news", &large), 413),
            (reserved, 400),
            (post("/publish/%ff", "x"), 400),
            (post("/several", "x"), 400),
            (twice, 400),
            (post("/publish/news", "x").header("idempotency-key", &"k".repeat(256)), 400),
            (post("/publish/news", "x").header("origin", "https://evil.example"), 403),
            (post("/publish/news", "x").header("origin", "null"), 403),
            (post("/publish/news", "x").header("sec-fetch-site", "cross-site"), 403),
            (post("/several?channel=news", "x").header("origin", "https://friend.example"), 403),
        ] {
            let named = format!("{request:?}").chars().take(300).collect::<String>();
            let response = gateway.send(via, request).await;
            assert_eq!(response.status, status, "{via:?} {named}");
            if status == 405 {
                assert_eq!(response.header("allow"), "POST");
            }
        }
    }
    redis.publish("news", "last").await;
    assert_eq!(stream.next_event().await.data, "last");
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_publish() {
    let redis = Redis::start().await;
    let gateway = routes(Gateway::build(&redis)).start().await;
    assert!(ROUTES.contains(CORS));
    for via in [Via::Http1, Via::Http2] {
        for (origin, is_allowed) in
            [("https://friend.example", true), ("https://evil.example", false)]
        {
            let preflight = Request::new("OPTIONS", "/publish/news")
                .header("origin", origin)
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "content-type,idempotency-key");
            let response = gateway.send(via, preflight).await;
            assert_eq!(response.status, 204);
            assert_eq!(response.header("access-control-allow-origin") == origin, is_allowed);
            let (methods, headers) =
                ("access-control-allow-methods", "access-control-allow-headers");
            let expected = ["POST", "authorization, content-type, idempotency-key"];
            let expected = if is_allowed { expected } else { ["", ""] };
            assert_eq!([response.header(methods), response.header(headers)], expected);
            let response =
                gateway.send(via, post("/publish/news", "x").header("origin", origin)).await;
            assert_eq!(response.status, if is_allowed { 200 } else { 403 });
            assert_eq!(response.header("access-control-allow-origin") == origin, is_allowed);
        }
        let host = gateway.address_for(via).to_string();
        let own = format!("{}://{host}", if via.is_tls() { "https" } else { "http" });
        let response = gateway.send(via, post("/publish/news", "x").header("origin", &own)).await;
        assert_eq!(response.status, 200, "its own page");
    }
}

#[tokio::test]
async fn the_same_key_publishes_once() {
    let redis = Redis::start().await;
    for gateway in [routes(Gateway::build(&redis)).start().await, on_the_bus().await] {
        let mut stream = gateway.subscribe("/events/news").await;
        let send = async |body: &str, key: &str, token: &str| {
            let request = Request::new("POST", "/publish/news").body(body.as_bytes());
            let request = request.header("authorization", &format!("Bearer {token}"));
            gateway.send(Via::Http2, request.header("idempotency-key", key)).await
        };
        for _ in 0..3 {
            assert_eq!(json_of(send("one", "k", TOKEN).await).await, json!({"receivers": 1}));
        }
        let (status, text) = refusal(send("two", "k", TOKEN).await).await;
        assert!(status == 422 && text.contains("was used for another message"), "{text}");
        assert_eq!(send("three", "other key", TOKEN).await.status, 400, "no space is allowed");
        assert_eq!(json_of(send("three", "l", TOKEN).await).await, json!({"receivers": 1}));
        // The key of somebody else is another.
        assert_eq!(json_of(send("four", "k", "other-token").await).await, json!({"receivers": 1}));
        for data in ["one", "three", "four"] {
            assert_eq!(stream.next_event().await.data, data);
        }
        gateway.counts("ssegate_published_total", &["result=\"repeated\""], 2.0).await;
        // All at once: one publishes, and all get its result.
        let http2 = Http2::connect(Via::Http2, gateway.address("https")).await;
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let http2 = http2.clone();
            let request = post("/publish/news", "five").header("idempotency-key", "at-once");
            all.spawn(async move { json_of(http2.send(request).await).await });
        }
        let all = within(SOON, "all replies", all.join_all()).await;
        assert!(all.iter().all(|reply| *reply == json!({"receivers": 1})), "{all:?}");
        assert_eq!(json_of(send("last", "m", TOKEN).await).await, json!({"receivers": 1}));
        for data in ["five", "last"] {
            assert_eq!(stream.next_event().await.data, data);
        }
    }
    let keys: Vec<String> = redis.command(&["KEYS", "ssegate:idempotency:*"]).await;
    assert_eq!(keys.len(), 5, "{keys:?}");
    let left: i64 = redis.command(&["TTL", &keys[0]]).await;
    assert!((500..=600).contains(&left), "{left}");
}

#[tokio::test]
async fn the_key_of_a_name_by_another_method_is_another() {
    let redis = Redis::start().await;
    let jwt = "{ jwt: { keys: 0123456789abcdef0123456789abcdef, algorithms: HS256 } }";
    let settings = AUTH.replacen("auth: ", &format!("auth: {{ any: [{jwt}, "), 1) + "] }";
    for url in [redis.url(), "embedded://127.0.0.1:0".to_owned()] {
        let gateway = Gateway::build(&redis).redis_url(&url).settings(&settings).routes(ROUTES);
        let gateway = gateway.start().await;
        let mut stream = gateway.subscribe("/events/news").await;
        let user = crate::auth::of("cron", &json!({}));
        for (token, data) in [(TOKEN, "of the machine"), (&*user, "of the user")] {
            let request = Request::new("POST", "/publish/news").body(data.as_bytes());
            let request = request.header("authorization", &format!("Bearer {token}"));
            let request = request.header("idempotency-key", "k");
            assert_eq!(
                json_of(gateway.send(Via::Http1, request).await).await,
                json!({"receivers": 1})
            );
            assert_eq!(stream.next_event().await.data, data);
        }
    }
}

#[tokio::test]
async fn a_key_holds_for_a_list_of_entries_and_for_what_redis_refused() {
    let redis = Redis::start().await;
    let gateway = routes(Gateway::build(&redis)).start().await;
    let send = async |target: &str, body: &str, key: &str| {
        let request = post(target, body).header("content-type", "application/x-ndjson");
        gateway.send(Via::Http1, request.header("idempotency-key", key)).await
    };
    let first = json_of(send("/publish/log:a", "1\n2\n3\n", "k").await).await;
    assert_eq!(first.as_array().map(Vec::len), Some(3));
    assert_eq!(json_of(send("/publish/log:a", "1\n2\n3\n", "k").await).await, first);
    assert_eq!(redis.command::<u64>(&["XLEN", "log:a"]).await, 3);
    redis.command::<()>(&["SET", "log:b", "x"]).await;
    let (status, text) = refusal(send("/publish/log:b", "1\n", "l").await).await;
    assert!(status == 502 && text.contains("WRONGTYPE"), "{text}");
    redis.command::<()>(&["DEL", "log:b"]).await;
    // Nothing was published, so the key is free.
    let reply = json_of(send("/publish/log:b", "1\n", "l").await).await;
    assert_eq!(reply.as_array().map(Vec::len), Some(1));
    redis.command::<()>(&["SET", "log:c", "x"]).await;
    let target = "/several?channel=log:a&channel=log:c";
    for _ in 0..2 {
        let (status, text) = refusal(send(target, "4\n", "m").await).await;
        assert!(
            status == 502 && text.contains("of 2 messages Redis refused these: 2 (WRONGTYPE)"),
            "{text}"
        );
    }
    assert_eq!(redis.command::<u64>(&["XLEN", "log:a"]).await, 4, "the other was published once");
}

#[tokio::test]
async fn while_redis_is_away_nothing_is_said_to_be_published() {
    let mut redis = Redis::start().await;
    let gateway = routes(Gateway::build(&redis)).start().await;
    assert_eq!(gateway.send(Via::Http1, post("/publish/log:a", "1")).await.status, 200);
    redis.kill();
    let mut published = Vec::new();
    for number in 0..20 {
        let via = if number % 2 == 0 { Via::Http1 } else { Via::Http2 };
        let response = gateway.send(via, post("/publish/log:a", number.to_string())).await;
        match response.status {
            503 => assert!(!response.header("retry-after").is_empty()),
            // It was sent as the connection broke.
            502 => assert!(response.text().await.contains("may have been published")),
            other => panic!("{other}"),
        }
    }
    gateway.counts("ssegate_published_total", &["result=\"published\""], 1.0).await;
    redis.restart().await;
    eventually(SOON, "it publishes again", async || {
        let response = gateway.send(Via::Http1, post("/publish/log:a", "back")).await;
        let is_published = response.status == 200;
        if is_published {
            published.push(json_of(response).await["id"].as_str().unwrap().to_owned());
        }
        is_published
    })
    .await;
    let entries: Vec<(String, Vec<String>)> = redis.command(&["XRANGE", "log:a", "-", "+"]).await;
    let ids: Vec<String> = entries.into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, published, "what was said is there, and nothing else");
}

#[tokio::test]
async fn a_lost_reply_may_have_been_published_and_a_key_makes_it_safe_to_repeat() {
    let redis = Redis::start().await;
    let relay = Relay::to(format!("127.0.0.1:{}", redis.port()).parse().unwrap()).await;
    let url = format!("redis://{}", relay.address());
    let gateway = routes(Gateway::build(&redis).redis_url(&url)).start().await;
    let send = async |key: &str| {
        let request = post("/publish/log:a", "x").header("idempotency-key", key);
        within(Duration::from_secs(30), "a reply", gateway.send(Via::Http2, request)).await
    };
    assert_eq!(send("first").await.status, 200);
    for (number, is_executed) in [(2, true), (3, false)] {
        let key = format!("key-{number}");
        match is_executed {
            // The command arrives after three seconds, and its reply after six: one second late.
            true => relay.slow_down(Some(Slowness {
                latency: Duration::from_secs(3),
                bytes_per_second: 1 << 20,
            })),
            // The command never arrives, and nobody can know.
            false => relay.stall(),
        }
        let (status, text) = refusal(send(&key).await).await;
        assert_eq!(status, 504, "{text}");
        assert!(text.contains("may have been published; with an Idempotency-Key"), "{text}");
        relay.slow_down(None);
        eventually(SOON, "it is published", async || send(&key).await.status == 200).await;
        let entries: u64 = redis.command(&["XLEN", "log:a"]).await;
        assert_eq!(entries, number, "once, whatever became of the first request");
        let repeated: f64 =
            gateway.metrics().await.sum("ssegate_published_total", &["result=\"repeated\""]);
        assert!(!is_executed || repeated >= 1.0, "Redis had done it the first time");
    }
    gateway.counts("ssegate_published_total", &["result=\"unknown\""], 2.0).await;
}

#[tokio::test]
async fn the_admin_listener_publishes_for_whoever_is_on_the_machine() {
    let redis = Redis::start().await;
    let gateway = routes(Gateway::build(&redis)).start().await;
    let mut stream = gateway.subscribe("/events/a%20b").await;
    let admin = gateway.address("admin");
    let send = async |request: Request| request.send(Via::Http1, admin).await;
    let post = |target: &str, body: &str| Request::new("POST", target).body(body.as_bytes());
    let reply = json_of(send(post("/publish/a%20b", "x")).await).await;
    assert_eq!(reply, json!({"receivers": 1}));
    assert_eq!(stream.next_event().await.data, "x");
    let own = format!("http://{admin}");
    let lines = "{\"data\":\"1\",\"channel\":\"log:a\"}\n\"2\"\n";
    let several = post("/publish/a%20b", lines).header("content-type", "application/x-ndjson");
    let reply = json_of(send(several.header("origin", &own)).await).await;
    assert!(reply[0]["id"].is_string(), "{reply}");
    assert_eq!(reply[1], json!({"receivers": 1}));
    assert_eq!(stream.next_event().await.data, "2");
    for (request, status) in [
        (post("/publish/a%20b", "x").header("origin", "https://evil.example"), 403),
        (post("/publish/a%20b", "x").header("origin", "null"), 403),
        (post("/publish/a%20b", "x").header("sec-fetch-site", "cross-site"), 403),
        (post("/publish/a%20b", "x").host("evil.example"), 403),
        (post("/publish/", "x"), 400),
        (post("/publish/a%20b?event=e", "x"), 400),
        (Request::get("/publish/a%20b"), 405),
        (post("/publish", "x"), 405),
    ] {
        let named = format!("{request:?}");
        assert_eq!(send(request).await.status, status, "{named}");
    }
    redis.publish("a b", "last").await;
    assert_eq!(stream.next_event().await.data, "last");
    gateway
        .counts("ssegate_published_total", &["route=\"admin\"", "result=\"published\""], 3.0)
        .await;
}

/// Publishes over one kept connection of HTTP/1.1.
async fn one_after_the_other(gateway: &Gateway, count: usize) {
    let mut connection = TcpStream::connect(gateway.address("http")).await.unwrap();
    connection.set_nodelay(true).unwrap();
    let request = format!(
        "POST /publish/log:x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\n\
         content-length: 7\r\n\r\nmessage"
    );
    for _ in 0..count {
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut reply = Vec::new();
        // The end of the JSON is that of the response.
        while !reply.ends_with(b"}\n") {
            let read = within(SOON, "a reply", connection.read_buf(&mut reply)).await.unwrap();
            assert!(read > 0, "closed: {}", String::from_utf8_lossy(&reply));
        }
        assert!(reply.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&reply));
    }
}

#[tokio::test]
async fn two_thousand_messages_a_second_come_over_one_connection() {
    const SECONDS: usize = 3;
    let redis = Redis::start().await;
    let gateway = routes(Gateway::build(&redis)).start().await;
    let http2 = Http2::connect(Via::Http2, gateway.address("https")).await;
    // Once, so that everything is connected.
    assert_eq!(http2.send(post("/publish/log:x", "0")).await.status, 200);
    let started = Instant::now();
    let mut senders = tokio::task::JoinSet::new();
    const SENDERS: usize = 50;
    for _ in 0..SENDERS {
        let http2 = http2.clone();
        senders.spawn(async move {
            for _ in 0..2000 * SECONDS / SENDERS {
                let reply = json_of(http2.send(post("/publish/log:x", "message")).await).await;
                assert!(reply["id"].is_string(), "{reply}");
            }
        });
    }
    within(SOON * 2, "all replies", senders.join_all()).await;
    let rate = (2000 * SECONDS) as f64 / started.elapsed().as_secs_f64();
    measured(&format!("{rate:.0} requests to publish a second, over one connection"));
    let started = Instant::now();
    let body = "\"message\"\n".repeat(1000);
    for _ in 0..10 {
        let request = post("/publish/log:x", &body).header("content-type", "application/x-ndjson");
        assert_eq!(json_of(http2.send(request).await).await.as_array().map(Vec::len), Some(1000));
    }
    let lines = 10_000.0 / started.elapsed().as_secs_f64();
    measured(&format!("{lines:.0} messages a second as lines, over one connection"));
    let started = Instant::now();
    one_after_the_other(&gateway, 1000).await;
    let rate = 1000.0 / started.elapsed().as_secs_f64();
    measured(&format!(
        "{rate:.0} requests a second over HTTP/1.1, each after the reply to the last"
    ));
    let expected = (1 + 2000 * SECONDS + 10_000 + 1000) as u64;
    assert_eq!(redis.command::<u64>(&["XLEN", "log:x"]).await, expected, "each, once");
    assert!(lines > 2000.0, "{lines}");
}

#[tokio::test]
async fn a_reload_changes_what_may_be_published() {
    let redis = Redis::start().await;
    let gateway = routes(Gateway::build(&redis)).start().await;
    let admin = gateway.address("admin");
    let published = async || {
        let request = Request::new("POST", "/publish/log:a").body(b"x");
        json_of(request.send(Via::Http1, admin).await).await
    };
    assert!(published().await["id"].is_string());
    gateway.rewrite(|yaml| yaml.replace("source: stream", "source: pubsub"));
    assert!(gateway.reload().await);
    assert_eq!(published().await["receivers"], 0, "it is a message now");
    assert!(
        json_of(gateway.send(Via::Http1, post("/publish/log:a", "x")).await).await["receivers"]
            == 0
    );
}

#[tokio::test]
async fn check_warns_of_routes_that_read_a_channel_in_different_ways() {
    let (redis, dir) = (Redis::stopped(&[]), TempDir::new().unwrap());
    let check = routes(Gateway::build(&redis)).program(dir.path(), "check");
    let output = check.output(SOON).await;
    assert!(output.status.success(), "{output:?}");
    let both = "/events/{channel} and /log/{channel} can have the same channel, such as \"log:1\"";
    let winner = "published to it over HTTP is as /log/{channel} reads it";
    assert!(output.stderr.contains(both) && output.stderr.contains(winner), "{}", output.stderr);
}

#[tokio::test]
#[ignore = "needs curl, php-cli with php-curl, and node: run by tests/run"]
async fn curl_php_and_node_publish() {
    let redis = Redis::start().await;
    let gateway = routes(Gateway::build(&redis)).start().await;
    let mut stream = gateway.subscribe("/named/a").await;
    let url = format!("http://{}/publish/named:a", gateway.address("http"));
    let authorization = format!("Authorization: Bearer {TOKEN}");
    let curl = Program::new("/usr/bin/curl")
        .args(["-sS", "--fail-with-body", "-H", &authorization, "-d", "from curl"])
        .arg(format!("{url}?event=curl"));
    let php_curl = Program::new("/usr/bin/php").arg("-r").arg(
        "$c = curl_init($argv[1] . '?event=php-curl');\n\
         curl_setopt_array($c, [CURLOPT_POSTFIELDS => 'from php-curl', CURLOPT_RETURNTRANSFER => true,\n\
         CURLOPT_HTTPHEADER => [$argv[2], 'Content-Type: text/plain', 'Idempotency-Key: ' . bin2hex(random_bytes(16))]]);\n\
         echo curl_exec($c); exit(curl_getinfo($c, CURLINFO_RESPONSE_CODE) === 200 ? 0 : 1);",
    );
    let php_streams = Program::new("/usr/bin/php").arg("-r").arg(
        "$context = stream_context_create(['http' => ['method' => 'POST', 'content' => 'from php',\n\
         'header' => [$argv[2], 'Content-Type: text/plain']]]);\n\
         $reply = file_get_contents($argv[1] . '?event=php', false, $context);\n\
         echo $reply; exit($reply === false ? 1 : 0);",
    );
    let node = Program::new("node").arg("-e").arg(
        "const [url, authorization] = process.argv.slice(1);\n\
         const headers = { authorization: authorization.split(': ')[1], 'content-type': 'application/json' };\n\
         const body = JSON.stringify([{ event: 'node', data: 'from node' }, { data: { n: 2 } }]);\n\
         fetch(url, { method: 'POST', headers, body }).then(async (reply) => {\n\
           process.stdout.write(await reply.text()); process.exit(reply.ok ? 0 : 1); });",
    );
    let with_arguments = |program: Program| program.args(["--", &url, &authorization]);
    for (program, reply, events) in [
        (curl, json!({"receivers": 1}), vec![("curl", "from curl")]),
        (with_arguments(php_curl), json!({"receivers": 1}), vec![("php-curl", "from php-curl")]),
        (with_arguments(php_streams), json!({"receivers": 1}), vec![("php", "from php")]),
        (
            with_arguments(node),
            json!([{"receivers": 1}, {"receivers": 1}]),
            vec![("node", "from node"), ("message", "{\"n\":2}")],
        ),
    ] {
        let output = program.output(SOON).await.success();
        assert_eq!(serde_json::from_str::<Value>(&output).unwrap(), reply);
        for (name, data) in events {
            let event = stream.next_event().await;
            assert_eq!((event.name.as_str(), event.data.as_str()), (name, data));
        }
    }
}
