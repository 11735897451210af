//! A client that closes its sending side behind its request, as simple clients and some proxies do,
//! gets its response; and one that has left is noticed all the same.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::{Gateway, Redis, SOON, TlsClient, Upstream, within};

async fn in_front_of(redis: &Redis, upstream: &Upstream, settings: &str) -> Gateway {
    Gateway::build(redis).settings(settings).route(&upstream.route("/site/{*rest}")).start().await
}

/// Sends this, and that nothing follows.
async fn say_all(gateway: &Gateway, request: &str) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    socket
}

/// All that comes.
async fn read_all(socket: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut read = Vec::new();
    within(SOON, "the end", socket.read_to_end(&mut read)).await.unwrap();
    String::from_utf8_lossy(&read).into_owned()
}

async fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while memchr::memmem::find(&read, end.as_bytes()).is_none() {
        let length = within(SOON, end, socket.read_buf(&mut read)).await.unwrap();
        assert!(length > 0, "ended before {end:?}: {}", String::from_utf8_lossy(&read));
    }
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn a_client_that_closes_its_side_gets_our_own_response() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    for version in ["1.0", "1.1"] {
        let request = format!("GET /nowhere HTTP/{version}\r\nHost: a\r\n\r\n");
        let read = read_all(&mut say_all(&gateway, &request).await).await;
        assert!(read.starts_with(&format!("HTTP/{version} 404 ")), "{read}");
        assert!(read.contains("\r\n\r\n404 Not Found: no route matches /nowhere\n"), "{read}");
        assert!(read.ends_with(" gateway.yaml.\n"), "{read}");
    }
}

#[tokio::test]
async fn a_client_that_closes_its_side_gets_the_response_of_a_backend_that_takes_its_time() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, "").await;
    for version in ["1.0", "1.1"] {
        for request in [
            format!("GET /site/ HTTP/{version}\r\nHost: a\r\n\r\n"),
            format!("POST /site/ HTTP/{version}\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"),
        ] {
            let mut socket = say_all(&gateway, &request).await;
            let mut call = upstream.call().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
            call.write(format!("{head}4\r\nhalf\r\n")).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            call.write("4\r\nmore\r\n0\r\n\r\n").await;
            let read = read_all(&mut socket).await;
            assert!(read.starts_with(&format!("HTTP/{version} 200 OK")), "{read}");
            assert!(read.contains("half") && read.contains("more"), "{read}");
        }
    }
}

#[tokio::test]
async fn a_client_that_closes_its_side_over_tls_gets_its_response() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, "").await;
    let tls = TlsClient::offering(&["http/1.1"]);
    let mut socket = tls.connect(gateway.address("https")).await.unwrap();
    socket.write_all(b"GET /site/ HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    // TLS says so too: `close_notify`.
    socket.shutdown().await.unwrap();
    let call = upstream.call().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    call.answer("200 OK", "", "all of it").await;
    let read = read_all(&mut socket).await;
    assert!(read.ends_with("\r\n\r\nall of it"), "{read}");
}

#[tokio::test]
async fn a_client_that_closes_its_side_gets_all_of_a_large_response_and_each_that_it_asked_for() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, "").await;
    let request = "GET /site/ HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2);
    let mut socket = say_all(&gateway, &request).await;
    let serve = async {
        for _ in 0..2 {
            let body = "x".repeat(8 << 20);
            upstream.call().await.answer("200 OK", "", &body).await;
        }
    };
    let (read, ()) = tokio::join!(read_all(&mut socket), serve);
    assert_eq!(read.matches("HTTP/1.1 200 OK").count(), 2);
    assert_eq!(read.matches('x').count(), 16 << 20);
}

const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                      transfer-encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n1\r\n\n\r\n";

#[tokio::test]
async fn an_event_stream_goes_on_for_a_client_that_closes_its_side() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    // Less than the pauses below.
    let gateway = in_front_of(&redis, &upstream, "http1: { half_close: 2s }").await;
    for version in ["1.0", "1.1"] {
        let request = format!("GET /events/news HTTP/{version}\r\nHost: a\r\n\r\n");
        let mut socket = say_all(&gateway, &request).await;
        read_until(&mut socket, ": ready").await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        redis.publish("news", "still here").await;
        read_until(&mut socket, "data: still here").await;
    }

    let mut socket = say_all(&gateway, "GET /site/ HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut call = upstream.call().await;
    call.write(EVENTS).await;
    read_until(&mut socket, "data: 1").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    call.write("9\r\ndata: 2\n\n\r\n").await;
    read_until(&mut socket, "data: 2").await;
}

#[tokio::test]
async fn a_client_that_leaves_an_event_stream_is_noticed_soon() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    // Longer than anybody would wait: it is noticed by what is written.
    let settings = "http1: { half_close: 5m }";
    let gateway = in_front_of(&redis, &upstream, settings).await;
    let left = async |expected: f64| {
        let labels = ["reason=\"client_left\""];
        gateway.counts("ssegate_streams_closed_total", &labels, expected).await;
    };
    for (count, version) in [(1.0, "1.1"), (2.0, "1.0")] {
        let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
        let request = format!("GET /events/news HTTP/{version}\r\nHost: a\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut socket, ": ready").await;
        drop(socket);
        left(count).await;
    }
    let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
    socket.write_all(b"GET /site/ HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut call = upstream.call().await;
    call.write(EVENTS).await;
    read_until(&mut socket, "data: 1").await;
    drop(socket);
    call.closed().await;
    left(3.0).await;
}

#[tokio::test]
async fn a_client_that_leaves_is_waited_for_no_longer_than_the_configuration_says() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    // Sooner than the default of 10 s.
    for (half_close, least, most) in [("0s", 0, 7500), ("2s", 1900, 9500)] {
        let settings = format!("http1: {{ half_close: {half_close} }}");
        let gateway = in_front_of(&redis, &upstream, &settings).await;
        for has_begun in [false, true] {
            let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
            socket.write_all(b"GET /site/ HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut call = upstream.call().await;
            let begin = Instant::now();
            socket.shutdown().await.unwrap();
            if has_begun {
                call.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").await;
            }
            call.closed().await;
            let took = begin.elapsed().as_millis();
            assert!((least..most).contains(&took), "{half_close}, {has_begun}: {took} ms");
        }
    }
}
