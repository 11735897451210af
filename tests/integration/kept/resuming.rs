//! Clients that come back: to the address of a stream, with the same request, and by its name.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{OWNER, STREAM, build, end, ended, events, get, open, post};
use crate::support::{
    Gateway, Redis, Request, SOON, Upstream, Via, eventually, read_exactly, within,
};

/// Whatever was lost of a stream that still runs, over every protocol.
#[tokio::test]
async fn a_client_gets_the_rest_and_what_follows() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, OWNER).start().await;
    for via in Via::ALL {
        let (mut response, mut call) =
            open(&gateway, &upstream, (via, post("/chat", "{}")), STREAM).await;
        let stream = response.header("ssegate-stream").to_owned();
        let location = response.header("location").to_owned();
        call.write_chunk("data: 1\n\ndata: 2\n\ndata: 3\n\n").await;
        read_exactly(&mut response.body, &events(&stream, 1..=3)).await;
        drop(response);
        for (target, id, first) in [
            (location.clone(), "", 1),
            (location.clone(), "1", 2),
            (format!("{location}?last_event_id={stream}-2"), "", 3),
            (format!("{location}?after=1"), "", 2),
            (format!("{location}?after=0"), "", 1),
            // The header counts: it is newer than the URL of an `EventSource`.
            (format!("{location}?after=0"), "2", 3),
        ] {
            let mut request = get(&target);
            if !id.is_empty() {
                request = request.header("last-event-id", &format!("{stream}-{id}"));
            }
            let mut resumed = gateway.send(via, request).await;
            assert_eq!((resumed.status, resumed.header("cache-control")), (200, "no-store"));
            read_exactly(&mut resumed.body, &events(&stream, first..=3)).await;
        }
        let live = get(&location).header("last-event-id", &format!("{stream}-3"));
        let mut one = gateway.send(via, live.clone()).await;
        let mut other = gateway.send(Via::H2c, live).await;
        call.write_chunk("data: 4\n\n").await;
        for reader in [&mut one, &mut other] {
            read_exactly(&mut reader.body, &events(&stream, 4..=4)).await;
        }
        end(&mut call).await;
        for mut reader in [one, other] {
            assert!(within(SOON, "the end", reader.body.rest()).await.unwrap().is_empty());
        }
        let all_read = get(&location).header("last-event-id", &format!("{stream}-4"));
        let response = gateway.send(via, all_read).await;
        assert_eq!((response.status, response.header("cache-control")), (204, "no-store"));
        let head = gateway.send(via, Request { method: "HEAD".into(), ..get(&location) }).await;
        assert_eq!(head.status, 200);
        assert_eq!((head.header("ssegate-state"), head.header("ssegate-last")), ("ended", "4"));
        assert_eq!(gateway.send(via, get(&location)).await.text().await, events(&stream, 1..=4));
    }
    gateway.counts("ssegate_kept_resumes_total", &["by=\"address\""], 4.0 * 9.0).await;
}

/// The backend is asked once, and never again for the same.
#[tokio::test]
async fn the_same_request_again_does_not_reach_the_backend() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, &format!("{OWNER}, after_end: 1s")).start().await;
    let response = ended(&gateway, &upstream, 3).await;
    let stream = response.header("ssegate-stream").to_owned();
    let last = |request: Request, number: usize| {
        request.header("last-event-id", &format!("{stream}-{number}"))
    };
    for via in Via::ALL {
        let again = gateway.send(via, last(post("/chat", "{}"), 1)).await;
        assert_eq!((again.status, again.header("ssegate-stream")), (200, &*stream), "{via:?}");
        assert_eq!(again.text().await, events(&stream, 2..=3));
        let all_read = gateway.send(via, last(post("/chat", "{}"), 3)).await;
        assert_eq!((all_read.status, all_read.header("cache-control")), (204, "no-store"));
        // fetch-event-source takes 204 for an error, and would repeat its POST for ever.
        let all_read = last(post("/chat", "{}"), 3).header("accept", "text/event-stream");
        let all_read = gateway.send(via, all_read).await;
        assert_eq!((all_read.status, all_read.header("content-type")), (200, "text/event-stream"));
        assert_eq!(all_read.text().await, "");
    }
    // Other requests of the same client: the backend does not know the id.
    for other in [
        post("/chat", "{\"next\":1}"),
        post("/chat?x=1", "{}"),
        post("/other", "{}"),
        Request { method: "PUT".into(), ..post("/chat", "{}") },
    ] {
        let (_, call) = open(&gateway, &upstream, (Via::Http1, last(other, 1)), STREAM).await;
        assert_eq!(call.header("last-event-id"), "");
    }
    // Requests with an id that nobody has given.
    let foreign = post("/chat", "{}").header("last-event-id", &format!("{}-1", "a".repeat(26)));
    assert_eq!(gateway.send(Via::Http1, foreign).await.status, 410);
    let anonymous = Request::new("POST", "/chat").body(b"{}");
    assert_eq!(gateway.send(Via::Http1, last(anonymous, 1)).await.status, 410);
    // And when it is gone, there is no second generation either.
    within(2 * SOON, "it is forgotten", async {
        loop {
            let response = gateway.send(Via::Http1, last(post("/chat", "{}"), 1)).await;
            if response.status == 410 {
                assert_eq!(response.header("cache-control"), "no-store");
                return;
            }
            assert_eq!(response.status, 200);
        }
    })
    .await;
    let address = format!("/.ssegate/kept/{stream}");
    assert_eq!(gateway.send(Via::Http1, get(&address)).await.status, 404);
}

/// A backend that begins before it has all of the request: what cannot be compared is not generated twice.
#[tokio::test]
async fn a_request_that_may_be_the_same_is_refused() {
    let redis = Redis::start().await;
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = backend.local_addr().unwrap();
    let gateway = Gateway::build(&redis)
        .route(&format!(
            "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{address}\" }}\n  keep: {{ {OWNER} }}\n"
        ))
        .start()
        .await;
    let mut client = TcpStream::connect(gateway.address_for(Via::Http1)).await.unwrap();
    let half = "POST /chat HTTP/1.1\r\nhost: a\r\nauthorization: Bearer anna\r\ncontent-length: 2\r\n\r\n{";
    client.write_all(half.as_bytes()).await.unwrap();
    let (mut call, _) = within(SOON, "the request", backend.accept()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"{") {
        within(SOON, "its beginning", call.read_buf(&mut seen)).await.unwrap();
    }
    call.write_all(format!("{STREAM}9\r\ndata: 1\n\n\r\n").as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    let stream = loop {
        within(SOON, "the response", client.read_buf(&mut seen)).await.unwrap();
        let text = String::from_utf8_lossy(&seen);
        if let Some((_, rest)) = text.split_once("\nid: ")
            && let Some((stream, _)) = rest.split_once("-1\n\n")
        {
            break stream.to_owned();
        }
    };
    let again = || post("/chat", "{}").host("a").header("last-event-id", &format!("{stream}-1"));
    assert_eq!(gateway.send(Via::Http1, again()).await.status, 410);
    // It can be compared once all of it has come.
    client.write_all(b"}").await.unwrap();
    while !seen.ends_with(b"}") {
        within(SOON, "the rest", call.read_buf(&mut seen)).await.unwrap();
    }
    call.write_all(b"0\r\n\r\n").await.unwrap();
    eventually(SOON, "it is known as the same", async || {
        gateway.send(Via::Http1, again()).await.status == 204
    })
    .await;
}

/// An `EventSource` comes back to the URL that it knows.
#[tokio::test]
async fn an_event_source_continues_at_its_own_url_and_stops_at_the_end() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, OWNER).start().await;
    let ask = || Request::events("/stream?a=1").header("cookie", "session=1");
    let (mut response, mut call) = open(&gateway, &upstream, (Via::Http2, ask()), STREAM).await;
    let stream = response.header("ssegate-stream").to_owned();
    call.write_chunk("data: 1\n\ndata: 2\n\n").await;
    read_exactly(&mut response.body, &events(&stream, 1..=2)).await;
    drop(response);
    end(&mut call).await;
    let again = ask().header("last-event-id", &format!("{stream}-1"));
    assert_eq!(gateway.send(Via::Http2, again).await.text().await, events(&stream, 2..=2));
    let in_query = Request::events(&format!("/stream?a=1&lastEventId={stream}-1"));
    let in_query = in_query.header("cookie", "session=1");
    assert_eq!(gateway.send(Via::Http2, in_query).await.text().await, events(&stream, 2..=2));
    let again = ask().header("last-event-id", &format!("{stream}-2"));
    assert_eq!(gateway.send(Via::Http2, again).await.status, 204);
}

/// However a stream has ended: whoever has all of it, and asks again by itself, is told to stop.
#[tokio::test]
async fn whoever_has_all_of_a_stream_is_not_asked_to_come_back() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, OWNER).start().await;
    for (round, (what, events, id)) in [
        ("ended", "", ""),
        ("ended", ": nothing\n\n", ""),
        ("ended", "data: 1\n\n", "ours"),
        ("ended", "id: a\ndata: 1\n\n", "a"),
        ("cancelled", "data: 1\n\n", "ours"),
        ("cancelled", "id: a\ndata: 1\n\n", "a"),
        ("lost", "data: 1\n\n", "ours"),
        ("lost", "id: a\ndata: 1\n\n", "a"),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/stream?round={round}");
        let ask = || Request::events(&target).header("authorization", "Bearer anna");
        let (mut response, mut call) = open(&gateway, &upstream, (Via::Http1, ask()), STREAM).await;
        let location = response.header("location").to_owned();
        let id = match id {
            "ours" => format!("{}-1", response.header("ssegate-stream")),
            other => other.to_owned(),
        };
        if !events.is_empty() {
            call.write_chunk(events).await;
            within(SOON, "what was written", response.body.chunk()).await.unwrap();
        }
        match what {
            "ended" => end(&mut call).await,
            "lost" => call.reset(),
            _ => {
                let delete = Request { method: "DELETE".into(), ..get(&location) };
                assert_eq!(gateway.send(Via::Http1, delete).await.status, 204);
            }
        }
        drop(within(SOON, "the end", response.body.rest()).await);
        // Where a loss is told by a cut, 410: an `EventSource` takes that for the end, too.
        let expected = if what == "lost" { 410 } else { 204 };
        let with_id = |request: Request| match id.as_str() {
            "" => request,
            id => request.header("last-event-id", id),
        };
        for via in Via::ALL {
            let again = gateway.send(via, with_id(get(&location))).await;
            assert_eq!(again.status, expected, "{what} {events:?}");
        }
        if !id.is_empty() {
            let again = gateway.send(Via::Http2, with_id(ask())).await;
            assert_eq!(again.status, expected, "{what} {events:?}, the same request");
        }
    }
}

/// The AI SDK asks for the running stream of a chat.
#[tokio::test]
async fn the_running_stream_of_a_name_is_found_where_the_route_says() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let keep = "key: [\"header:x-id\", \"body:/id\"], resume_at: \"{path}/{key}/stream\"";
    let gateway = build(&redis, &upstream, &format!("{OWNER}, {keep}")).start().await;
    let resume = async |request: Request| gateway.send(Via::Http1, request).await;
    assert_eq!(resume(get("/api/chat/c%201/stream")).await.status, 204, "not there yet");
    let ask = post("/api/chat", "{\"id\":\"c 1\"}");
    let (mut response, mut call) = open(&gateway, &upstream, (Via::Http1, ask), STREAM).await;
    assert_eq!(call.body, b"{\"id\":\"c 1\"}", "the body that was read reaches the backend");
    let stream = response.header("ssegate-stream").to_owned();
    call.write_chunk("data: 1\n\n").await;
    read_exactly(&mut response.body, &events(&stream, 1..=1)).await;
    drop(response);
    for other in [
        get("/api/chat/c2/stream"),
        get("/api/other/c%201/stream"),
        Request::get("/api/chat/c%201/stream").header("authorization", "Bearer bert"),
        Request::get("/api/chat/c%201/stream"),
    ] {
        let response = resume(other).await;
        assert_eq!((response.status, response.header("cache-control")), (204, "no-store"));
    }
    let mut again = resume(get("/api/chat/c%201/stream")).await;
    read_exactly(&mut again.body, &events(&stream, 1..=1)).await;
    call.write_chunk("data: 2\n\n").await;
    read_exactly(&mut again.body, &events(&stream, 2..=2)).await;
    end(&mut call).await;
    assert!(again.body.rest().await.unwrap().is_empty());
    assert_eq!(resume(get("/api/chat/c%201/stream")).await.status, 204, "it has ended");
    // A header comes before the body.
    let ask = post("/api/chat", "{\"id\":\"c 1\"}").header("x-id", "h");
    let (_response, _call) = open(&gateway, &upstream, (Via::Http1, ask), STREAM).await;
    assert_eq!(resume(get("/api/chat/h/stream")).await.status, 200);
}

/// What may be done at the address of a stream may be done at its place, and the backend sees none of it.
#[tokio::test]
async fn the_place_of_a_name_is_the_gateways_for_every_method() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let address = upstream.address();
    let gateway = Gateway::build(&redis)
        .route(&format!(
            "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{address}\" }}\n  \
             keep: {{ {OWNER}, key: [\"header:x-id\"], resume_at: \"{{path}}/{{key}}/stream\" }}\n  \
             cors: {{ origins: [\"https://app.example\"], credentials: true }}\n"
        ))
        .start()
        .await;
    let place = "/chat/c/stream";
    let of = |method: &str| Request { method: method.into(), ..get(place) };
    for via in Via::ALL {
        for method in ["GET", "HEAD", "DELETE"] {
            let response = gateway.send(via, of(method)).await;
            let seen = (response.status, response.header("cache-control"));
            assert_eq!(seen, (204, "no-store"), "{method}: there is none");
        }
        let ask = || post("/chat", "{}").header("x-id", "c");
        let (mut one, mut call) = open(&gateway, &upstream, (via, ask()), STREAM).await;
        let (mut other, mut other_call) = open(&gateway, &upstream, (via, ask()), STREAM).await;
        call.write_chunk("data: 1\n\n").await;
        drop(one.body.until("\n\n").await);
        other_call.write_chunk("data: 1\n\ndata: 2\n\n").await;
        drop(other.body.until("data: 2").await);
        let stream = other.header("ssegate-stream").to_owned();
        let head = gateway.send(via, of("HEAD")).await;
        let told = ["ssegate-stream", "ssegate-state", "ssegate-last", "cache-control"];
        let told = told.map(|name| head.header(name));
        assert_eq!((head.status, told), (200, [&*stream, "running", "2", "no-store"]), "{via:?}");
        for method in ["POST", "PUT", "PATCH", "QUERY"] {
            let refused = gateway.send(via, of(method).header("x-id", "c")).await;
            assert_eq!(
                (refused.status, refused.header("allow")),
                (405, "GET, HEAD, DELETE"),
                "{method}"
            );
        }
        let preflight = Request::new("OPTIONS", place)
            .header("origin", "https://app.example")
            .header("access-control-request-method", "DELETE");
        let preflight = gateway.send(via, preflight).await;
        assert_eq!(preflight.status, 204);
        assert!(preflight.header("access-control-allow-methods").contains("DELETE"));
        assert_eq!(gateway.send(via, of("OPTIONS")).await.status, 405, "no preflight");
        // Others have nothing there, and pages that are not listed may not stop it.
        let bert = Request::new("DELETE", place).header("authorization", "Bearer bert");
        assert_eq!(gateway.send(via, bert).await.status, 204);
        let foreign = of("DELETE").header("origin", "https://evil.example");
        assert_eq!(gateway.send(via, foreign).await.status, 403);
        assert_eq!(gateway.send(via, of("HEAD")).await.header("ssegate-state"), "running");
        assert_eq!(gateway.send(via, of("DELETE")).await.status, 204);
        for (mut response, call) in [(one, call), (other, other_call)] {
            call.closed().await;
            drop(within(SOON, "the end", response.body.rest()).await.unwrap());
        }
        let head = gateway.send(via, of("HEAD")).await;
        assert_eq!((head.status, head.header("ssegate-state")), (204, "cancelled"));
        assert_eq!(gateway.send(via, of("DELETE")).await.status, 204, "again");
    }
    let metrics = gateway.metrics().await;
    let asked = metrics.sum("ssegate_kept_passed_total", &[]);
    assert!(asked < 0.5, "{asked}");
}

/// A body that is too large for a name passes as it is.
#[tokio::test]
async fn a_large_body_passes_and_has_no_name() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let keep = "key: [\"body:/id\"], resume_at: \"{path}/{key}/stream\"";
    let gateway = build(&redis, &upstream, &format!("{OWNER}, {keep}")).start().await;
    for via in Via::ALL {
        let body = format!("{{\"id\":\"c\",\"text\":\"{}\"}}", "x".repeat(3 << 20));
        let (response, call) =
            open(&gateway, &upstream, (via, post("/api/chat", &body)), STREAM).await;
        assert!(call.body == body.as_bytes(), "{via:?}: {} bytes", call.body.len());
        assert_ne!(response.header("ssegate-stream"), "");
        let resumed = gateway.send(via, get("/api/chat/c/stream")).await;
        assert_eq!(resumed.status, 204);
    }
}
