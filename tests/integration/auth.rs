//! Routes with `auth`: who may listen, to what, and until when.

use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;

use crate::support::{Gateway, Redis, Request, SOON, Upstream, Via, eventually, within};

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";
// printf %s cron-token | sha256sum
pub(crate) const CRON: &str = "c614b871ed744c04d17e441d256bf952a329ff5707e4d6d6829cfb9137857768";

/// A token as its own two lines of code make it, with HMAC-SHA256.
pub(crate) fn token(claims: &serde_json::Value) -> String {
    let part = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
}

/// Seconds since 1970, so many from now.
pub(crate) fn seconds(from_now: i64) -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("a time") + from_now
}

pub(crate) fn of(sub: &str, more: &serde_json::Value) -> String {
    let mut claims = json!({"sub": sub, "exp": seconds(3600)});
    let object = claims.as_object_mut().expect("an object");
    object.extend(more.as_object().expect("an object").clone());
    token(&claims)
}

pub(crate) fn jwt(more: &str) -> String {
    format!("auth: {{ jwt: {{ keys: {SECRET}, algorithms: HS256, leeway: 0s{more} }} }}")
}

/// Routes for one user's channel, for any channel, for what a claim allows, and to a backend.
async fn gateway(redis: &Redis, auth: &str, backend: &Upstream) -> Gateway {
    let upstream = backend.address();
    let cors = "cors: { origins: [\"https://friend.example\"], credentials: true }";
    Gateway::build(redis)
        .settings(auth)
        .routes(&format!(
            "- {{ path: /mine, events: {{ channels: [\"user:{{auth.id}}\"] }}, {cors} }}\n\
             - {{ path: /events, events: {{ channels: [\"{{query.channel}}\"] }} }}\n\
             - {{ path: /allowed, events: {{ channels: [\"{{query.channel}}\"], claim: channels, patterns: true }} }}\n\
             - {{ path: /listed, events: {{ claim: channels, patterns: true }} }}\n\
             - {{ path: /beside, events: {{ channels: [\"x{{query.a}}:{{auth.id}}:{{query.b}}\"], patterns: true }} }}\n\
             - {{ path: /open, events: {{ channels: [news] }}, auth: off }}\n\
             - {{ path: \"/app/{{*rest}}\", proxy: {{ upstream: \"http://{upstream}\", pass: {{ x-user: \"{{auth.id}}\" }} }}, {cors} }}\n\
             - {{ path: \"/public/{{*rest}}\", proxy: {{ upstream: \"http://{upstream}\" }}, auth: off }}\n"
        ))
        .start()
        .await
}

pub(crate) fn bearer(request: Request, token: &str) -> Request {
    request.header("authorization", &format!("Bearer {token}"))
}

#[tokio::test]
async fn a_stream_needs_a_credential_that_is_accepted() {
    let (redis, backend) = (Redis::start().await, Upstream::start().await);
    let gateway = gateway(&redis, &jwt(""), &backend).await;
    for via in Via::ALL {
        for (token, status) in [
            (None, 401),
            (Some(of("42", &json!({"exp": seconds(-5)}))), 401),
            (Some(of("42", &json!({"nbf": seconds(60)}))), 401),
            (Some(of("42", &json!({"iat": seconds(60)}))), 401),
            (Some(of("42", &json!({"aud": "other"}))), 401),
            (Some(format!("{}x", of("42", &json!({})))), 401),
            (Some("nonsense".to_owned()), 401),
            (Some(of("*", &json!({}))), 403),
            (Some(of("", &json!({}))), 403),
        ] {
            let request = Request::events("/mine");
            let request = match &token {
                Some(token) => bearer(request, token),
                None => request,
            };
            let response = gateway.send(via, request).await;
            assert_eq!(response.status, status, "{via:?} {token:?}");
            assert!(!response.header("content-type").starts_with("text/event-stream"));
            let challenge = response.header("www-authenticate");
            assert_eq!(challenge.starts_with("Bearer realm="), status == 401, "{challenge}");
            assert_eq!(challenge.contains("invalid_token"), status == 401 && token.is_some());
        }
        let mut stream = gateway
            .send(via, bearer(Request::events("/mine"), &of("42", &json!({}))))
            .await
            .stream();
        stream.ready().await;
        redis.publish("user:42", "yours").await;
        assert_eq!(stream.next_event().await.data, "yours");
    }
    assert_eq!(gateway.send(Via::Http1, Request::events("/open")).await.status, 200);
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let (redis, backend) = (Redis::start().await, Upstream::start().await);
    let gateway = gateway(&redis, &jwt(""), &backend).await;
    for via in [Via::Http1, Via::Http2] {
        let until = seconds(3);
        let token = of("42", &json!({"exp": until}));
        let mut stream = gateway.send(via, bearer(Request::events("/mine"), &token)).await.stream();
        stream.ready().await;
        let last = within(SOON, "the end of the stream", async {
            let mut last = None;
            while let Some(block) = stream.block().await {
                last = block.retry.or(last);
            }
            last
        })
        .await;
        assert!(last.is_some(), "it says when to come back");
        stream.end().await.expect("it ends in good order");
        // To the second, with room for a busy machine; never before.
        let now = seconds(0);
        assert!((until..until + 5).contains(&now), "{now} {until}");
        let again = gateway.send(via, bearer(Request::events("/mine"), &token)).await;
        assert_eq!(again.status, 401);
    }
    gateway.counts("ssegate_streams_closed_total", &["reason=\"expired\""], 2.0).await;
}

#[tokio::test]
async fn a_claim_says_which_channels_its_bearer_may_have() {
    let (redis, backend) = (Redis::start().await, Upstream::start().await);
    let gateway = gateway(&redis, &jwt(""), &backend).await;
    let token = of("42", &json!({"channels": ["news", "orders:42:*"]}));
    for (target, status) in [
        ("/allowed?channel=news", 200),
        ("/allowed?channel=orders:42:7", 200),
        ("/allowed?channel=orders:42:*", 200),
        ("/allowed?channel=orders:42:x*", 200),
        ("/allowed?channel=orders:43:7", 403),
        ("/allowed?channel=orders:4?:7", 403),
        ("/allowed?channel=*", 400),
        ("/allowed?channel=news&channel=secret", 403),
        ("/allowed?channel=nobody-publishes-here", 403),
        ("/listed", 200),
        ("/beside?a=x&b=y", 200),
        ("/beside?a=%5B&b=%5D*", 403),
        ("/beside?a=*&b=y", 403),
        ("/beside?a=%5C&b=y", 403),
    ] {
        for via in [Via::Http1, Via::Http2] {
            let response = gateway.send(via, bearer(Request::events(target), &token)).await;
            assert_eq!(response.status, status, "{target}");
        }
    }
    // A token without the claim has no channel.
    let none = bearer(Request::events("/listed"), &of("42", &json!({})));
    assert_eq!(gateway.send(Via::Http1, none).await.status, 403);
    let mut stream =
        gateway.send(Via::Http2, bearer(Request::events("/listed"), &token)).await.stream();
    stream.ready().await;
    redis.publish("orders:43:1", "not yours").await;
    redis.publish("orders:42:1", "yours").await;
    assert_eq!(stream.next_event().await.data, "yours");
}

#[tokio::test]
async fn a_backend_is_told_who_it_is_and_no_client_can_say_it() {
    let (redis, backend) = (Redis::start().await, Upstream::start().await);
    let auth = jwt(", from: [bearer, \"query:token\"]");
    let gateway = gateway(&redis, &auth, &backend).await;
    let token = of("42", &json!({}));
    for (target, seen, user) in [
        (format!("/app/x?a=1&token={token}&b=2"), "GET /app/x?a=1&b=2 HTTP/1.1", Some("42")),
        (format!("/public/x?token={token}"), "GET /public/x?token=", None),
    ] {
        let request =
            Request::get(&target).header("x-user", "admin").header("connection", "x-user");
        let (response, call) = tokio::join!(gateway.send(Via::Http1, request), async {
            let call = backend.call().await;
            let head = call.head.clone();
            call.answer("200 OK", "", "ok").await;
            head
        });
        assert_eq!(response.status, 200);
        assert!(call.starts_with(seen), "{call}");
        let fields: Vec<_> =
            call.lines().filter(|line| line.to_lowercase().starts_with("x-user")).collect();
        let expected: Vec<_> = user.map(|user| format!("x-user: {user}")).into_iter().collect();
        assert_eq!(fields, expected, "{call}");
    }
    let refused = gateway.send(Via::Http2, Request::get("/app/x")).await;
    assert_eq!(refused.status, 401);
}

#[tokio::test]
async fn a_cookie_does_not_serve_the_page_of_another_site() {
    let (redis, backend) = (Redis::start().await, Upstream::start().await);
    let gateway = gateway(&redis, &jwt(", from: [bearer, \"cookie:token\"]"), &backend).await;
    let token = of("42", &json!({}));
    for via in Via::ALL {
        for (origin, status, readable) in [
            ("", 200, ""),
            ("https://friend.example", 200, "https://friend.example"),
            ("https://evil.example", 403, ""),
            ("null", 403, ""),
        ] {
            let with = |request: Request| match origin {
                "" => request,
                origin => request.header("origin", origin),
            };
            let cookie = with(Request::events("/mine")).header("cookie", &format!("token={token}"));
            let response = gateway.send(via, cookie).await;
            assert_eq!(
                (response.status, response.header("access-control-allow-origin")),
                (status, readable),
                "{via:?} {origin}"
            );
            // A page cannot make the browser send a token that it does not know.
            let header = bearer(with(Request::events("/mine")), &token);
            assert_eq!(gateway.send(via, header).await.status, 200, "{via:?} {origin}");
        }
        // A page that may use the route can read why it is refused.
        let request = Request::events("/mine").header("origin", "https://friend.example");
        let refused = gateway.send(via, request).await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.header("access-control-allow-origin"), "https://friend.example");
    }
    // A preflight has no credentials, so the gateway responds to that of a page which may use the route.
    let preflight = |origin: &str| {
        Request::new("OPTIONS", "/app/x")
            .header("origin", origin)
            .header("access-control-request-method", "PUT")
    };
    assert_eq!(gateway.send(Via::Http2, preflight("https://evil.example")).await.status, 401);
    let allowed = gateway.send(Via::Http2, preflight("https://friend.example")).await;
    assert_eq!((allowed.status, allowed.header("access-control-allow-methods")), (204, "PUT"));
}

#[tokio::test]
async fn a_token_in_a_cookie_may_be_renewed_a_moment_late() {
    let (redis, backend) = (Redis::start().await, Upstream::start().await);
    let auth = jwt(", from: [bearer, \"cookie:token\"], renew: 30s");
    let gateway = gateway(&redis, &auth, &backend).await;
    let late = |by: i64| of("42", &json!({"exp": seconds(-by)}));
    let cookie = |token: &str| Request::events("/mine").header("cookie", &format!("token={token}"));
    let (reason, retry) =
        gateway.send(Via::Http2, cookie(&late(5))).await.stream().sent_away().await;
    assert!(reason.contains("expired") && retry > 0, "{reason} {retry}");
    for request in [
        cookie(&late(60)),
        cookie(&of("42", &json!({"exp": seconds(-5), "aud": "other"}))),
        cookie(&format!("{}x", late(5))),
        bearer(Request::events("/mine"), &late(5)),
    ] {
        assert_eq!(gateway.send(Via::Http2, request).await.status, 401);
    }
}

#[tokio::test]
async fn any_of_several_methods_and_all_of_them() {
    let redis = Redis::start().await;
    let tokens = format!("{{ tokens: [{{ name: cron, sha256: {CRON} }}] }}");
    let jwt = format!(
        "{{ jwt: {{ keys: {SECRET}, algorithms: HS256, from: [\"cookie:token\", bearer] }} }}"
    );
    let gateway = Gateway::build(&redis)
        .routes(&format!(
            "- {{ path: /any, events: {{ channels: [\"{{auth.id}}\"] }}, auth: {{ any: [{jwt}, {tokens}] }} }}\n\
             - {{ path: /all, events: {{ channels: [\"{{auth.id}}\"] }}, auth: {{ all: [{jwt}, {tokens}] }} }}\n"
        ))
        .start()
        .await;
    let token = of("42", &json!({}));
    let cookie = |target: &str| Request::events(target).header("cookie", &format!("token={token}"));
    for (request, status) in [
        (Request::events("/any"), 401),
        (cookie("/any"), 200),
        (bearer(Request::events("/any"), "cron-token"), 200),
        (bearer(Request::events("/any"), "wrong"), 401),
        (Request::events("/all"), 401),
        (cookie("/all"), 401),
        (bearer(Request::events("/all"), "cron-token"), 401),
        (bearer(cookie("/all"), "cron-token"), 200),
        (bearer(cookie("/all"), "wrong"), 401),
    ] {
        let told = format!("{request:?}");
        assert_eq!(gateway.send(Via::Http2, request).await.status, status, "{told}");
    }
    let mut stream =
        gateway.send(Via::Http1, bearer(Request::events("/any"), "cron-token")).await.stream();
    stream.ready().await;
    redis.publish("cron", "for the machine").await;
    assert_eq!(stream.next_event().await.data, "for the machine");
}

#[tokio::test]
async fn an_identity_has_a_bound_of_streams() {
    let (redis, backend) = (Redis::start().await, Upstream::start().await);
    let auth = format!("{}\n", jwt("").replace(" } }", " }, max_streams: 2 }"));
    let gateway = gateway(&redis, &auth, &backend).await;
    let token = of("42", &json!({}));
    let open = async |via| {
        let mut stream = gateway.send(via, bearer(Request::events("/mine"), &token)).await.stream();
        stream.ready().await;
        stream
    };
    let (first, _second) = (open(Via::Http1).await, open(Via::Http2).await);
    let third = || bearer(Request::get("/mine"), &token);
    assert_eq!(gateway.send(Via::Http2, third()).await.status, 429);
    let other = bearer(Request::events("/mine"), &of("43", &json!({})));
    assert_eq!(gateway.send(Via::Http2, other).await.status, 200);
    drop(first);
    eventually(SOON, "room for another stream", async || {
        gateway.send(Via::Http2, third()).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_name_by_another_method_has_a_bound_of_its_own() {
    let (redis, backend) = (Redis::start().await, Upstream::start().await);
    let tokens = format!("{{ tokens: [{{ name: cron, sha256: {CRON} }}] }}");
    let jwt = jwt("").replacen("auth: ", "", 1);
    let auth = format!("auth: {{ any: [{jwt}, {tokens}], max_streams: 1 }}");
    let gateway = gateway(&redis, &auth, &backend).await;
    let user = of("cron", &json!({}));
    let mut streams = Vec::new();
    for token in ["cron-token", &*user] {
        let request = || bearer(Request::events("/mine"), token);
        let mut stream = gateway.send(Via::Http2, request()).await.stream();
        stream.ready().await;
        streams.push(stream);
        let second = bearer(Request::get("/mine"), token);
        assert_eq!(gateway.send(Via::Http1, second).await.status, 429);
    }
}

#[tokio::test]
async fn a_backends_own_stream_ends_with_the_token_too() {
    let (redis, backend) = (Redis::start().await, Upstream::start().await);
    let gateway = gateway(&redis, &jwt(""), &backend).await;
    for via in [Via::Http1, Via::Http2] {
        let until = seconds(3);
        let request = bearer(Request::events("/app/stream"), &of("42", &json!({"exp": until})));
        let (stream, call) = tokio::join!(gateway.send(via, request), async {
            let mut call = backend.call().await;
            call.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
                .await;
            call
        });
        let mut stream = stream.stream();
        assert_eq!(stream.next_event().await.data, "1");
        let ended = within(SOON, "the end of the stream", stream.event()).await;
        assert_eq!(ended, None);
        assert!(seconds(0) >= until);
        within(SOON, "the end at the backend", call.closed()).await;
    }
}

#[tokio::test]
#[ignore = "two thousand streams: run by tests/run --full"]
async fn long_two_thousand_tokens_expire_together_and_their_streams_return_spread() {
    const STREAMS: usize = 2_000;
    let redis = Redis::start().await;
    // Each comes back between one and two `retry` later.
    let gateway = Gateway::build(&redis)
        .settings(&format!("{}\nsse: {{ retry: 4s }}", jwt("")))
        .routes("- { path: /mine, events: { channels: [\"user:{auth.id}\"] } }\n")
        .start()
        .await;
    let until = seconds(60);
    let token = of("42", &json!({"exp": until}));
    let mut streams = Vec::with_capacity(STREAMS);
    for _ in 0..STREAMS {
        streams.push(
            gateway.send(Via::Http1, bearer(Request::events("/mine"), &token)).await.stream(),
        );
    }
    for stream in &mut streams {
        stream.ready().await;
    }
    let id = {
        redis.publish("user:42", "before").await;
        for stream in &mut streams {
            assert_eq!(stream.next_event().await.data, "before");
        }
        streams[0].last_id().to_owned()
    };
    assert!(seconds(0) < until, "all were opened in time");
    let mut retries = Vec::with_capacity(STREAMS);
    for stream in &mut streams {
        let retry =
            within(4 * SOON + std::time::Duration::from_secs(60), "the end of a stream", async {
                let mut retry = None;
                while let Some(block) = stream.block().await {
                    retry = block.retry.or(retry);
                }
                retry
            })
            .await;
        retries.push(retry.expect("a time to come back"));
    }
    let (least, most) = (retries.iter().min().expect("one"), retries.iter().max().expect("one"));
    assert!(*least >= 4_000 && *most <= 8_000 && most - least > 3_000, "{least} to {most}");
    // What is published meanwhile is not lost to those who return with their next token.
    redis.publish("user:42", "meanwhile").await;
    let next = of("42", &json!({}));
    for _ in 0..STREAMS {
        let request = bearer(Request::events("/mine"), &next).header("last-event-id", &id);
        let mut stream = gateway.send(Via::Http1, request).await.stream();
        assert_eq!(stream.next_event().await.data, "meanwhile");
    }
}
