//! Keys from a URL: a provider that rotates them, is away, slow or lies. Its sets and tokens are PyJWT's: mint.py.

mod server;

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use self::server::{Answer, KeyServer};
use crate::support::{
    EventStream, Gateway, Pem, Program, Redis, Request, Response, SOON, Via, eventually, free_port,
    within,
};

static KEYS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("keys.json")).expect("JSON"));

fn text(key: &str, what: &str) -> &'static str {
    KEYS[key][what].as_str().expect("a text")
}

fn set(key: &str) -> Answer {
    Answer::set(text(key, "set"))
}

fn auth(url: &str, more: &str) -> String {
    format!("auth: {{ jwt: {{ jwks: \"{url}\", algorithms: RS256, audience: events{more} }} }}")
}

async fn gateway(redis: &Redis, url: &str) -> Gateway {
    Gateway::build(redis).settings(&auth(url, "")).start().await
}

/// A request with a token, as `EventSource` sends it or as another client does.
async fn ask(gateway: &Gateway, via: Via, request: Request, token: &str) -> Response {
    let request = request.header("authorization", &format!("Bearer {token}"));
    gateway.send(via, request).await
}

async fn subscribe(gateway: &Gateway, via: Via, key: &str) -> EventStream {
    let request = Request::events("/events/news");
    let mut stream = ask(gateway, via, request, text(key, "token")).await.stream();
    stream.ready().await;
    stream
}

/// Waits until the keys have been fetched once.
async fn fetched(gateway: &Gateway) {
    gateway.counts("ssegate_jwks_fetches_total", &["result=\"success\""], 1.0).await;
}

#[tokio::test]
async fn check_fetches_the_keys() {
    let (server, dir) = (KeyServer::start(set("first")).await, TempDir::new().unwrap());
    let url = server.url();
    // A query may hold a secret.
    let shown = url.split('?').next().unwrap();
    let yaml = |algorithm: &str| {
        let auth = auth(&url, "").replace("RS256", algorithm);
        let port = free_port();
        format!(
            "listeners: [{{ address: 127.0.0.1:0 }}]\nredis: {{ url: \"embedded://127.0.0.1:{port}\" }}\nadmin: off\n\
             {auth}\nroutes:\n- {{ path: /a, events: {{ channels: [a] }} }}\n- {{ path: /b, events: {{ channels: [b] }} }}\n"
        )
    };
    let check = async |algorithm: &str, option: &[&str]| {
        std::fs::write(dir.path().join("gateway.yaml"), yaml(algorithm)).unwrap();
        let program = Program::new(env!("CARGO_BIN_EXE_ssegate"))
            .args(["check"])
            .args(option.iter().copied());
        program.dir(dir.path()).output(SOON).await
    };
    assert_eq!(check("RS256", &[]).await.code(), 0);
    assert_eq!(server.requests(), 0, "only with --connect");
    let good = check("RS256", &["--connect"]).await;
    assert_eq!(good.code(), 0, "{good:?}");
    assert!(good.stdout.contains(&format!("jwks: ok: {shown}: 1 key, for RS256")), "{good:?}");
    assert_eq!(server.requests(), 1, "two routes with the same keys");
    for (answer, algorithm, why) in [
        (set("first"), "ES256", "it has 1 key, for RS256"),
        (Answer::set("{}"), "RS256", "it is not a JSON Web Key Set: an object with"),
        (
            Answer::Response("404 Not Found", String::new(), String::new()),
            "RS256",
            "its status is 404 Not Found; check the URL",
        ),
        (Answer::Close, "RS256", ""),
    ] {
        server.answers(answer);
        let bad = check(algorithm, &["--connect"]).await;
        assert_eq!(bad.code(), 1, "{bad:?}");
        assert!(bad.stderr.contains(&format!("auth.jwt.jwks: {shown}: {why}")), "{bad:?}");
        assert!(bad.stderr.contains("auth.jwt.jwks: 1 of the sets of keys cannot"), "{bad:?}");
    }
}

#[tokio::test]
async fn keys_rotate_and_open_streams_stay() {
    let (redis, server) = (Redis::start().await, KeyServer::start(set("first")).await);
    let gateway = gateway(&redis, &server.url()).await;
    let mut streams = Vec::new();
    for via in [Via::Http1, Via::Http2] {
        streams.push(subscribe(&gateway, via, "first").await);
        let other = text("first", "other_audience");
        let refused = ask(&gateway, via, Request::events("/events/news"), other).await;
        assert_eq!(refused.status, 401);
    }
    assert_eq!(server.requests(), 1);
    server.answers(set("second"));
    // The first request with the new key is accepted, and so are those at the same time.
    let (one, two) = tokio::join!(
        subscribe(&gateway, Via::Http1, "second"),
        subscribe(&gateway, Via::Http2, "second")
    );
    streams.extend([one, two]);
    assert_eq!(server.requests(), 2);
    // The old key is gone. It is not fetched again for that.
    let old = ask(&gateway, Via::Http2, Request::events("/events/news"), text("first", "token"));
    assert_eq!(old.await.status, 401);
    assert_eq!(server.requests(), 2);
    redis.publish("news", "hello").await;
    for stream in &mut streams {
        assert_eq!(stream.next_event().await.data, "hello");
    }
}

#[tokio::test]
async fn a_token_that_is_newer_than_the_keys_is_not_refused_for_good() {
    let (redis, server) = (Redis::start().await, KeyServer::start(set("first")).await);
    let gateway = gateway(&redis, &server.url()).await;
    fetched(&gateway).await;
    let made_up = |issued: u64| {
        use base64::Engine as _;
        let part = |text: String| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
        let claims = format!("{{\"iat\":{issued}}}");
        let header = "{\"alg\":\"RS256\",\"kid\":\"made up\"}".to_owned();
        format!("{}.{}.{}", part(header), part(claims), part("no signature".to_owned()))
    };
    // It takes the fetch of this minute.
    let refused = ask(&gateway, Via::Http1, Request::events("/events/news"), &made_up(1)).await;
    assert_eq!((refused.status, server.requests()), (401, 2));
    for (issued, is_newer) in [(1_750_000_000, false), (4_000_000_000, true)] {
        let event_source = Request::events("/events/news");
        let response = ask(&gateway, Via::Http2, event_source, &made_up(issued)).await;
        assert_eq!(response.status, if is_newer { 200 } else { 401 });
        if is_newer {
            let (reason, retry) = response.stream().sent_away().await;
            assert!(reason.contains("cannot be fetched now") && retry > 0, "{reason}");
        }
    }
    assert_eq!(server.requests(), 2, "whoever makes up keys causes no fetches");
}

#[tokio::test]
async fn before_the_first_keys_nobody_is_refused_for_good() {
    let redis = Redis::start().await;
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let gateway = gateway(&redis, &format!("http://{address}/jwks?tenant=a")).await;
    gateway.counts("ssegate_jwks_fetches_total", &["result=\"connect\""], 1.0).await;
    gateway.logs("cannot fetch the keys").await;
    let verbose = gateway.admin("/readyz?verbose").await.text().await;
    assert!(verbose.contains(&format!("[!] keys of http://{address}/jwks: ")), "{verbose}");
    assert!(!verbose.contains("tenant"), "{verbose}");
    for via in Via::ALL {
        let token = text("first", "token");
        let event_source = ask(&gateway, via, Request::events("/events/news"), token).await;
        event_source.stream().sent_away().await;
        let other = ask(&gateway, via, Request::get("/events/news"), token).await;
        assert_eq!((other.status, other.header("retry-after")), (503, "3"));
        // What no key could make good is refused.
        for token in ["nonsense", "a.b.c"] {
            let refused = ask(&gateway, via, Request::events("/events/news"), token).await;
            assert_eq!(refused.status, 401, "{token}");
        }
        assert_eq!(gateway.send(via, Request::events("/events/news")).await.status, 401);
    }
    KeyServer::start_at(address, set("first"), None).await;
    eventually(SOON, "the keys are fetched", async || {
        let get = Request::get("/events/news");
        ask(&gateway, Via::Http1, get, text("first", "token")).await.status == 200
    })
    .await;
    gateway.logs("the keys are fetched again").await;
    let failures = gateway.said("cannot fetch the keys; those fetched before stay in use").count();
    assert_eq!(failures, 1, "an outage is logged once");
    assert!(!gateway.admin("/readyz?verbose").await.text().await.contains("keys of"));
}

#[tokio::test]
async fn old_keys_stay_while_their_server_misbehaves() {
    let redis = Redis::start().await;
    let response = |status, headers: &str, body: &str| {
        Answer::Response(status, headers.to_owned(), body.to_owned())
    };
    let elsewhere = KeyServer::start(set("second")).await;
    let huge = format!("{{\"x\": \"{}\", {}", "x".repeat(1 << 20), &text("second", "set")[1..]);
    let unusable = "{\"keys\": [{\"kty\": \"oct\", \"k\": \"c2VjcmV0\", \"kid\": \"second\"}]}";
    for (name, answer, result) in [
        ("closing", Answer::Close, "response"),
        ("failing", response("500 Internal Server Error", "", "{}"), "status"),
        ("slow", Answer::Nothing, "timeout"),
        ("huge", Answer::set(&huge), "response"),
        ("no JSON", Answer::set("<html>"), "keys"),
        ("no set", Answer::set("{\"keys\": 1}"), "keys"),
        ("empty", Answer::set("{\"keys\": []}"), "keys"),
        ("secrets only", Answer::set(unusable), "keys"),
        (
            "redirecting",
            response("302 Found", &format!("location: {}\r\n", elsewhere.url()), ""),
            "status",
        ),
    ] {
        let server = KeyServer::start(set("first")).await;
        let gateway = gateway(&redis, &server.url()).await;
        let mut stream = subscribe(&gateway, Via::Http2, "first").await;
        server.answers(answer);
        let token = text("second", "token");
        let event_source = ask(&gateway, Via::Http1, Request::events("/events/news"), token).await;
        event_source.stream().sent_away().await;
        let other = ask(&gateway, Via::Http2, Request::get("/events/news"), token).await;
        assert_eq!(other.status, 503, "{name}");
        let label = format!("result=\"{result}\"");
        gateway.counts("ssegate_jwks_fetches_total", &[&label], 1.0).await;
        subscribe(&gateway, Via::Http1, "first").await;
        redis.publish("news", name).await;
        assert_eq!(stream.next_event().await.data, name);
    }
    assert_eq!(elsewhere.requests(), 0, "redirects are not followed");
}

#[tokio::test]
async fn a_reload_keeps_the_keys_of_a_url_and_forgets_one_that_is_gone() {
    let (redis, server) = (Redis::start().await, KeyServer::start(set("first")).await);
    let gateway = gateway(&redis, &server.url()).await;
    subscribe(&gateway, Via::Http1, "first").await;
    assert!(gateway.reload().await);
    subscribe(&gateway, Via::Http1, "first").await;
    assert_eq!(server.requests(), 1, "the keys are kept");
    let silent = KeyServer::start(Answer::Nothing).await;
    let (before, other) = (server.url(), silent.url());
    gateway.rewrite(|yaml| yaml.replace(&before, &other));
    assert!(gateway.reload().await);
    eventually(SOON, "the other server is asked", async || silent.open() == 1).await;
    // By then all its own connections are open.
    gateway.becomes(200, SOON).await;
    let files = gateway.open_files();
    gateway.rewrite(|yaml| yaml.replace(&other, &before));
    assert!(gateway.reload().await);
    // Sooner than it would give up, which closes this connection and opens the next.
    let gone = within(SOON, "nobody asks it any more", async {
        while silent.open() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        silent.requests()
    });
    assert_eq!(gone.await, 1);
    subscribe(&gateway, Via::Http1, "first").await;
    eventually(SOON, "no connection is left", async || gateway.open_files() <= files).await;
    assert_eq!((server.requests(), silent.requests()), (2, 1));
}

#[tokio::test]
async fn the_server_of_keys_is_trusted_by_the_authority_that_the_configuration_names() {
    let (redis, dir) = (Redis::start().await, TempDir::new().unwrap());
    let pem = Pem::write(dir.path());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = KeyServer::start_at(any, set("first"), Some(pem.acceptor())).await;
    let url = format!("https://localhost:{}/jwks?tenant=a", server.address.port());
    let ca = format!(", jwks_ca: {}", pem.authority.display());
    let trusting = Gateway::build(&redis).settings(&auth(&url, &ca)).start().await;
    subscribe(&trusting, Via::Http2, "first").await;
    let distrusting = gateway(&redis, &url).await;
    distrusting.counts("ssegate_jwks_fetches_total", &["result=\"connect\""], 1.0).await;
    distrusting.logs("check the URL, its host and jwks_ca").await;
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
#[ignore = "takes a while: run by tests/run --full"]
async fn long_five_hundred_streams_stay_open_while_keys_rotate() {
    let (redis, server) = (Redis::start().await, KeyServer::start(set("first")).await);
    let gateway = gateway(&redis, &server.url()).await;
    let mut streams = Vec::new();
    for _ in 0..500 {
        streams.push(subscribe(&gateway, Via::Http1, "first").await);
    }
    server.answers(set("second"));
    streams.push(subscribe(&gateway, Via::Http2, "second").await);
    server.answers(Answer::Close);
    let away = ask(&gateway, Via::Http1, Request::events("/events/news"), text("third", "token"));
    assert_eq!(away.await.status, 401, "the keys are fresh, and the token is older");
    redis.publish("news", "hello").await;
    for stream in &mut streams {
        assert_eq!(stream.next_event().await.data, "hello");
    }
    let closed = gateway.metrics().await.sum("ssegate_streams_closed_total", &[]);
    assert_eq!((closed, server.requests()), (0.0, 2));
}
