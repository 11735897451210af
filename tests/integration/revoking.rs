//! Credentials that are taken back: their streams end on every gateway, and they do not come back.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::support::echo::Echo;
use crate::support::{
    EventStream, Gateway, GatewayBuilder, Program, Redis, Relay, Request, Response, SOON, Upstream,
    Via, eventually, extended_connect, measured, within,
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const CONTROL_KEY: &str = "a control key of thirty-two bytes or more";
// printf %s cron-token | sha256sum
const CRON: &str = "c614b871ed744c04d17e441d256bf952a329ff5707e4d6d6829cfb9137857768";

/// What is promised.
const A_SECOND: Duration = Duration::from_secs(1);

/// A token of this type, as two lines of code make it.
fn signed(typ: &str, claims: &Value, secret: &str) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "HS256", "typ": typ})), part(claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
}

/// Seconds since 1970, so many from now.
fn seconds(from_now: i64) -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap() + from_now
}

/// A token of this user that was issued a minute ago, or as `more` says.
fn token(sub: &str, more: &Value) -> String {
    let mut claims = json!({"sub": sub, "iat": seconds(-60), "exp": seconds(3600)});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    signed("JWT", &claims, SECRET)
}

/// The message of a revocation, with these claims instead of good ones.
fn message(changed: &Value, key: &str) -> String {
    let nonce = format!("{:x}", fastrand::u128(..));
    let mut claims = json!({"iat": seconds(0), "exp": seconds(3600), "jti": nonce, "sub": "42"});
    claims.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
    signed("ssegate-revoke+jwt", &claims, key)
}

const ROUTES: &str = "\
- { path: /mine, events: { channels: [\"user:{auth.id}\"] } }
- { path: /events, events: { channels: [\"{query.channel}\"], patterns: true } }
- { path: /open, events: { channels: [news] }, auth: off }
";

fn build(redis: &Redis, revocation: &str) -> GatewayBuilder {
    let jwt = format!("{{ jwt: {{ keys: {SECRET}, algorithms: HS256 }} }}");
    let tokens = format!("{{ tokens: [{{ name: cron, sha256: {CRON} }}] }}");
    Gateway::build(redis)
        .settings(&format!("auth: {{ any: [{jwt}, {tokens}] }}\nrevocation: {revocation}"))
        .routes(ROUTES)
}

fn control() -> String {
    format!("{{ control_channel: \"ssegate:revoke\", key: \"{CONTROL_KEY}\" }}")
}

async fn start(redis: &Redis) -> Gateway {
    let gateway = build(redis, &control()).start().await;
    gateway.becomes(200, SOON).await;
    gateway
}

fn bearer(target: &str, token: &str) -> Request {
    Request::events(target).header("authorization", &format!("Bearer {token}"))
}

async fn open(gateway: &Gateway, via: Via, target: &str, token: &str) -> EventStream {
    let mut stream = gateway.send(via, bearer(target, token)).await.stream();
    stream.ready().await;
    stream
}

async fn status(gateway: &Gateway, token: &str) -> u16 {
    gateway.send(Via::Http1, bearer("/mine", token)).await.status
}

/// `ssegate revoke` with the configuration of a gateway. Returns what it prints.
async fn revoke(gateway: &Gateway, arguments: &[&str]) -> String {
    let program = Program::new(env!("CARGO_BIN_EXE_ssegate")).arg("revoke");
    let program = program.arg("-c").arg(gateway.dir().join("gateway.yaml"));
    program.args(arguments.iter().copied()).output(SOON).await.success()
}

/// Waits until all of these have ended in good order, with a time to come back. It may take a second.
async fn all_end(streams: Vec<EventStream>) {
    let begin = Instant::now();
    for mut stream in streams {
        let mut retry = None;
        within(A_SECOND, "the end of a stream", async {
            while let Some(block) = stream.block().await {
                retry = block.retry.or(retry);
            }
        })
        .await;
        assert!(retry.is_some(), "it says when to come back");
        stream.end().await.expect("it ends in good order");
    }
    assert!(begin.elapsed() < A_SECOND, "after {:?}", begin.elapsed());
}

/// Sends a revocation to the admin listener.
async fn call(gateway: &Gateway, body: &str) -> Response {
    let request = Request::new("POST", "/revoke").header("content-type", "application/json");
    request.body(body.as_bytes()).send(Via::Http1, gateway.address("admin")).await
}

#[tokio::test]
async fn the_streams_of_a_user_end_on_every_gateway_and_nobody_elses() {
    let redis = Redis::start().await;
    let gateways = [start(&redis).await, start(&redis).await];
    let others_token = token("someone else", &json!({}));
    let mut others = Vec::new();
    for gateway in &gateways {
        for via in [Via::Http1Tls, Via::Http2] {
            others.push(open(gateway, via, "/mine", &others_token).await);
        }
        others.push(gateway.subscribe("/open").await);
    }
    for round in 0..5 {
        let user = format!("4{round}");
        let mine = token(&user, &json!({}));
        let mut streams = Vec::new();
        for gateway in &gateways {
            for via in Via::ALL {
                streams.push(open(gateway, via, "/mine", &mine).await);
            }
        }
        assert_eq!(revoke(&gateways[round % 2], &["--sub", &user]).await.trim(), "2 gateways");
        all_end(streams).await;
        let newer = token(&user, &json!({"iat": seconds(5)}));
        for gateway in &gateways {
            let refused = gateway.send(Via::Http2, bearer("/mine", &mine)).await;
            assert_eq!(refused.status, 401);
            let challenge = refused.header("www-authenticate");
            assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
            assert_eq!(status(gateway, &newer).await, 200);
        }
    }
    redis.publish("user:someone else", "still there").await;
    redis.publish("news", "still there").await;
    for stream in &mut others {
        assert_eq!(stream.next_event().await.data, "still there");
    }
    for gateway in &gateways {
        let metrics = gateway.metrics().await;
        for (name, label, count) in [
            ("ssegate_streams_closed_total", "reason=\"revoked\"", 20.0),
            ("ssegate_revocations_total", "source=\"channel\"", 5.0),
            ("ssegate_auth_refused_total", "reason=\"revoked\"", 5.0),
            ("ssegate_revocations_remembered", "", 5.0),
        ] {
            let labels = [label].into_iter().filter(|label| !label.is_empty());
            let labels: Vec<_> = labels.collect();
            assert_eq!(metrics.sum(name, &labels), count, "{name}");
        }
    }
}

#[tokio::test]
async fn a_revocation_means_what_it_names() {
    let redis = Redis::start().await;
    let gateway = start(&redis).await;
    let ids = json!({"jti": "t-1", "sid": "s-1"});
    for (arguments, sub, target, ends, old, newer) in [
        (&["--sub", "1"][..], "1", "/mine", true, 401, 200),
        (&["--sub", "2", "--block"], "2", "/mine", true, 401, 401),
        (&["--token-id", "t-1"], "3", "/mine", true, 401, 401),
        (&["--session", "s-1"], "3", "/mine", true, 401, 401),
        (&["--channel", "news"], "4", "/events?channel=x&channel=news", true, 200, 200),
        (&["--channel", "orders:*"], "4", "/events?channel=orders:*", true, 200, 200),
        (&["--channel", "orders:1"], "4", "/events?channel=orders:*", false, 200, 200),
        (&["--sub", "other"], "5", "/mine", false, 200, 200),
        (&["--all"], "5", "/mine", true, 401, 200),
    ] {
        let more = if sub == "3" { ids.clone() } else { json!({}) };
        // The two of user 3 are revoked each by itself: the other id is another one.
        let more = match arguments[0] {
            "--token-id" => json!({"jti": more["jti"], "sid": "another"}),
            "--session" => json!({"jti": "another", "sid": more["sid"]}),
            _ => more,
        };
        let mut later = more.clone();
        later["iat"] = json!(seconds(5));
        let (mine, later) = (token(sub, &more), token(sub, &later));
        let mut streams = Vec::new();
        for via in [Via::Http1, Via::Http2] {
            streams.push(open(&gateway, via, target, &mine).await);
        }
        assert_eq!(revoke(&gateway, arguments).await.trim(), "1 gateway");
        match ends {
            true => all_end(streams).await,
            false => {
                let acted = || gateway.said("revoked").count() > 0;
                eventually(SOON, "it is known", async || acted()).await;
            }
        }
        assert_eq!(status(&gateway, &mine).await, old, "{arguments:?}");
        assert_eq!(status(&gateway, &later).await, newer, "{arguments:?}");
    }
    // A static token was never issued: it ends with the others, and only a block refuses it.
    let cron = open(&gateway, Via::Http1, "/mine", "cron-token").await;
    revoke(&gateway, &["--sub", "cron"]).await;
    all_end(vec![cron]).await;
    assert_eq!(status(&gateway, "cron-token").await, 200);
    revoke(&gateway, &["--sub", "cron", "--block"]).await;
    eventually(A_SECOND, "it is blocked", async || status(&gateway, "cron-token").await == 401)
        .await;
}

#[tokio::test]
async fn a_message_that_is_lost_is_read_from_the_store() {
    let redis = Redis::start().await;
    let relay = Relay::to(format!("127.0.0.1:{}", redis.port()).parse().unwrap()).await;
    let url = format!("redis://{}", relay.address());
    let deaf = build(&redis, &control()).redis_url(&url).start().await;
    deaf.becomes(200, SOON).await;
    let hearing = start(&redis).await;
    for user in ["1", "2"] {
        let mine = token(user, &json!({}));
        let mut stream = open(&deaf, Via::Http2, "/mine", &mine).await;
        relay.deafen();
        revoke(&hearing, &["--sub", user]).await;
        let begin = Instant::now();
        within(SOON, "the end of the stream", async { while stream.block().await.is_some() {} })
            .await;
        // Read every five seconds, with room for a busy machine.
        assert!(begin.elapsed() < Duration::from_secs(7), "after {:?}", begin.elapsed());
        assert_eq!(status(&deaf, &mine).await, 401);
    }
    deaf.counts("ssegate_revocations_total", &["source=\"stored\""], 2.0).await;
    // It is kept first and told then: who reads what is kept in between has it from there.
    hearing.counts("ssegate_revocations_total", &[], 2.0).await;
    let metrics = hearing.metrics().await;
    assert_eq!(metrics.sum("ssegate_revocations_total", &["source=\"admin\""]), 0.0);
}

/// A user of Redis who may do all, and what `more` says.
async fn user(redis: &Redis, more: &[&str]) -> String {
    let all = ["ACL", "SETUSER", "gate", "on", ">secret", "~*", "&*", "+@all"];
    redis.command::<String>(&[&all[..], more].concat()).await;
    redis.url().replace("redis://", "redis://gate:secret@")
}

#[tokio::test]
async fn a_gateway_that_was_away_or_restarts_reads_what_was_revoked() {
    let redis = Redis::start().await;
    let url = user(&redis, &[]).await;
    let away = build(&redis, &control()).redis_url(&url).start().await;
    away.becomes(200, SOON).await;
    let there = start(&redis).await;
    let mine = token("42", &json!({}));
    let mut stream = open(&away, Via::Http1, "/mine", &mine).await;
    redis.command::<String>(&["ACL", "SETUSER", "gate", "off"]).await;
    redis.command::<u64>(&["CLIENT", "KILL", "USER", "gate"]).await;
    away.becomes(503, SOON).await;
    assert_eq!(revoke(&there, &["--sub", "42"]).await.trim(), "1 gateway");
    assert_eq!(status(&away, &mine).await, 200, "it has not heard of it");
    redis.command::<String>(&["ACL", "SETUSER", "gate", "on"]).await;
    within(SOON, "the end of the stream", async { while stream.block().await.is_some() {} }).await;
    assert_eq!(status(&away, &mine).await, 401);
    drop(away);

    let anew = start(&redis).await;
    assert_eq!(status(&anew, &mine).await, 401, "it knew before it was ready");
    let newer = token("42", &json!({"iat": seconds(5)}));
    assert_eq!(status(&anew, &newer).await, 200);
    // Redis has it for a day.
    let kept: Vec<String> = redis.command(&["ZRANGE", "ssegate:revoke:list", "0", "-1"]).await;
    assert_eq!(kept.len(), 1);
    let left: i64 = redis.command(&["TTL", "ssegate:revoke:list"]).await;
    assert!(left > 0, "{left}");
}

#[tokio::test]
async fn many_revocations_are_read_and_each_is_forgotten_in_time() {
    let redis = Redis::start().await;
    // More than are told apart by their numbers.
    let many = (0..1500).map(|number| message(&json!({"sub": number.to_string()}), CONTROL_KEY));
    let expires = seconds(3600).to_string();
    for message in many {
        redis.command::<u64>(&["ZADD", "ssegate:revoke:list", &expires, &message]).await;
    }
    let past = seconds(-10).to_string();
    redis.command::<u64>(&["ZADD", "ssegate:revoke:list", &past, "expired"]).await;
    let gateway = start(&redis).await;
    for number in [0, 499, 500, 1499] {
        assert_eq!(status(&gateway, &token(&number.to_string(), &json!({}))).await, 401);
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_revocations_remembered", &[]), 1500.0);
    assert_eq!(metrics.sum("ssegate_revocations_ignored_total", &[]), 0.0);
    revoke(&gateway, &["--sub", "42", "--for", "1m"]).await;
    let kept: u64 = redis.command(&["ZCARD", "ssegate:revoke:list"]).await;
    assert_eq!(kept, 1501, "the expired one is gone");
    // Whoever writes next removes it; a gateway has forgotten it by itself.
    let mine = token("none of them", &json!({}));
    revoke(&gateway, &["--sub", "none of them", "--for", "4s"]).await;
    eventually(SOON, "it is refused", async || status(&gateway, &mine).await == 401).await;
    eventually(SOON, "it is forgotten", async || status(&gateway, &mine).await == 200).await;
}

#[tokio::test]
async fn what_is_not_signed_with_the_key_or_not_new_has_no_effect() {
    let redis = Redis::start().await;
    let gateway = start(&redis).await;
    let mut stream = open(&gateway, Via::Http2, "/mine", &token("42", &json!({}))).await;
    let long = "x".repeat(5000);
    let not_ours = [
        message(&json!({}), "another key of thirty-two bytes, or more"),
        message(&json!({}), SECRET),
        token("42", &json!({"jti": "n"})),
        signed(
            "JWT",
            &json!({"iat": seconds(0), "exp": seconds(9), "jti": "n", "sub": "42"}),
            CONTROL_KEY,
        ),
        message(&json!({"exp": seconds(-1)}), CONTROL_KEY),
        message(&json!({"iat": seconds(3600), "exp": seconds(7200)}), CONTROL_KEY),
        message(&json!({"jti": null}), CONTROL_KEY),
        message(&json!({"sub": long}), CONTROL_KEY),
        "42".to_owned(),
        "x".repeat(100_000),
    ];
    for (at, message) in not_ours.iter().enumerate() {
        assert_eq!(redis.publish("ssegate:revoke", message).await, 1);
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let so_far = at as f64 + 1.0;
        gateway.counts("ssegate_revocations_ignored_total", &[], so_far).await;
    }
    // Not UTF-8, and nothing, which is what `check --connect` sends.
    redis.publish("ssegate:revoke", b"\xff\xfe").await;
    redis.publish("ssegate:revoke", "").await;
    gateway.counts("ssegate_revocations_ignored_total", &[], 11.0).await;
    const IGNORED: &str = "ignored a message on the control channel";
    let lines = gateway.log().lines().filter(|line| line.contains(IGNORED)).count();
    assert!((1..=6).contains(&lines), "once for each reason: {lines}");
    assert!(!gateway.log().contains(&not_ours[0]), "nothing of it is in the log");
    redis.publish("user:42", "still there").await;
    assert_eq!(stream.next_event().await.data, "still there");

    // One that is sent again ends no stream: it has been seen.
    let good = message(&json!({"iat": seconds(-1)}), CONTROL_KEY);
    redis.publish("ssegate:revoke", &good).await;
    all_end(vec![stream]).await;
    let newer = token("42", &json!({"iat": seconds(5)}));
    let mut again = open(&gateway, Via::Http1, "/mine", &newer).await;
    redis.publish("ssegate:revoke", &good).await;
    redis.publish("ssegate:revoke", &message(&json!({"sub": "43"}), CONTROL_KEY)).await;
    gateway.counts("ssegate_revocations_total", &["source=\"channel\""], 2.0).await;
    redis.publish("user:42", "still there").await;
    assert_eq!(again.next_event().await.data, "still there");
}

#[tokio::test]
async fn no_client_reads_what_gateways_tell_each_other() {
    let redis = Redis::start().await;
    for url in [redis.url(), "embedded://127.0.0.1:0".to_owned()] {
        let gateway = build(&redis, &control()).redis_url(&url).start().await;
        gateway.becomes(200, SOON).await;
        let mine = token("42", &json!({}));
        for name in ["ssegate:revoke", "ssegate:other", "ssegate:*", "ssegate:c*:x"] {
            let request = bearer(&format!("/events?channel=news&channel={name}"), &mine);
            let refused = gateway.send(Via::Http1, request).await;
            assert_eq!(refused.status, 400, "{name}");
            let text = refused.text().await;
            assert!(text.contains("start with ssegate: are reserved"), "{text}");
        }
        let target = "/events?channel=s*&channel=s%5Bs%5Degate:*&channel=s%5Csegate:other";
        let mut stream = open(&gateway, Via::Http2, target, &mine).await;
        let url = match url.starts_with("redis") {
            true => url,
            false => format!("redis://{}", gateway.address("bus")),
        };
        let client = redis::Client::open(url).unwrap();
        let mut client = client.get_multiplexed_async_connection().await.unwrap();
        let said = message(&json!({"sub": "somebody"}), CONTROL_KEY);
        for (channel, text) in [
            ("ssegate:revoke", &*said),
            ("ssegate:other", "secret"),
            ("ssegate:check:x", "secret"),
            ("ssegate", "not secret"),
            ("ssegate:", "secret"),
            ("so", "not secret, too"),
        ] {
            let mut command = redis::cmd("PUBLISH");
            command.arg(channel).arg(text).query_async::<u64>(&mut client).await.unwrap();
        }
        for expected in ["not secret", "not secret, too"] {
            assert_eq!(stream.next_event().await.data, expected);
        }
        gateway.counts("ssegate_revocations_total", &["source=\"channel\""], 1.0).await;
        // Nor does one who comes back.
        let request = bearer("/events?channel=s*", &mine).header("last-event-id", stream.last_id());
        let mut again = gateway.send(Via::Http1, request).await.stream();
        again.ready().await;
        let mut command = redis::cmd("PUBLISH");
        command.arg("so").arg("the next").query_async::<u64>(&mut client).await.unwrap();
        assert_eq!(again.next_event().await.data, "the next");
    }
}

#[tokio::test]
async fn each_of_several_credentials_that_are_needed_can_be_revoked() {
    let redis = Redis::start().await;
    let jwt = |key: &str, from: &str| {
        format!("{{ jwt: {{ keys: \"{key}\", algorithms: HS256, from: [{from}] }} }}")
    };
    let all = [jwt(SECRET, "bearer"), jwt(CONTROL_KEY, "\"cookie:token\"")].join(", ");
    let gateway = Gateway::build(&redis)
        .settings(&format!("auth: {{ all: [{all}] }}\nrevocation: {{}}"))
        .routes(ROUTES)
        .start()
        .await;
    let kinds = [("token", "jti"), ("sid", "sid"), ("sub", "sub")];
    let kinds = kinds.into_iter().flat_map(|kind| [(kind, "first"), (kind, "second")]);
    for (number, ((key, claim), whose)) in kinds.enumerate() {
        let body = json!({key: format!("{claim} {whose} {number}")});
        let claims = |name: &str| {
            let of = |claim: &str| format!("{claim} {name} {number}");
            let times = [seconds(-60), seconds(3600)];
            json!({
                "sub": of("sub"), "jti": of("jti"), "sid": of("sid"), "iat": times[0], "exp": times[1],
            })
        };
        let first = signed("JWT", &claims("first"), SECRET);
        let cookie = format!("token={}", signed("JWT", &claims("second"), CONTROL_KEY));
        let request = || bearer("/events?channel=news", &first).header("cookie", &cookie);
        let mut streams = Vec::new();
        for via in [Via::Http1, Via::Http2] {
            let mut stream = gateway.send(via, request()).await.stream();
            stream.ready().await;
            streams.push(stream);
        }
        let response = call(&gateway, &body.to_string()).await;
        assert_eq!(response.text().await.trim(), r#"{"ended":2}"#, "{body}");
        all_end(streams).await;
        assert_eq!(gateway.send(Via::Http2, request()).await.status, 401, "{body}");
    }
}

#[tokio::test]
async fn the_admin_listener_revokes_here_and_everywhere() {
    let redis = Redis::start().await;
    let gateways = [start(&redis).await, start(&redis).await];
    let mine = token("42", &json!({}));
    let mut streams = Vec::new();
    for gateway in &gateways {
        for via in [Via::Http1, Via::Http2] {
            streams.push(open(gateway, via, "/mine", &mine).await);
        }
    }
    let response = call(&gateways[0], r#"{"sub": "42", "block": false}"#).await;
    assert_eq!((response.status, response.header("content-type")), (200, "application/json"));
    let told: Value = serde_json::from_str(&response.text().await).unwrap();
    assert_eq!(told, json!({"ended": 2, "gateways": 2}));
    all_end(streams).await;
    for gateway in &gateways {
        assert_eq!(status(gateway, &mine).await, 401);
    }
    gateways[0].counts("ssegate_revocations_total", &["source=\"admin\""], 1.0).await;
    assert_eq!(call(&gateways[0], r#"{"all": true}"#).await.status, 200);

    let to = gateways[0].address("admin");
    let post = |body: &str| Request::new("POST", "/revoke").body(body.as_bytes());
    let json = |request: Request| request.header("content-type", "application/json");
    let own = format!("http://{to}");
    for (request, status) in [
        (json(post(r#"{"sub":"7"}"#)).header("origin", &own), 200),
        (json(post(r#"{"sub":"7"}"#)).header("origin", "https://evil.example"), 403),
        (json(post(r#"{"sub":"7"}"#)).header("origin", "null"), 403),
        (json(post(r#"{"sub":"7"}"#)).host("evil.example"), 403),
        (json(post(r#"{"sub":"7"}"#)).header("sec-fetch-site", "cross-site"), 403),
        (json(post(r#"{"sub":"7"}"#)).header("sec-fetch-site", "same-site"), 403),
        (json(post(r#"{"sub":"7"}"#)).header("sec-fetch-site", "same-origin"), 200),
        (json(post(r#"{"sub":"7"}"#)).header("host", "evil.example"), 403),
        (post(r#"{"sub":"7"}"#).header("content-type", "text/plain"), 415),
        (post("sub=7").header("content-type", "application/x-www-form-urlencoded"), 415),
        (post(r#"{"sub":"7"}"#), 415),
        (json(post("sub=7")), 400),
        (json(post(r#"{"sub":"7","token":"t"}"#)), 400),
        (json(post(r#"{"user":"7"}"#)), 400),
        (json(post(&format!("{{\"sub\":\"{}\"}}", "x".repeat(2000)))), 400),
        (json(post(&" ".repeat(100_000))), 400),
        (Request::get("/revoke"), 405),
        (Request::new("OPTIONS", "/revoke").header("origin", "https://evil.example"), 403),
    ] {
        let said = format!("{:?} {:?}", request.headers, request.body.len());
        let response = request.send(Via::Http1, to).await;
        assert_eq!(response.status, status, "{said}");
        assert_eq!(response.header("access-control-allow-origin"), "");
    }
    let expected = json(post("{}")).send(Via::Http1, to).await.text().await;
    assert!(expected.contains("one of sub, token, sid, channel and all"), "{expected}");
    let nothing = Gateway::start(&redis).await;
    assert_eq!(call(&nothing, r#"{"sub":"7"}"#).await.status, 404);
}

#[tokio::test]
async fn without_a_control_channel_or_redis_it_counts_here() {
    let redis = Redis::start().await;
    let bus = "embedded://127.0.0.1:0";
    for gateway in [
        build(&redis, "{}").start().await,
        build(&redis, "{}").redis_url(bus).start().await,
        build(&redis, &control()).redis_url(bus).start().await,
    ] {
        gateway.becomes(200, SOON).await;
        let mine = token("42", &json!({}));
        let stream = open(&gateway, Via::Http2, "/mine", &mine).await;
        let response = call(&gateway, r#"{"sub":"42"}"#).await;
        assert_eq!((response.status, response.text().await.trim()), (200, r#"{"ended":1}"#));
        all_end(vec![stream]).await;
        assert_eq!(status(&gateway, &mine).await, 401);
    }
    let gateway = build(&redis, &control()).redis_url(bus).start().await;
    let mine = token("42", &json!({}));
    let stream = open(&gateway, Via::Http1, "/mine", &mine).await;
    let url = format!("redis://{}", gateway.address("bus"));
    let client = redis::Client::open(url).unwrap();
    let mut client = client.get_multiplexed_async_connection().await.unwrap();
    let mut publish = async |message: &str| {
        let mut command = redis::cmd("PUBLISH");
        command.arg("ssegate:revoke").arg(message).query_async::<u64>(&mut client).await.unwrap()
    };
    assert_eq!(publish("nonsense").await, 1);
    gateway.counts("ssegate_revocations_ignored_total", &[], 1.0).await;
    publish(&message(&json!({}), CONTROL_KEY)).await;
    all_end(vec![stream]).await;
    assert_eq!(status(&gateway, &mine).await, 401);
    // The command finds the bus as `pub` does.
    let port = gateway.address("bus").port();
    gateway.rewrite(|yaml| yaml.replace(bus, &format!("embedded://127.0.0.1:{port}")));
    assert_eq!(revoke(&gateway, &["--sub", "43"]).await.trim(), "1 gateway");
    gateway.counts("ssegate_revocations_total", &["source=\"channel\""], 2.0).await;
}

#[tokio::test]
async fn what_redis_does_not_permit_is_said_once_and_ends_no_stream() {
    let redis = Redis::start().await;
    let url = user(&redis, &["-zrevrangebyscore"]).await;
    let gateway = build(&redis, &control()).redis_url(&url).start().await;
    const TOLD: &str = "cannot follow the control channel";
    gateway.logs(TOLD).await;
    gateway.logs("deploy/redis-users.acl").await;
    assert_eq!(gateway.readiness().await, 503, "it does not know what was revoked");
    let verbose = gateway.admin("/readyz?verbose").await.text().await;
    assert!(verbose.contains("control channel: permission"), "{verbose}");
    // What is said on the channel counts all the same.
    let stream = open(&gateway, Via::Http1, "/mine", &token("42", &json!({}))).await;
    revoke(&gateway, &["--sub", "42"]).await;
    all_end(vec![stream]).await;
    gateway.counts("ssegate_redis_errors_total", &["kind=\"permission\""], 2.0).await;
    assert_eq!(gateway.log().lines().filter(|line| line.contains(TOLD)).count(), 1);
    redis.command::<String>(&["ACL", "SETUSER", "gate", "+zrevrangebyscore"]).await;
    gateway.becomes(200, SOON).await;

    // Who may not store it is told so.
    redis.command::<String>(&["ACL", "SETUSER", "gate", "-zadd"]).await;
    let refused = call(&gateway, r#"{"sub":"43"}"#).await;
    assert_eq!(refused.status, 502);
    let text = refused.text().await;
    assert!(text.contains("\"ended\":0") && text.contains("ZADD"), "{text}");
    let program = Program::new(env!("CARGO_BIN_EXE_ssegate")).args(["revoke", "--sub", "44"]);
    let program = program.dir(gateway.dir()).output(SOON).await;
    assert_eq!(program.code(), 1, "{program:?}");
    assert!(
        program.stderr.contains("1 gateway heard it, but it could not be stored"),
        "{program:?}"
    );
}

#[tokio::test]
async fn the_rights_that_are_shipped_suffice_and_those_that_lack_are_named() {
    let redis = Redis::start().await;
    let shipped = include_str!("../../deploy/redis-users.acl");
    let user = shipped.lines().find(|line| line.starts_with("user ssegate ")).unwrap();
    let set = async |user: &str| {
        let words: Vec<&str> = user.split(' ').skip(1).collect();
        redis.command::<String>(&["ACL", "SETUSER", "ssegate", "reset"]).await;
        redis.command::<String>(&[&["ACL", "SETUSER"][..], &words].concat()).await;
    };
    set(user).await;
    let url = redis.url().replace("redis://", "redis://ssegate:listens@");
    let gateway = build(&redis, &control()).redis_url(&url).start().await;
    gateway.becomes(200, SOON).await;
    let stream = open(&gateway, Via::Http2, "/mine", &token("42", &json!({}))).await;
    assert_eq!(revoke(&gateway, &["--sub", "42"]).await.trim(), "1 gateway");
    all_end(vec![stream]).await;
    assert_eq!(call(&gateway, r#"{"sub":"43"}"#).await.status, 200);
    let check = async || {
        let program = Program::new(env!("CARGO_BIN_EXE_ssegate")).args(["check", "--connect"]);
        program.dir(gateway.dir()).output(SOON).await
    };
    let kept: Vec<String> = redis.command(&["KEYS", "*"]).await;
    let output = check().await;
    assert_eq!(output.code(), 0, "{output:?}");
    assert!(output.stderr.lines().all(|line| line.contains("the secret stands in")), "{output:?}");
    assert!(output.stdout.contains("1 control channel tested"), "{output:?}");
    assert_eq!(redis.command::<Vec<String>>(&["KEYS", "*"]).await.len(), kept.len());
    for (right, without, named) in [
        ("+zscore", "", "ZSCORE of the key \"ssegate:revoke:recent\": NOPERM"),
        ("+zadd", "", "ZADD of the key \"ssegate:revoke:list\": NOPERM"),
        ("+expire", "", "EXPIRE of the key \"ssegate:revoke:list\": NOPERM"),
        (" &ssegate:revoke", "", "PUBLISH to the channel \"ssegate:revoke\": NOPERM"),
    ] {
        set(&user.replace(right, without)).await;
        let output = check().await;
        assert_eq!(output.code(), 1, "{output:?}");
        assert!(output.stderr.contains(named), "{right}: {output:?}");
    }
}

#[tokio::test]
async fn the_streams_and_tunnels_of_backends_end_too() {
    let (redis, backend) = (Redis::start().await, Upstream::start().await);
    let address = backend.address();
    let handover = "handover: { key: \"a secret of thirty-two bytes, or more\" }";
    let routes = format!(
        "- {{ path: \"/app/{{*rest}}\", proxy: {{ upstream: \"http://{address}\" }}, {handover} }}\n"
    );
    let gateway = build(&redis, &control()).route(&routes).start().await;
    gateway.becomes(200, SOON).await;
    let begin = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
    for (round, via) in [Via::Http1, Via::Http2].into_iter().enumerate() {
        let user = round.to_string();
        let mine = token(&user, &json!({}));
        let request = || bearer("/app/stream", &mine);
        let (relayed, call) = tokio::join!(gateway.send(via, request()), async {
            let mut call = backend.call().await;
            call.write(format!("{begin}\r\ndata: 1\n\n")).await;
            call
        });
        let mut relayed = relayed.stream();
        assert_eq!(relayed.next_event().await.data, "1");
        let hold = format!("{begin}grip-hold: stream\r\ngrip-channel: news\r\n");
        let (held, ()) = tokio::join!(gateway.send(via, request()), async {
            backend.call().await.write(format!("{hold}content-length: 0\r\n\r\n")).await;
        });
        let mut held = held.stream();
        held.ready().await;
        // Its backend has not responded when it is revoked.
        let mut waiting = Box::pin(gateway.send(via, request()));
        let mut late = tokio::select! {
            call = backend.call() => call,
            _ = &mut waiting => panic!("no response yet"),
        };
        revoke(&gateway, &["--sub", &user]).await;
        within(A_SECOND, "the end of the stream", async {
            while relayed.block().await.is_some() {}
        })
        .await;
        within(SOON, "the end at the backend", call.closed()).await;
        all_end(vec![held]).await;
        late.write(format!("{begin}\r\ndata: late\n\n")).await;
        let mut opened = waiting.await.stream();
        within(SOON, "the end of the late one", async { while opened.block().await.is_some() {} })
            .await;
        within(SOON, "the end at the backend", late.closed()).await;
    }
    gateway.counts("ssegate_streams_closed_total", &["reason=\"revoked\""], 6.0).await;
}

#[tokio::test]
async fn a_backend_that_decides_is_asked_anew() {
    let (redis, backend) = (Redis::start().await, Upstream::start().await);
    let url = format!("http://{}/auth", backend.address());
    let forward =
        format!("{{ forward: {{ url: \"{url}\", copy_headers: [x-user], cache: 60s }} }}");
    let gateway = Gateway::build(&redis)
        .settings(&format!("auth: {forward}\nrevocation: {}", control()))
        .routes(ROUTES)
        .start()
        .await;
    gateway.becomes(200, SOON).await;
    let request = || Request::events("/mine").header("cookie", "session=1");
    let (response, ()) = tokio::join!(gateway.send(Via::Http2, request()), async {
        backend.call().await.answer("200 OK", "x-user: 42\r\n", "").await;
    });
    let mut streams = vec![response.stream()];
    // Known, and not asked.
    streams.push(gateway.send(Via::Http1Tls, request()).await.stream());
    for stream in &mut streams {
        stream.ready().await;
    }
    revoke(&gateway, &["--sub", "42"]).await;
    all_end(streams).await;
    let (response, ()) = tokio::join!(gateway.send(Via::Http2, request()), async {
        backend.call().await.answer("401 Unauthorized", "", "log in").await;
    });
    assert_eq!(response.status, 401);

    // What was asked before something was revoked is asked again, whatever the backend has said.
    let before = gateway.metrics().await.sum("ssegate_revocations_total", &[]);
    let (response, ()) = tokio::join!(gateway.send(Via::Http1, request()), async {
        let early = backend.call().await;
        revoke(&gateway, &["--sub", "43"]).await;
        gateway.counts("ssegate_revocations_total", &[], before + 1.0).await;
        early.answer("200 OK", "x-user: 42\r\n", "").await;
        backend.call().await.answer("403 Forbidden", "", "no").await;
    });
    assert_eq!(response.status, 403);
}

#[tokio::test]
async fn a_websocket_ends_too() {
    let (redis, echo) = (Redis::start().await, Echo::start().await);
    let gateway = build(&redis, &control()).route(&echo.route()).start().await;
    gateway.becomes(200, SOON).await;
    let mine = token("42", &json!({}));
    let client = async {
        let mut io = Via::Http1Tls.connect(gateway.address("https")).await;
        let handshake = format!(
            "GET /chat HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Authorization: Bearer {mine}\r\n\r\n"
        );
        io.write_all(handshake.as_bytes()).await.unwrap();
        let mut start = [0; 12];
        within(SOON, "a response", io.read_exact(&mut start)).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 101");
        gateway.counts("ssegate_tunnels", &[], 1.0).await;
        revoke(&gateway, &["--sub", "42"]).await;
        let mut rest = Vec::new();
        let end = within(A_SECOND, "the end of the tunnel", io.read_to_end(&mut rest)).await;
        // Without a goodbye of TLS: the connection is not HTTP any more.
        drop(end);
        let gone = async || gateway.metrics().await.sum("ssegate_tunnels", &[]) == 0.0;
        eventually(SOON, "the tunnel is gone", gone).await;
    };
    tokio::join!(echo.serve(), client);
}

#[tokio::test]
async fn a_websocket_over_http2_ends_too() {
    let (redis, echo) = (Redis::start().await, Echo::start().await);
    let gateway = build(&redis, &control()).route(&echo.route()).start().await;
    gateway.becomes(200, SOON).await;
    let client = async {
        let bearer = format!("Bearer {}", token("42", &json!({})));
        let fields = [("authorization", &*bearer)];
        let (response, _stream) = extended_connect(&gateway, "websocket", &fields).await;
        assert_eq!(response.status(), 200);
        gateway.counts("ssegate_tunnels", &[], 1.0).await;
        revoke(&gateway, &["--sub", "42"]).await;
        let mut body = response.into_body();
        within(A_SECOND, "the end of the tunnel", async {
            while let Some(Ok(_)) = body.data().await {}
        })
        .await;
        let gone = async || gateway.metrics().await.sum("ssegate_tunnels", &[]) == 0.0;
        eventually(SOON, "the tunnel is gone", gone).await;
    };
    tokio::join!(echo.serve(), client);
}

/// So many streams of one user, over connections of 200, and the memory that each takes.
async fn crowd(gateway: &Gateway, token: &str, count: usize) -> (Vec<EventStream>, u64) {
    let before = gateway.anonymous_bytes();
    let mut streams = Vec::with_capacity(count);
    let to = gateway.address_for(Via::H2c);
    while streams.len() < count {
        let connection =
            crate::support::Http2::handshake(Via::H2c.connect(to).await, false, to).await;
        for _ in 0..200 {
            let request = bearer("/mine", token);
            streams.push(connection.send(request).await.stream());
        }
    }
    for stream in &mut streams {
        stream.ready().await;
    }
    (streams, gateway.anonymous_bytes().saturating_sub(before) / count as u64)
}

#[tokio::test]
#[ignore = "two thousand streams"]
async fn long_two_thousand_streams_end_at_once() {
    let redis = Redis::start().await;
    let mine = token("42", &json!({"jti": "0e6f6f0f-3a3c-4b5c-9f2e-1d2a5f3b7c11"}));
    let (_streams, without) = crowd(&build(&redis, "off").start().await, &mine, 2000).await;
    let gateway = start(&redis).await;
    let (streams, with) = crowd(&gateway, &mine, 2000).await;
    measured(&format!("{without} bytes for each stream, {with} if it may be revoked"));
    let stays = open(&gateway, Via::Http1, "/mine", &token("43", &json!({}))).await;
    let begin = Instant::now();
    let told = call(&gateway, r#"{"sub":"42"}"#).await.text().await;
    measured(&format!("told after {:?}", begin.elapsed()));
    assert_eq!(told.trim(), r#"{"ended":2000,"gateways":1}"#);
    for mut stream in streams {
        stream.end().await.expect("it ends in good order");
    }
    measured(&format!("all had ended after {:?}", begin.elapsed()));
    assert!(begin.elapsed() < 3 * A_SECOND, "{:?}", begin.elapsed());
    gateway.counts("ssegate_streams_closed_total", &["reason=\"revoked\""], 2000.0).await;
    drop(stays);
}
