//! Requests: what their lines say, and what they do not.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{InAnyForm, build, line, lines};
use crate::auth::{CRON, SECRET, jwt, of, seconds, token};
use crate::support::echo::Echo;
use crate::support::{
    Gateway, Redis, Request, SOON, Upstream, Via, eventually, extended_connect, free_port, within,
};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Sends bytes, and reads what comes back to its end.
async fn raw(to: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(to).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    drop(within(SOON, "an end", socket.read_to_end(&mut response)).await);
    String::from_utf8_lossy(&response).into_owned()
}

#[tokio::test]
async fn a_request_has_one_line_over_every_protocol() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis).routes(&upstream.route("/app/{*rest}")).start().await;
    for (number, via) in Via::ALL.into_iter().enumerate() {
        let target = format!("/app/{number}?page=2");
        let request = Request::new("POST", &target)
            .header("user-agent", "Agent/1.0 (x)")
            .header("referer", "https://app.example/a?b=c")
            .header("traceparent", TRACE)
            .body(b"some");
        let (response, call) = tokio::join!(gateway.send(via, request), async {
            let call = upstream.call().await;
            let head = call.head.clone();
            call.answer("201 Created", "", "created it").await;
            head
        });
        assert_eq!(response.text().await, "created it");
        assert!(call.to_lowercase().contains(&format!("traceparent: {TRACE}\r\n")), "{call}");
        let line = line(&gateway, "request", &target).await;
        let protocol = if via.is_http2() { "HTTP/2.0" } else { "HTTP/1.1" };
        for (key, value) in [
            ("client", json!("127.0.0.1")),
            ("method", json!("POST")),
            ("path", json!(target)),
            ("host", json!(gateway.address_for(via).to_string())),
            ("protocol", json!(protocol)),
            ("route", json!("/app/{*rest}")),
            ("referer", json!("https://app.example/a")),
            ("user_agent", json!("Agent/1.0 (x)")),
            ("traceparent", json!(TRACE)),
            ("status", json!(201)),
            ("bytes", json!(10)),
            ("error", Value::Null),
            ("id", Value::Null),
        ] {
            assert_eq!(line[key], value, "{key} via {via:?}: {line}");
        }
        let (all, backend) = (line["duration_ms"].as_f64(), line["upstream_ms"].as_f64());
        assert!(all.unwrap() >= backend.unwrap() && backend > Some(0.0), "{line}");
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    assert_eq!(lines(&gateway, "/app").len(), Via::ALL.len());
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_access_log_lines_total", &[]), 4.0);
}

/// The address of a kept stream lets in whoever knows it, where the route is public.
#[tokio::test]
async fn the_address_of_a_kept_stream_is_in_no_line() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = Gateway::build(&redis)
        .settings("log: { access: all, level: debug }")
        .routes(&format!(
            "- {{ path: \"/{{*rest}}\", proxy: {{ upstream: \"http://{}\" }}, keep: {{ public: true }} }}\n",
            upstream.address()
        ))
        .start()
        .await;
    let id = "abcdefghijklmnopqrstuvwxy2";
    let address = format!("/.ssegate/kept/{id}");
    for via in [Via::Http1, Via::Http2] {
        for request in [
            Request::get(&address),
            Request::get(&format!("{address}?last_event_id={id}-1")),
            Request::new("DELETE", &address),
            Request::get("/.ssegate/kept/%61bcdefghijklmnopqrstuvwxy2"),
            Request::get("/nowhere").header("referer", &format!("https://app.example{address}")),
            Request::get(&format!("/nowhere?from=%2F.ssegate%2fkept%2F{id}")),
        ] {
            let answer = async {
                if request.target.starts_with("/nowhere") {
                    upstream.call().await.answer("404 Not Found", "", "").await;
                }
            };
            let (response, ()) = tokio::join!(gateway.send(via, request.clone()), answer);
            assert_eq!(response.status, 404, "{}", request.target);
            drop(response.text().await);
        }
    }
    eventually(SOON, "all lines", async || gateway.stdout().len() == 12).await;
    for line in gateway.stdout() {
        assert!(line.contains("kept"), "{line}");
        assert!(!line.contains("bcdefgh"), "{line}");
    }
    assert!(!gateway.log().contains("bcdefgh"), "{}", gateway.log());
}

#[tokio::test]
async fn what_is_refused_or_fails_has_a_line_with_the_reason() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let dead = free_port();
    let gateway = build(&redis)
        .settings(&format!("limits: {{ uri: 300, body: 1KiB }}\n{}", jwt("")))
        .routes(&format!(
            "- {{ path: \"/dead/{{*rest}}\", proxy: {{ upstream: \"http://127.0.0.1:{dead}\" }}, auth: off }}\n\
             - {{ path: \"/app/{{*rest}}\", proxy: {{ upstream: \"http://{}\" }}, auth: off }}\n\
             - {{ path: \"/open/{{channel}}\", events: {{ channels: [\"{{channel}}\"] }}, auth: off }}\n\
             - {{ path: /mine, events: {{ channels: [\"user:{{auth.id}}\"] }} }}\n",
            upstream.address()
        ))
        .start()
        .await;
    let long = format!("/open/{}", "x".repeat(400));
    for (via, tag) in [(Via::Http1, "h1"), (Via::Http2, "h2")] {
        for (request, target, status, error) in [
            (Request::get(&format!("/nowhere/{tag}")), format!("/nowhere/{tag}"), 404, "not_found"),
            (Request::new("PUT", &format!("/open/{tag}")), format!("/open/{tag}"), 405, "method"),
            (Request::get(&format!("/mine?{tag}")), format!("/mine?{tag}"), 401, "unauthorized"),
            (
                Request::get(&format!("/open/__sentinel__:{tag}")),
                format!("/open/__sentinel__:{tag}"),
                400,
                "channel",
            ),
            (Request::get(&format!("{long}{tag}")), "/open/xxx".to_owned(), 414, "uri"),
            (
                Request::new("POST", &format!("/app/big{tag}")).body(&[0; 2000]),
                format!("/app/big{tag}"),
                413,
                "large_request",
            ),
            (Request::get(&format!("/dead/{tag}")), format!("/dead/{tag}"), 502, "connect"),
            // An `EventSource` gets a stream that ends at once.
            (Request::events(&format!("/dead/s{tag}")), format!("/dead/s{tag}"), 200, "connect"),
        ] {
            let response = gateway.send(via, request).await;
            assert_eq!(response.status, status, "{target}");
            let length = response.text().await.len();
            let line = line(&gateway, "request", &target).await;
            assert_eq!(line["status"], status, "{line}");
            if error != "large_request" {
                assert_eq!(line["error"], error, "{line}");
            }
            assert!(line["error"].is_string(), "{line}");
            assert_eq!(line["bytes"], length, "{line}");
        }
        // A backend that breaks off, and a client that does not wait.
        let (response, ()) =
            tokio::join!(gateway.send(via, Request::get(&format!("/app/cut{tag}"))), async {
                let mut call = upstream.call().await;
                call.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
            });
        let mut response = response;
        assert!(response.body.rest().await.is_err(), "it is cut off");
        let cut = line(&gateway, "request", &format!("/app/cut{tag}")).await;
        assert_eq!(
            (&cut["status"], &cut["bytes"], &cut["error"]),
            (&json!(200), &json!(4), &json!("body_failed"))
        );
        let target = format!("/app/gone{tag}");
        let request = gateway.send(via, Request::get(&target));
        let called = async { upstream.call().await };
        let call = tokio::select! {
            _ = request => panic!("no response was sent"),
            call = called => call,
        };
        let left = line(&gateway, "request", &target).await;
        assert_eq!((&left["status"], &left["error"]), (&json!(499), &json!("client_left")));
        drop(call);
    }
}

#[tokio::test]
async fn what_cannot_be_read_has_a_line_without_a_path() {
    let redis = Redis::start().await;
    let gateway = build(&redis).start().await;
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    for (listener, request, status, error, text) in [
        (
            "http",
            "GET / HTTP/1.1\r\nbad header\r\n\r\n",
            400,
            "malformed",
            "400 Bad Request: invalid HTTP header parsed\n",
        ),
        (
            "http",
            "GET /\u{1} HTTP/1.1\r\nhost: a\r\n\r\n",
            400,
            "malformed",
            "400 Bad Request: invalid URI\n",
        ),
        (
            "http",
            &*long,
            431,
            "header",
            "431 Request Header Fields Too Large: message head is too large\n",
        ),
        ("https", "GET / HTTP/1.1\r\nhost: a\r\n\r\n", 400, "clear_text", "in the URL.\n"),
    ] {
        let response = raw(gateway.address(listener), request).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
        // What is wrong is said, and not only that something is.
        assert!(response.ends_with(text), "{response}");
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{response}");
        assert!(head.contains("connection: close"), "{response}");
        eventually(SOON, error, async || {
            let mut lines =
                gateway.stdout().into_iter().map(|line| serde_json::from_str(&line).unwrap());
            lines.any(|line: Value| line["error"] == error && line["status"] == status)
        })
        .await;
    }
    // Over HTTP/2 the gateway reads on, and knows what it refuses.
    let many = "x".repeat(20_000);
    let response = gateway.send(Via::Http2, Request::get("/large").header("x", &many)).await;
    assert_eq!(response.status, 431);
    eventually(SOON, "a line", async || {
        let mut lines =
            gateway.stdout().into_iter().map(|line| serde_json::from_str(&line).unwrap());
        lines.any(|line: Value| line["status"] == 431 && line["protocol"] == "HTTP/2.0")
    })
    .await;
    eventually(SOON, "a line of each", async || gateway.stdout().len() == 5).await;
}

#[tokio::test]
async fn the_client_is_the_one_behind_trusted_proxies() {
    let redis = Redis::start().await;
    let port = free_port();
    let gateway = build(&redis)
        .settings("trusted_proxies: [127.0.0.1]")
        .listener(&format!("{{ address: \"127.0.0.1:{port}\", proxy_protocol: true }}"))
        .start()
        .await;
    let request = Request::get("/a").header("x-forwarded-for", "198.51.100.1, 203.0.113.9");
    assert_eq!(gateway.send(Via::Http1, request).await.status, 404);
    assert_eq!(line(&gateway, "request", "/a").await["client"], "203.0.113.9");
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let header = "PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n";
    let request = format!("{header}GET /b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(line(&gateway, "request", "/b").await["client"], "2001:db8::7");
}

#[tokio::test]
async fn a_tunnel_has_one_line_at_its_end() {
    let redis = Redis::start().await;
    let echo = Echo::start().await;
    let gateway = build(&redis).routes(&echo.route()).start().await;
    let handshake = "GET /chat/1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let client = async {
        let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
        socket.write_all(format!("{handshake}early").as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"helloearly") {
            assert!(within(SOON, "bytes", socket.read_buf(&mut seen)).await.unwrap() > 0);
        }
        assert_eq!(lines(&gateway, "/chat").len(), 0, "it is open");
    };
    tokio::join!(client, echo.serve());
    let line = line(&gateway, "tunnel_closed", "/chat/1").await;
    for (key, value) in [
        ("status", json!(101)),
        ("bytes", json!(10)),
        ("bytes_received", json!(5)),
        ("reason", json!("closed")),
        ("route", json!("/{*rest}")),
    ] {
        assert_eq!(line[key], value, "{key}: {line}");
    }
    let client = async {
        let (response, mut stream) = extended_connect(&gateway, "websocket", &[]).await;
        stream.send_data(bytes::Bytes::from_static(b"xyz"), true).unwrap();
        let mut body = response.into_body();
        let mut back = Vec::new();
        while let Some(chunk) = within(SOON, "bytes", body.data()).await {
            back.extend_from_slice(&chunk.unwrap());
        }
        assert_eq!(back, b"helloxyz");
    };
    tokio::join!(client, echo.serve());
    let closed = async || {
        let lines = lines(&gateway, "/").into_iter();
        lines
            .filter(|line| line["event"] == "tunnel_closed" && line["protocol"] == "HTTP/2.0")
            .count()
            == 1
    };
    eventually(SOON, "the line of the tunnel over HTTP/2", closed).await;
    let lines = lines(&gateway, "/");
    let line = lines.iter().find(|line| line["protocol"] == "HTTP/2.0").unwrap();
    assert_eq!((&line["bytes"], &line["bytes_received"]), (&json!(8), &json!(3)), "{line}");
    assert_eq!((&line["method"], &line["status"]), (&json!("CONNECT"), &json!(200)), "{line}");
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[tokio::test]
async fn who_it_was_is_a_hash_unless_the_operator_wants_it_plain() {
    let redis = Redis::start().await;
    let routes = "- { path: \"/e/{channel}\", events: { channels: [\"{channel}\"] } }\n";
    let gateway = Gateway::build(&redis)
        .settings(&format!("log: {{ access: all }}\n{}", jwt("")))
        .routes(routes)
        .start()
        .await;
    let ask = async |target: &str, sub: &str| {
        let bearer = format!("Bearer {}", of(sub, &json!({})));
        let request = Request::new("HEAD", target).header("authorization", &bearer);
        assert_eq!(gateway.send(Via::Http1, request).await.status, 200);
        line(&gateway, "request", target).await["id"].clone()
    };
    let (alice, again, bob) =
        (ask("/e/1", "alice").await, ask("/e/2", "alice").await, ask("/e/3", "bob").await);
    assert_eq!(alice.as_str().unwrap().len(), 12, "{alice}");
    assert_eq!(alice, again);
    assert_ne!(alice, bob);
    for (identity, expected) in [("plain", json!("al\"ice")), ("off", Value::Null)] {
        gateway.rewrite(|text| {
            let log = text.lines().find(|line| line.starts_with("log:")).unwrap().to_owned();
            text.replace(&log, &format!("log: {{ access: all, identity: {identity} }}"))
        });
        assert!(gateway.reload().await);
        assert_eq!(ask(&format!("/e/{identity}"), "al\"ice").await, expected);
    }
    assert!(!gateway.log().contains("bob"));
}

/// Each credential that a request may carry, as header fields and as a query.
fn credentials() -> Vec<(Vec<(&'static str, String)>, String)> {
    let jwt = of("planted-sub", &json!({"planted-claim": "planted-value"}));
    let expired = token(&json!({"sub": "planted-sub", "exp": seconds(-100)}));
    let header = |name, value: &str| (vec![(name, value.to_owned())], String::new());
    let query = |query: &str| (Vec::new(), query.to_owned());
    let mut all = vec![
        header("authorization", &format!("Bearer {jwt}")),
        header("authorization", &format!("Bearer {expired}")),
        header("authorization", "Bearer planted-bearer"),
        header("authorization", "Basic cGxhbnRlZC11c2VyOnBsYW50ZWQtcGFzc3dvcmQ="),
        header("authorization", "Digest planted-digest"),
        header("proxy-authorization", "Basic planted-proxy"),
        header("cookie", "session=planted-cookie; token=planted-token-cookie"),
        header("cookie", &format!("token={jwt}")),
        header("last-event-id", "planted-last-id"),
        header("x-api-key", "planted-api-key"),
        header(
            "referer",
            "https://planted-user:planted-password@app.example/page?token=planted-referer#planted-fragment",
        ),
        query(&format!("tk={jwt}")),
        query("tk=planted-configured&x=1"),
        query("%74k=planted-encoded"),
        query("token=planted-token&access_token=planted-access"),
        query("exp=9999999999&kid=k1&sig=planted-signature"),
        query("sig=planted-signature&last_event_id=planted-last-id"),
        query("lastEventId=planted-last-id&Last-Event-ID=planted-last-id"),
        query("LAST_EVENT_ID=planted-last-id&last%5Fevent%5Fid=planted-last-id"),
        query("api_key=planted-api&apikey=planted-api&key=planted-api"),
        query("password=planted-password&client_secret=planted-secret&X-Amz-Signature=planted-amz"),
    ];
    // Everything at once.
    let fields = all.iter().flat_map(|(fields, _)| fields.clone());
    let fields = fields.filter(|(name, _)| *name != "referer").take(3).collect();
    all.push((fields, all.iter().map(|(_, query)| &**query).collect::<Vec<_>>().join("&")));
    all
}

/// What must not be in any line: what was planted, and each part of the tokens.
fn assert_clean(text: &str) {
    for secret in ["planted", "cGxhbnRlZ", "eyJ", SECRET] {
        if let Some(line) = text.lines().find(|line| line.contains(secret)) {
            panic!("{secret} is in {line}");
        }
    }
}

#[tokio::test]
async fn no_credential_is_in_any_line_at_any_level() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    // Answers everything, whatever it is.
    let address = upstream.address();
    let answering = tokio::spawn(async move {
        loop {
            upstream
                .next_call()
                .await
                .answer("200 OK", "set-cookie: s=planted-set-cookie\r\n", "ok")
                .await;
        }
    });
    for (format, level) in
        [("json", "trace"), ("text", "trace"), ("json", "debug"), ("text", "info")]
    {
        let jwt = format!(
            "jwt: {{ keys: {SECRET}, algorithms: HS256, from: [bearer, \"cookie:token\", \"query:tk\"] }}"
        );
        let gateway = Gateway::build(&redis)
            .settings(&format!("log: {{ format: {format}, access: all, level: {level} }}\ndrain: 0s"))
            .routes(&format!(
                "- {{ path: /events, events: {{ channels: [news] }}, auth: {{ {jwt} }} }}\n\
                 - {{ path: /open, events: {{ channels: [news] }} }}\n\
                 - {{ path: /signed, events: {{ channels: [news] }}, auth: {{ signed_url: {{ keys: {{ k1: {SECRET} }} }} }} }}\n\
                 - {{ path: /cron, events: {{ channels: [news] }}, auth: {{ tokens: [{{ name: cron, sha256: {CRON} }}] }} }}\n\
                 - {{ path: /publish, publish: {{ channels: [news] }}, auth: {{ {jwt} }} }}\n\
                 - {{ path: /ask, events: {{ channels: [news] }}, auth: {{ forward: {{ url: \"http://{address}/auth\" }} }} }}\n\
                 - {{ path: \"/app/{{*rest}}\", proxy: {{ upstream: \"http://{address}\" }} }}\n\
                 - {{ path: \"/dead/{{*rest}}\", proxy: {{ upstream: \"http://127.0.0.1:{}\" }} }}\n",
                free_port()
            ));
        let mut gateway = InAnyForm::start(gateway).await;
        let mut asked = 0;
        for (fields, query) in credentials() {
            for path in [
                "/events", "/open", "/signed", "/cron", "/publish", "/ask", "/app/x", "/dead/x",
                "/nowhere",
            ] {
                let method = if path == "/publish" { "POST" } else { "GET" };
                let target = format!("{path}?{query}");
                let mut request = Request::new(method, target.trim_end_matches('?'));
                for (name, value) in &fields {
                    request = request.header(name, value);
                }
                let via = if asked % 2 == 0 { Via::Http1 } else { Via::H2c };
                let _response = request.send(via, gateway.http).await;
                asked += 1;
            }
        }
        gateway.process.signal(rustix::process::Signal::TERM);
        gateway.process.exit_within(SOON).await;
        let lines = gateway.process.stdout().len();
        assert!(lines >= asked, "{lines} of {asked}");
        assert_clean(&gateway.process.log());
    }
    answering.abort();
}

#[tokio::test]
async fn nothing_in_a_request_forges_a_line() {
    let redis = Redis::start().await;
    for (format, is_line) in [("json", is_json as fn(&str) -> bool), ("text", is_combined)] {
        let gateway =
            Gateway::build(&redis).settings(&format!("log: {{ format: {format}, access: all }}"));
        let gateway = InAnyForm::start(gateway).await;
        let hostile = [
            "GET /a%0a%0dforged%22 HTTP/1.1\r\nhost: a\r\n",
            "GET /\"b\"\\x HTTP/1.1\r\nhost: a\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nuser-agent: \"quoted\\\" \x7f\u{e4}\u{202e}\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nuser-agent: tab\there\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nreferer: \" 200 0 \"-\" \"-\"\r\n",
            "M-SEARCH / HTTP/1.1\r\nhost: a\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\ntraceparent: 00-forged\"-x-01\r\n",
            "GET / HTTP/1.0\r\n",
        ];
        for request in hostile {
            raw(gateway.http, &format!("{request}connection: close\r\n\r\n")).await;
        }
        let long = "y".repeat(5000);
        raw(
            gateway.http,
            &format!(
                "GET /{long} HTTP/1.1\r\nhost: a\r\nuser-agent: {long}\r\nconnection: close\r\n\r\n"
            ),
        )
        .await;
        let count = hostile.len() + 1;
        eventually(SOON, "a line for each", async || gateway.process.stdout().len() >= count).await;
        let lines = gateway.process.stdout();
        assert_eq!(lines.len(), count, "{lines:#?}");
        for line in lines {
            assert!(
                line.len() < 4096 && line.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                "{line}"
            );
            assert!(is_line(&line), "{line}");
        }
    }
}

fn is_json(line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|line| line["event"] == "request")
}

/// As programs that read this format take it apart: at spaces, but within brackets and quotes.
fn is_combined(line: &str) -> bool {
    let parts: Vec<&str> = line.split('"').collect();
    let [before, request, between, referer, space, agent, ""] = parts[..] else { return false };
    let who: Vec<&str> = before.trim_end().splitn(4, ' ').collect();
    let [client, "-", _id, time] = who[..] else { return false };
    let numbers: Vec<&str> = between.trim().split(' ').collect();
    client.parse::<std::net::IpAddr>().is_ok()
        && time.starts_with('[')
        && time.ends_with(" +0000]")
        && (request == "-" || request.split(' ').count() == 3)
        && numbers.len() == 2
        && numbers.iter().all(|number| number.parse::<u64>().is_ok())
        && space == " "
        && !referer.is_empty()
        && !agent.is_empty()
}
