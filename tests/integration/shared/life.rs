//! How a shared stream begins, who gets it, and how it is left.

use std::time::Duration;

use super::{STREAM, build, data, end, first, get, join, open, send_all};
use crate::support::{Redis, Response, SOON, Upstream, Via, eventually, within};

/// The backend is asked once, and only what all of them have asked.
#[tokio::test]
async fn readers_of_one_key_cost_the_backend_one_request() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "key: [\"header:accept-language\"]").start().await;
    let request = |number: usize| {
        get("/prices?of=a")
            .header("accept-language", "de")
            .header("user-agent", &format!("reader {number}"))
            .header("x-request-id", &number.to_string())
    };
    let vias = [Via::Http1, Via::H2c];
    let requests = (0..40).map(|number| (vias[number % 2], request(number))).collect();
    let readers = send_all(&gateway, requests);
    let answer = async {
        let mut call = upstream.call().await;
        // All of them wait for the one response.
        gateway.counts("ssegate_shared_readers", &[], 40.0).await;
        call.write(STREAM).await;
        call.write_chunk("event: price\ndata: 1\n\n").await;
        call
    };
    let (readers, mut call) = tokio::join!(readers, answer);
    let mut readers: Vec<_> = readers.into_iter().map(Response::stream).collect();
    assert_eq!(call.line(), "GET /prices?of=a HTTP/1.1");
    assert_eq!(
        (call.header("accept"), call.header("accept-language")),
        ("text/event-stream", "de")
    );
    assert_eq!((call.header("host"), call.header("x-forwarded-proto")), ("shared.test", "http"));
    for name in ["user-agent", "x-request-id", "x-forwarded-for", "forwarded"] {
        assert_eq!(call.header(name), "", "{name}");
    }
    call.write_chunk("event: price\ndata: 2\n\n").await;
    for reader in &mut readers {
        for expected in ["1", "2"] {
            let event = reader.next_event().await;
            assert_eq!((&*event.name, &*event.data), ("price", expected));
        }
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_shared_requests_total", &["how=\"first\""]), 1.0);
    assert_eq!(metrics.sum("ssegate_shared_requests_total", &["how=\"joined\""]), 39.0);
    assert_eq!(metrics.sum("ssegate_shared_upstreams", &[]), 1.0);
    assert_eq!(metrics.sum("ssegate_shared_readers", &[]), 40.0);
    assert_eq!(metrics.sum("ssegate_streams", &[]), 40.0);
}

/// Another query, host, scheme or value of the key is another stream.
#[tokio::test]
async fn readers_of_other_keys_have_other_streams() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "key: [\"header:accept-language\"]").start().await;
    let (mut one, mut call) = first(&gateway, &upstream, "/a").await;
    for (via, request) in [
        (Via::Http1, get("/b")),
        (Via::Http1, get("/a?b")),
        (Via::Http1, get("/a").host("other.test")),
        (Via::Http1, get("/a").header("accept-language", "fr")),
        (Via::Http1Tls, get("/a")),
    ] {
        let answer = async {
            let mut call = upstream.call().await;
            call.write(STREAM).await;
            call.write_chunk("data: other\n\n").await;
            call
        };
        let (mut other, call) = tokio::join!(open(&gateway, via, request.clone()), answer);
        assert_eq!(data(&mut other, 1).await, ["other"], "{via:?} {request:?}");
        let scheme = if via.is_tls() { "https" } else { "http" };
        assert_eq!(call.header("x-forwarded-proto"), scheme);
    }
    call.write_chunk("data: one\n\n").await;
    assert_eq!(data(&mut one, 1).await, ["one"]);
}

/// The stream is left some time after its last reader; until then another one joins it.
#[tokio::test]
async fn the_backend_is_left_after_the_last_reader() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "leave: 2s, replay: all").start().await;
    let (reader, mut call) = first(&gateway, &upstream, "/").await;
    drop(reader);
    eventually(SOON, "nobody reads", async || {
        gateway.metrics().await.sum("ssegate_shared_readers", &[]) == 0.0
    })
    .await;
    call.write_chunk("data: to nobody\n\n").await;
    let mut again = open(&gateway, Via::H2c, get("/")).await;
    assert_eq!(data(&mut again, 1).await, ["to nobody"]);
    drop(again);
    call.closed().await;
    gateway.counts("ssegate_shared_ended_total", &["reason=\"left\""], 1.0).await;
    assert_eq!(gateway.metrics().await.sum("ssegate_shared_upstreams", &[]), 0.0);
    // Whoever comes then begins a new one.
    let (mut reader, mut call) = first(&gateway, &upstream, "/").await;
    call.write_chunk("data: new\n\n").await;
    assert_eq!(data(&mut reader, 1).await, ["new"]);
}

/// A reader that leaves before the backend has responded takes nothing from the others; the last takes the request.
#[tokio::test]
async fn whoever_waits_may_leave() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "leave: 1h").start().await;
    let waits = async |readers: f64| {
        eventually(SOON, "so many wait", async || {
            gateway.metrics().await.sum("ssegate_shared_readers", &[]) == readers
        })
        .await;
    };
    let mut one = Box::pin(open(&gateway, Via::H2c, get("/")));
    let mut call = tokio::select! {
        call = upstream.call() => call,
        _ = &mut one => panic!("nobody has responded"),
    };
    let mut other = Box::pin(open(&gateway, Via::Http1, get("/")));
    tokio::select! {
        () = waits(2.0) => {}
        _ = &mut one => panic!("nobody has responded"),
        _ = &mut other => panic!("nobody has responded"),
    }
    drop(one);
    waits(1.0).await;
    call.write(STREAM).await;
    call.write_chunk("data: 1\n\n").await;
    assert_eq!(data(&mut other.await, 1).await, ["1"]);

    let mut alone = Box::pin(open(&gateway, Via::H2c, get("/other")));
    let call = tokio::select! {
        call = upstream.call() => call,
        _ = &mut alone => panic!("nobody has responded"),
    };
    drop(alone);
    call.closed().await;
}

/// What would be one too many gets a stream of its own.
#[tokio::test]
async fn a_request_over_the_limit_goes_alone() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "limits: { upstreams: 1 }").start().await;
    let (_reader, _call) = first(&gateway, &upstream, "/a").await;
    for _ in 0..2 {
        let answer = async {
            let mut call = upstream.call().await;
            assert_ne!(call.header("x-forwarded-for"), "", "it is the client's own request");
            call.write(STREAM).await;
            call.write_chunk("data: alone\n\n").await;
            call
        };
        let sent = gateway.send(Via::Http1, get("/b"));
        let (response, _call) = tokio::join!(sent, answer);
        assert_eq!(data(&mut response.stream(), 1).await, ["alone"]);
    }
    gateway.counts("ssegate_shared_alone_total", &["reason=\"max_upstreams\""], 2.0).await;
    let _joined = join(&gateway, Via::Http1, get("/a")).await;
}

/// A stream that is open for whoever may come back makes room for one that somebody reads, the longest unread first.
#[tokio::test]
async fn streams_without_readers_make_room() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "leave: 1h, limits: { upstreams: 3 }").start().await;
    let unread = async |target: &str| {
        let before = gateway.metrics().await.sum("ssegate_shared_readers", &[]);
        let (reader, call) = first(&gateway, &upstream, target).await;
        drop(reader);
        eventually(SOON, "it is left", async || {
            gateway.metrics().await.sum("ssegate_shared_readers", &[]) == before
        })
        .await;
        call
    };
    let (_reader, _read) = first(&gateway, &upstream, "/read").await;
    let oldest = unread("/a").await;
    let older = unread("/b").await;
    let newest = unread("/c").await;
    oldest.closed().await;
    let (_another, _call) = first(&gateway, &upstream, "/d").await;
    older.closed().await;
    let (_more, _call) = first(&gateway, &upstream, "/e").await;
    newest.closed().await;
    gateway.counts("ssegate_shared_ended_total", &["reason=\"left\""], 3.0).await;
    assert_eq!(gateway.metrics().await.sum("ssegate_shared_upstreams", &[]), 3.0);
    // All of them are read: one more goes alone.
    let answer = async { upstream.call().await.answer("200 OK", "", "alone").await };
    let (response, ()) = tokio::join!(gateway.send(Via::Http1, get("/f")), answer);
    assert_eq!(response.text().await, "alone");
    gateway.counts("ssegate_shared_alone_total", &["reason=\"max_upstreams\""], 1.0).await;
}

/// Each reader then asks for itself, and for a while without waiting for another.
#[tokio::test]
async fn what_cannot_be_shared_is_not() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "leave: 1h").start().await;
    let head = "set-cookie: session=1\r\ncontent-type: text/event-stream\r\n";
    let own = |name: &'static str| get("/").header("user-agent", name);
    let sent = async {
        let (one, two) = (own("one"), own("two"));
        tokio::join!(gateway.send(Via::Http1, one), gateway.send(Via::H2c, two))
    };
    let answers = async {
        let call = upstream.call().await;
        assert_eq!(call.header("user-agent"), "");
        gateway.counts("ssegate_shared_readers", &[], 2.0).await;
        call.answer("200 OK", head, "data: nobody's\n\n").await;
        for _ in 0..2 {
            let call = upstream.call().await;
            let body = format!("data: {}\n\n", call.header("user-agent"));
            call.answer("200 OK", head, &body).await;
        }
    };
    let ((one, two), ()) = tokio::join!(sent, answers);
    for (response, name) in [(one, "one"), (two, "two")] {
        assert_eq!(response.header("set-cookie"), "session=1");
        assert_eq!(data(&mut response.stream(), 1).await, [name]);
    }
    let answer = async {
        let call = upstream.call().await;
        assert_eq!(call.header("user-agent"), "three");
        call.answer("404 Not Found", "", "").await;
    };
    let (response, ()) = tokio::join!(gateway.send(Via::Http1, own("three")), answer);
    assert_eq!(response.status, 404);
    gateway.counts("ssegate_shared_alone_total", &["reason=\"unshared\""], 3.0).await;
}

/// One of them is told why, and the others when to come back.
#[tokio::test]
async fn a_backend_that_fails_is_not_asked_by_all() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "leave: 1h").start().await;
    let sent = send_all(&gateway, vec![(Via::Http1, get("/")); 5]);
    let answers = async {
        let call = upstream.call().await;
        gateway.counts("ssegate_shared_readers", &[], 5.0).await;
        call.answer("503 Service Unavailable", "", "").await;
        upstream.call().await.answer("503 Service Unavailable", "", "busy").await;
    };
    let (responses, ()) = tokio::join!(sent, answers);
    let (told, away): (Vec<_>, Vec<_>) =
        responses.into_iter().partition(|response| response.status == 503);
    assert_eq!((told.len(), away.len()), (1, 4));
    for response in away {
        let (_reason, retry) = response.stream().sent_away().await;
        assert!(retry >= 3000, "{retry}");
    }
}

/// Memory is bounded, and the others do not wait.
#[tokio::test]
async fn a_reader_that_stops_does_not_slow_the_others() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "limits: { bytes: 1MiB }").start().await;
    let (mut quick, mut call) = first(&gateway, &upstream, "/").await;
    let _slow = open(&gateway, Via::Http1, get("/")).await;
    gateway.counts("ssegate_streams", &[], 2.0).await;
    let event = format!("data: {}\n\n", "x".repeat(60_000));
    for _ in 0..400 {
        call.write_chunk(&event).await;
        assert_eq!(data(&mut quick, 1).await[0].len(), 60_000);
    }
    gateway.counts("ssegate_streams_closed_total", &["reason=\"lagged\""], 1.0).await;
    let held = gateway.metrics().await.sum("ssegate_shared_history_bytes", &[]);
    assert!(held <= 1.1 * f64::from(1 << 20), "{held}");
}

/// Running streams stay as they are; what comes after gets the new settings.
#[tokio::test]
async fn a_reload_leaves_running_streams() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "replay: none").start().await;
    let (mut reader, mut call) = first(&gateway, &upstream, "/").await;
    call.write_chunk("data: 1\n\n").await;
    assert_eq!(data(&mut reader, 1).await, ["1"]);
    gateway.rewrite(|yaml| yaml.replace("replay: none", "replay: all"));
    assert!(gateway.reload().await);
    let mut new = open(&gateway, Via::Http1, get("/")).await;
    assert_eq!(data(&mut new, 1).await, ["1"]);
    gateway.rewrite(|yaml| yaml.replace("share: { replay: all }", ""));
    assert!(gateway.reload().await);
    call.write_chunk("data: 2\n\n").await;
    for reader in [&mut reader, &mut new] {
        assert_eq!(data(reader, 1).await, ["2"]);
    }
}

/// Whoever comes is given the new backend, and so are those of the old one once that ends: nobody goes back to it.
#[tokio::test]
async fn a_reload_that_changes_the_backend_counts() {
    let redis = Redis::start().await;
    let (old, new) = (Upstream::start().await, Upstream::start().await);
    let gateway = build(&redis, &old, "leave: 1h").start().await;
    let (mut reader, mut call) = first(&gateway, &old, "/").await;
    let (mut lone, mut lone_call) = first(&gateway, &old, "/lone").await;
    call.write_chunk("retry: 100\n\ndata: old\n\n").await;
    assert_eq!(data(&mut reader, 1).await, ["old"]);
    let (before, after) = (old.address().to_string(), new.address().to_string());
    gateway.rewrite(|yaml| yaml.replace(&before, &after));
    assert!(gateway.reload().await);
    let (mut late, mut new_call) = first(&gateway, &new, "/").await;
    let mut joined = join(&gateway, Via::H2c, get("/")).await;
    call.write_chunk("data: still old\n\n").await;
    assert_eq!(data(&mut reader, 1).await, ["still old"]);
    new_call.write_chunk("data: new\n\n").await;
    for reader in [&mut late, &mut joined] {
        assert_eq!(data(reader, 1).await, ["new"]);
    }
    lone_call.write_chunk("retry: 100\n\n").await;
    // Also where nobody has come since.
    for (reader, mut call) in [(&mut reader, call), (&mut lone, lone_call)] {
        end(&mut call).await;
        drop(call);
        let retry = loop {
            if let Some(retry) = reader.next_block().await.retry {
                break retry;
            }
        };
        assert!((3000..=6000).contains(&retry), "{retry}");
        assert_eq!(reader.end().await, Ok(()));
    }
    gateway.counts("ssegate_shared_ended_total", &["reason=\"replaced\""], 2.0).await;
    new_call.write_chunk("data: newer\n\n").await;
    assert_eq!(data(&mut joined, 1).await, ["newer"]);
    assert_eq!(gateway.metrics().await.sum("ssegate_shared_upstreams", &[]), 1.0);
}

/// `printf %s TOKEN | sha256sum`, of 32 times the letter `a` and `b`.
const ANNA: &str = "3ba3f5f43b92602683c19aee62a20342b084dd5971ddd33808d81a328879a547";
const BEN: &str = "bdb339768bc5e4fecbe55a442056919b2b325907d49bcbf3bf8de13781996a83";

/// Each reader passes `auth` before, and a stream ends with the credential of its reader alone.
#[tokio::test]
async fn readers_have_credentials_of_their_own() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let address = upstream.address();
    let gateway = crate::support::Gateway::build(&redis)
        .route(&format!(
            "- path: /\n  proxy: {{ upstream: \"http://{address}\" }}\n  share: {{ anonymous: true }}\n  \
             auth: {{ tokens: [{{ name: anna, sha256: {ANNA} }}, {{ name: ben, sha256: {BEN} }}] }}\n"
        ))
        .start()
        .await;
    let of =
        |letter: &str| get("/").header("authorization", &format!("Bearer {}", letter.repeat(32)));
    assert_eq!(gateway.send(Via::Http1, get("/")).await.status, 401);
    let answer = async {
        let mut call = upstream.call().await;
        assert_eq!(call.header("authorization"), "");
        call.write(STREAM).await;
        call.write_chunk("data: 1\n\n").await;
        call
    };
    let (mut anna, _call) = tokio::join!(open(&gateway, Via::Http1, of("a")), answer);
    let mut ben = open(&gateway, Via::Http1, of("b")).await;
    for reader in [&mut anna, &mut ben] {
        assert_eq!(data(reader, 1).await, ["1"]);
    }
    assert_eq!(gateway.send(Via::Http1, of("c")).await.status, 401);
}

/// A pump that is asked for nothing more lets go of it, however slowly the backend responds.
#[tokio::test]
async fn waiting_counts_as_a_stream() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "leave: 100ms").start().await;
    let mut waiting = Box::pin(gateway.send(Via::H2c, get("/")));
    let call = tokio::select! {
        call = upstream.call() => call,
        _ = &mut waiting => panic!("nobody has responded"),
    };
    assert_eq!(gateway.metrics().await.sum("ssegate_shared_upstreams", &[]), 1.0);
    drop(waiting);
    within(SOON, "it is cancelled", call.closed()).await;
    eventually(Duration::from_secs(5), "it is gone", async || {
        gateway.metrics().await.sum("ssegate_shared_upstreams", &[]) == 0.0
    })
    .await;
}
