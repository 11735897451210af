//! Each limit, hit: what is told, what is counted, and that nobody else is harmed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::attacks::crowd::Crowd;
use crate::attacks::table::judge;
use crate::slow_readers::{numbered, stalled};
use crate::support::{
    EventStream, Gateway, Http2, Redis, Request, SOON, TlsClient, Upstream, Via, eventually, within,
};

/// Sends a request, and gives all that comes back; nothing where the connection is closed at once.
async fn exchange(to: SocketAddr, request: &str) -> String {
    let mut answer = Vec::new();
    if let Ok(mut socket) = TcpStream::connect(to).await {
        drop(socket.write_all(request.as_bytes()).await);
        drop(within(SOON, "an end", socket.read_to_end(&mut answer)).await);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

const GET: &str = "GET /nothing HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// A stream that is sent away for a while.
async fn sent_away(stream: EventStream, reason: &str) {
    let (told, retry) = stream.sent_away().await;
    assert_eq!(told, reason);
    assert!((3000..=6000).contains(&retry), "{retry}");
}

#[tokio::test]
async fn connections_of_one_address() {
    let redis = Redis::start().await;
    let gateway =
        Gateway::build(&redis).settings("limits: { connections_per_address: 3 }").start().await;
    let mut kept = gateway.subscribe_all("/events/news", 3).await;
    assert_eq!(exchange(gateway.address("http"), GET).await, "", "closed without a word");
    let cut = ["reason=\"connections_per_address\""];
    gateway.counts("ssegate_connections_cut_total", &cut, 1.0).await;
    redis.publish("news", "still here").await;
    for stream in &mut kept {
        assert_eq!(stream.next_event().await.data, "still here");
    }
    drop(kept.pop());
    let let_in = async || !exchange(gateway.address("http"), GET).await.is_empty();
    eventually(SOON, "one may come when one has left", let_in).await;
}

#[tokio::test]
async fn new_connections_of_one_address() {
    let redis = Redis::start().await;
    let gateway =
        Gateway::build(&redis).settings("limits: { new_connections_per_address: 5 }").start().await;
    let to = gateway.address("http");
    let burst: JoinSet<String> = (0..40).map(|_| exchange(to, GET)).collect();
    let answered = burst.join_all().await.iter().filter(|answer| !answer.is_empty()).count();
    assert!((5..20).contains(&answered), "{answered} of 40");
    let cut = ["reason=\"new_connections_per_address\""];
    gateway.counts("ssegate_connections_cut_total", &cut, 20.0).await;
    let let_in = async || !exchange(to, GET).await.is_empty();
    eventually(SOON, "and later again", let_in).await;
}

#[tokio::test]
async fn requests_of_one_address() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .settings("limits: { requests_per_address: 5 }\ntrusted_proxies: [127.0.0.1]")
        .start()
        .await;
    let of = |client: &str| Request::events("/nothing").header("x-forwarded-for", client);
    let connection = Http2::connect(Via::Http2, gateway.address("https")).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let page = Request::get("/nothing").header("x-forwarded-for", "192.0.2.1");
        let response = connection.send(page).await;
        assert_eq!(response.status == 429, response.header("retry-after") == "3");
        statuses.push(response.status);
    }
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert!(statuses[..5].iter().all(|status| *status == 404) && refused > 5, "{statuses:?}");
    let reason = "too many requests from this address";
    sent_away(connection.send(of("192.0.2.1")).await.stream(), reason).await;
    assert_eq!(connection.send(of("192.0.2.2")).await.status, 404, "that is another client");
    let reason = ["reason=\"requests_per_address\""];
    let counted = gateway.metrics().await.sum("ssegate_http_requests_rejected_total", &reason);
    assert_eq!(counted, f64::from(u32::try_from(refused + 1).unwrap()));
}

#[tokio::test]
async fn new_channels_of_one_address() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .settings("limits: { new_channels_per_address: 3 }\nshards: 1")
        .start()
        .await;
    let mut open = Vec::new();
    for channel in ["a", "b", "c"] {
        open.push(gateway.subscribe(&format!("/events/{channel}")).await);
    }
    let late = async || gateway.send(Via::Http1, Request::events("/events/d")).await.stream();
    sent_away(late().await, "too many new channels from this address").await;
    // What is followed already costs nothing.
    for channel in ["a", "b", "c"] {
        open.push(gateway.subscribe(&format!("/events/{channel}")).await);
    }
    let reason = ["reason=\"new_channels_per_address\""];
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_http_requests_rejected_total", &reason), 1.0);
    let opens = async || {
        let mut late = late().await;
        late.next_block().await;
        late.block().await.is_some()
    };
    eventually(SOON, "and later it opens", opens).await;
}

#[tokio::test]
async fn channels_of_one_stream_and_of_all() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .settings("max_channels: 3\nsse: { max_channels: 2, linger: 1h }")
        .start()
        .await;
    let many = Request::events("/events?channel=a&channel=b&channel=c");
    assert_eq!(gateway.send(Via::Http2, many).await.status, 400, "it would always be too many");
    let rejected = ["reason=\"max_channels\""];
    gateway.counts("ssegate_http_requests_rejected_total", &rejected, 1.0).await;
    let mut open = vec![gateway.subscribe("/events?channel=a&channel=b").await];
    open.push(gateway.subscribe("/events?channel=c").await);
    let mut away = gateway.send(Via::Http2, Request::events("/events?channel=d")).await.stream();
    while away.block().await.is_some() {}
    assert_eq!(away.end().await, Ok(()));
    gateway.counts("ssegate_channels_refused_total", &[], 1.0).await;
    gateway.counts("ssegate_streams_closed_total", &["reason=\"refused\""], 1.0).await;
    redis.publish("c", "still here").await;
    assert_eq!(open[1].next_event().await.data, "still here");
}

#[tokio::test]
async fn the_length_of_an_address() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).settings("limits: { uri: 100 }").start().await;
    for via in Via::ALL {
        let of =
            |length: usize| Request::events(&format!("/events?channel={}", "x".repeat(length)));
        assert_eq!(gateway.send(via, of(100 - 16)).await.status, 200, "{via:?}");
        let long = gateway.send(via, of(101 - 16)).await;
        assert_eq!(long.status, 414, "{via:?}");
        assert!(long.text().await.contains("longer than 100 bytes"));
    }
    let reason = ["reason=\"uri\""];
    gateway.counts("ssegate_http_requests_rejected_total", &reason, 4.0).await;
}

#[tokio::test]
async fn the_size_of_a_header_is_counted() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    let answer = exchange(gateway.address("http"), &large).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let reason = ["reason=\"header\""];
    gateway.counts("ssegate_http_requests_rejected_total", &reason, 1.0).await;
}

#[tokio::test]
async fn the_size_of_a_body() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let large = upstream.route("/large").replace(" }", ", max_body: off }");
    let gateway = Gateway::build(&redis)
        .settings("limits: { body: 1KiB }")
        .routes(&large)
        .route(&upstream.route("/{*rest}"))
        .start()
        .await;
    let post = |target: &str, bytes: usize| Request::new("POST", target).body(&vec![b'x'; bytes]);
    for via in Via::ALL {
        assert_eq!(gateway.send(via, post("/form", 1025)).await.status, 413, "{via:?}");
        let (response, ()) = tokio::join!(gateway.send(via, post("/form", 1024)), async {
            let call = upstream.call().await;
            assert_eq!(call.body.len(), 1024);
            call.answer("200 OK", "", "taken").await;
        });
        assert_eq!(response.text().await, "taken", "{via:?}");
    }
    let (response, ()) = tokio::join!(gateway.send(Via::Http1, post("/large", 100_000)), async {
        let call = upstream.call().await;
        assert_eq!(call.body.len(), 100_000);
        call.answer("200 OK", "", "taken").await;
    });
    assert_eq!(response.text().await, "taken", "the route allows it");

    // Chunks do not say beforehand how many come.
    let chunks = format!(
        "POST /form HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n\
         3e8\r\n{0}\r\n3e8\r\n{0}\r\n0\r\n\r\n",
        "x".repeat(1000)
    );
    let answer = exchange(gateway.address("http"), &chunks).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let reason = ["reason=\"body\""];
    gateway.counts("ssegate_http_requests_rejected_total", &reason, 5.0).await;
}

#[tokio::test]
async fn the_memory_of_all_queues() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .settings("limits: { queue_memory: 2MiB }\nsse: { queue: { bytes: 16MiB } }")
        .start()
        .await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        slow.push(stalled(gateway.address("http"), "/events/news").await);
    }
    let mut reader = gateway.subscribe("/events/news").await;
    for number in 0..60 {
        redis.publish("news", numbered(number, 64 << 10)).await;
        assert_eq!(reader.next_event().await.data.trim_end(), number.to_string());
        let held = gateway.metrics().await.sum("ssegate_queue_bytes", &[]);
        assert!(held <= f64::from(3 << 20), "{held}");
    }
    let reason = ["reason=\"queue_memory\""];
    gateway.counts("ssegate_streams_closed_total", &reason, 1.0).await;
    let closed = gateway.metrics().await.sum("ssegate_streams_closed_total", &["client_left"]);
    assert_eq!(closed, 0.0);
}

#[tokio::test]
async fn the_memory_of_the_bus() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .redis_url("embedded://127.0.0.1:0")
        .settings("limits: { bus_memory: 40MiB }")
        .start()
        .await;
    let mut stream = gateway.subscribe("/events/news").await;
    let before = gateway.resident_bytes();
    let head = format!("*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n${}\r\n", 15_000_000);
    let part = vec![b'x'; 14_000_000];
    let mut standing = Vec::new();
    for _ in 0..30 {
        let mut socket = TcpStream::connect(gateway.address("bus")).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        // It may be cut meanwhile.
        drop(socket.write_all(&part).await);
        standing.push(socket);
    }
    let reason = ["reason=\"memory\""];
    gateway.counts("ssegate_bus_connections_cut_total", &reason, 20.0).await;
    let metrics = gateway.metrics().await;
    assert!(metrics.sum("ssegate_bus_memory_bytes", &[]) <= f64::from(41 << 20));
    let more = gateway.resident_bytes().saturating_sub(before);
    assert!(more < 120 << 20, "{} MiB more", more >> 20);
    let url = format!("redis://{}", gateway.address("bus"));
    crate::support::run(["pub", "news", "hello", "--redis", &url]).await.success();
    assert_eq!(stream.next_event().await.data, "hello");

    // What is no RESP is told once in a while, and counted.
    for _ in 0..200 {
        let page = exchange(gateway.address("bus"), "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(page, "");
    }
    gateway.counts("ssegate_bus_connections_cut_total", &["reason=\"http\""], 200.0).await;
    let told = gateway
        .log()
        .lines()
        .filter(|line| line.contains("HTTP request on the port of the embedded bus"))
        .count();
    assert!((1..4).contains(&told), "{told} lines");
}

#[tokio::test]
async fn handshakes_at_once() {
    let redis = Redis::start().await;
    let gateway =
        Gateway::build(&redis).settings("limits: { handshakes: 1 }\nshards: 1").start().await;
    let https = gateway.address("https");
    let handshakes = (0..50).map(|_| async move {
        TlsClient::offering(&["h2"]).connect(https).await.expect("each has its turn")
    });
    let all: JoinSet<_> = handshakes.collect();
    assert_eq!(within(SOON, "all handshakes", all.join_all()).await.len(), 50);
    gateway.counts("ssegate_tls_handshakes_delayed_total", &[], 1.0).await;
}

#[tokio::test]
async fn too_few_file_descriptors_to_serve_are_refused_at_the_start_with_the_number() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let yaml = |limit: &str| {
        let gateway = Gateway::build(&redis).settings("shards: 2").route(&upstream.route("/x"));
        gateway.under(&["prlimit", &format!("--nofile={limit}")])
    };
    let mut needed = String::new();
    for limit in ["12", "40", "50"] {
        let dir = tempfile::tempdir().unwrap();
        for command in ["run", "check"] {
            let program = yaml(limit).program(dir.path(), command);
            let output = program.output(SOON).await;
            assert_eq!(output.code(), 1, "{output:?}");
            let said: Vec<_> =
                output.stderr.lines().filter(|line| !line.starts_with('{')).collect();
            assert_eq!(said.len(), 1, "{output:?}");
            let words = format!("may open {limit} files, and serving needs ");
            let (_, rest) = said[0].split_once(&words).unwrap_or_else(|| panic!("{output:?}"));
            needed = rest.split(' ').next().unwrap().to_owned();
        }
    }
    // With so many it does serve: events, backends and operators.
    let gateway = yaml(&needed).start().await;
    gateway.becomes(200, SOON).await;
    let mut streams = gateway.subscribe_all("/events/news", 8).await;
    redis.publish("news", "hello").await;
    for stream in &mut streams {
        assert_eq!(stream.next_event().await.data, "hello");
    }
    let (response, ()) = tokio::join!(gateway.get("/x"), async {
        upstream.call().await.answer("200 OK", "", "served").await;
    });
    assert_eq!(response.text().await, "served");
    assert_eq!(gateway.metrics().await.sum("ssegate_streams", &[]), 8.0);
    assert!(gateway.open_files() <= needed.parse().unwrap());
    let less = (needed.parse::<usize>().unwrap() - 1).to_string();
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(yaml(&less).program(dir.path(), "run").output(SOON).await.code(), 1);
}

/// Row 29 of the fault matrix: 256 file descriptors, and more clients than that.
#[tokio::test]
async fn file_descriptors() {
    let redis = Arc::new(Redis::start().await);
    let gateway = Gateway::build(&redis).under(&["prlimit", "--nofile=256"]).start().await;
    let gateway = Arc::new(gateway);
    gateway.becomes(200, SOON).await;
    let crowd = Crowd::gather(&gateway, &redis).await;
    let to = gateway.address("http");
    let mut streams = gateway.subscribe_all("/events/news", 100).await;
    let mut waiting: JoinSet<_> = JoinSet::new();
    let ((idle, used), toll) = crowd
        .under(async {
            // Those who said nothing give way; then there are too many streams.
            let mut idle = Vec::new();
            for _ in 0..100 {
                idle.push(TcpStream::connect(to).await.unwrap());
            }
            gateway.counts("ssegate_accept_pauses_total", &[], 1.0).await;
            let reason = ["reason=\"file_descriptors\""];
            gateway.counts("ssegate_connections_cut_total", &reason, 10.0).await;
            // They wait for all that follows here.
            for _ in 0..150 {
                let request = Request::events("/events/news");
                waiting.spawn(request.send_within(8 * SOON, Via::Http1, to));
            }
            let full = async || gateway.metrics().await.sum("ssegate_streams", &[]) >= 185.0;
            eventually(SOON, "it is full", full).await;
            // It does not spin.
            let (cpu, start) = (gateway.cpu_time(), Instant::now());
            tokio::time::sleep(Duration::from_secs(2)).await;
            let used = (gateway.cpu_time() - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
            (idle, used)
        })
        .await;
    judge("more clients than file descriptors", &toll, &[("of a processor, full", 0.2, used)]);

    // Redis and operators are served all the same.
    redis.command::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    gateway.counts("ssegate_redis_reconnects_total", &[], 1.0).await;
    let is_back = async || gateway.admin("/readyz?exclude=descriptors").await.status == 200;
    eventually(SOON, "Redis is back", is_back).await;
    assert_eq!(gateway.readiness().await, 503, "new clients are served elsewhere");
    redis.publish("news", "still here").await;
    for stream in &mut streams {
        while stream.next_event().await.data != "still here" {}
    }
    assert!(gateway.open_files() < 256);

    drop(streams);
    while let Some(stream) = within(SOON, "those who waited", waiting.join_next()).await {
        assert_eq!(stream.unwrap().status, 200);
    }
    gateway.becomes(200, SOON).await;
    drop(idle);
}
