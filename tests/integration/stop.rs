//! The orderly end: not ready, nothing new, each stream sent away with its own `retry:`, running
//! requests finished, exit 0.

use std::time::Duration;

use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::support::frames::{DATA, GOAWAY, HEADERS};
use crate::support::{
    Frame, FrameConnection, Gateway, Redis, Request, SOON, TlsClient, Upstream, Via, eventually,
    within,
};

#[tokio::test]
async fn streams_are_sent_away_with_a_time_of_their_own_to_come_back() {
    for signal in [Signal::TERM, Signal::INT] {
        let redis = Redis::start().await;
        let mut gateway = Gateway::start(&redis).await;
        let mut streams = gateway.subscribe_all("/events/news", 40).await;
        for via in Via::ALL {
            streams.push(gateway.subscribe_via(via, "/events/news").await);
        }
        gateway.signal(signal);

        let mut retries = std::collections::BTreeSet::new();
        for mut stream in streams {
            let retry = stream.next_word().await.retry.expect("a time to come back");
            assert!((100..=60_000).contains(&retry), "{retry}");
            retries.insert(retry);
            assert_eq!(stream.end().await, Ok(()), "a clean end");
        }
        assert!(retries.len() > 10, "not all at once: {retries:?}");
        assert_eq!(gateway.exit_within(SOON).await.code(), Some(0), "{signal:?}");
    }
}

#[tokio::test]
async fn what_was_published_before_the_end_arrives_before_the_end() {
    let redis = Redis::start().await;
    let mut gateway = Gateway::start(&redis).await;
    let mut stream = gateway.subscribe("/events/news").await;
    redis.publish_all("news", (0..100).map(|number| number.to_string())).await;
    gateway.counts("ssegate_redis_messages_received_total", &[], 100.0).await;
    gateway.terminate();
    for number in 0..100 {
        assert_eq!(stream.next_event().await.data, number.to_string());
    }
    assert_eq!(stream.end().await, Ok(()));
    assert!(gateway.exit_within(SOON).await.success());
}

#[tokio::test]
async fn http2_says_goodbye() {
    let redis = Redis::start().await;
    let mut gateway = Gateway::start(&redis).await;
    let mut connection = FrameConnection::open(gateway.address("http"), &[]).await;
    connection.send(&Frame::get(1, "/events/news")).await;
    within(SOON, "HEADERS", connection.next_of(HEADERS)).await.unwrap();
    within(SOON, "DATA", connection.next_of(DATA)).await.unwrap();
    gateway.terminate();

    let goaway = within(SOON, "a GOAWAY", connection.next_of(GOAWAY)).await.unwrap();
    assert_eq!(goaway.goaway_code(), 0);
    let end = async { while connection.next_of(GOAWAY).await.is_some() {} };
    within(SOON, "the end", end).await;
    assert!(gateway.exit_within(SOON).await.success());
}

#[tokio::test]
async fn who_connected_and_said_nothing_does_not_hold_the_stop() {
    let redis = Redis::start().await;
    // Who waited for them would wait for an hour.
    let settings = "drain: 1h\ntimeouts: { first_request: 1h }";
    let mut gateway = Gateway::build(&redis).settings(settings).start().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(gateway.address("http")).await.unwrap());
        silent.push(TcpStream::connect(gateway.address("https")).await.unwrap());
        let half = TlsClient::offering(&["h2"]).only_hello(gateway.address("https")).await;
        silent.push(half.unwrap());
    }
    gateway.counts("ssegate_connections_accepted_total", &[], 60.0).await;
    gateway.terminate();
    assert!(gateway.exit_within(SOON).await.success());
    drop(silent);
}

#[tokio::test]
async fn who_connects_while_it_stops_does_not_hold_the_stop() {
    let redis = Redis::start().await;
    let settings = "drain: 1h\ntimeouts: { first_request: 1h }";
    let mut gateway = Gateway::build(&redis).settings(settings).start().await;
    let address = gateway.address("http");
    let mut silent = Vec::new();
    let connect = async {
        while let Ok(stream) = TcpStream::connect(address).await {
            silent.push(stream);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let terminate = async {
        gateway.counts("ssegate_connections_accepted_total", &[], 20.0).await;
        gateway.terminate();
    };
    tokio::join!(within(SOON, "nobody new is let in", connect), terminate);
    assert!(gateway.exit_within(SOON).await.success());
}

#[tokio::test]
async fn a_request_that_runs_is_finished() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::build(&redis).route(&upstream.route("/{*rest}")).start().await;
    let mut running = Vec::new();
    for via in Via::ALL {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        running.push(tokio::join!(gateway.send(via, Request::get("/slow")), async {
            let mut call = upstream.call().await;
            call.write(head).await;
            call
        }));
    }
    let address = gateway.address("http");
    gateway.terminate();
    let refused = async || TcpStream::connect(address).await.is_err();
    eventually(SOON, "nobody new is let in", refused).await;

    for (response, mut call) in running {
        call.write("6\r\n, last\r\n0\r\n\r\n").await;
        assert_eq!(response.text().await, "first, last");
    }
    assert_eq!(gateway.exit_within(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn while_it_stops_it_is_alive_but_not_ready() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::build(&redis).route(&upstream.route("/{*rest}")).start().await;
    gateway.becomes(200, SOON).await;
    let (_response, call) = tokio::join!(gateway.get("/slow"), async {
        let mut call = upstream.call().await;
        call.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na").await;
        call
    });
    gateway.terminate();
    gateway.becomes(503, SOON).await;
    assert_eq!(gateway.admin("/readyz?exclude=redis").await.status, 503);
    assert_eq!(gateway.admin("/livez").await.status, 200);
    let mut call = call;
    call.write("b").await;
    assert!(gateway.exit_within(SOON).await.success());
}

#[tokio::test]
async fn a_request_on_a_connection_that_is_still_open_is_sent_away() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::build(&redis).route(&upstream.route("/{*rest}")).start().await;
    let connection = crate::support::Http2::connect(Via::Http2, gateway.address("https")).await;
    let (response, mut call) = tokio::join!(connection.send(Request::get("/slow")), async {
        let mut call = upstream.call().await;
        call.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na").await;
        call
    });
    gateway.terminate();
    let address = gateway.address("http");
    let refused = async || TcpStream::connect(address).await.is_err();
    eventually(SOON, "nobody new is let in", refused).await;
    // Either the GOAWAY has come, or the stream is sent away: it never opens for good.
    if let Ok(late) = connection.try_send(Request::events("/events/news")).await {
        let mut late = late.stream();
        assert_eq!(late.end().await, Ok(()));
    }
    call.write("b").await;
    assert_eq!(response.text().await, "ab");
    assert!(gateway.exit_within(SOON).await.success());
}

#[tokio::test]
async fn a_deadline_ends_what_does_not_end_by_itself() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::build(&redis)
        .settings("drain: 2s")
        .route(&upstream.route("/{*rest}"))
        .start()
        .await;
    let (_response, _call) = tokio::join!(gateway.get("/slow"), async {
        let mut call = upstream.call().await;
        call.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na").await;
        call
    });
    gateway.terminate();
    let status = gateway.exit_within(Duration::from_secs(2) + SOON).await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::build(&redis)
        .settings("drain: 1h")
        .route(&upstream.route("/{*rest}"))
        .start()
        .await;
    gateway.becomes(200, SOON).await;
    let (_response, _call) = tokio::join!(gateway.get("/slow"), async {
        let mut call = upstream.call().await;
        call.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na").await;
        call
    });
    gateway.terminate();
    gateway.becomes(503, SOON).await;
    gateway.terminate();
    gateway.exit_within(SOON).await;
}

#[tokio::test]
async fn it_stops_while_redis_is_away_and_while_nobody_is_there() {
    let redis = Redis::stopped(&[]);
    let mut gateway = Gateway::start(&redis).await;
    let mut stream = gateway.open("/events/news").await;
    gateway.terminate();
    assert_eq!(stream.end().await, Ok(()));
    assert!(gateway.exit_within(SOON).await.success());

    let mut gateway = Gateway::start(&redis).await;
    gateway.terminate();
    assert!(gateway.exit_within(SOON).await.success());
}
