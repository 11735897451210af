//! HTTP/2 settings as a peer sees them, and what happens beyond them.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE,
};
use crate::support::{
    Frame, FrameConnection, Gateway, Http2, Redis, Request, SOON, Upstream, Via, within,
};

/// Error codes of RFC 9113.
const ENHANCE_YOUR_CALM: u32 = 11;

async fn gateway() -> (Redis, Gateway) {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    (redis, gateway)
}

async fn connection(gateway: &Gateway) -> FrameConnection {
    FrameConnection::open(gateway.address("http"), &[]).await
}

/// Waits for the GOAWAY, and gives its code.
async fn goaway(connection: &mut FrameConnection) -> u32 {
    let frame = within(SOON, "a GOAWAY", connection.next_of(GOAWAY)).await;
    frame.expect("closed without a GOAWAY").goaway_code()
}

/// Checks that somebody else is served as if nothing were happening.
async fn assert_others_are_served(gateway: &Gateway) {
    let stream = gateway.subscribe_via(Via::Http2, "/events/news").await;
    assert!(!stream.has_ended());
}

#[tokio::test]
async fn settings_are_those_of_the_reference() {
    let (_redis, gateway) = gateway().await;
    let mut connection = connection(&gateway).await;
    let settings = within(SOON, "SETTINGS", connection.next_of(SETTINGS)).await.unwrap().settings();
    let value = |name| settings.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    assert_eq!(value(3), Some(256), "MAX_CONCURRENT_STREAMS");
    assert_eq!(value(4), Some(64 << 10), "INITIAL_WINDOW_SIZE");
    assert_eq!(value(6), Some(16 << 10), "MAX_HEADER_LIST_SIZE");

    let update = within(SOON, "WINDOW_UPDATE", connection.next_of(WINDOW_UPDATE)).await.unwrap();
    assert_eq!((update.stream, update.number(0)), (0, (1 << 20) - 65_535), "connection window");
}

#[tokio::test]
async fn the_257th_stream_waits_or_is_refused_and_harms_no_other() {
    let (redis, gateway) = gateway().await;
    let mut connection = connection(&gateway).await;
    within(SOON, "SETTINGS", connection.next_of(SETTINGS)).await.unwrap();
    connection.send_all((0..257).map(|number| Frame::get(2 * number + 1, "/events/news"))).await;
    let refused = within(SOON, "RST_STREAM", connection.next_of(RST_STREAM)).await.unwrap();
    assert_eq!((refused.stream, refused.number(0)), (513, 7), "REFUSED_STREAM");
    gateway.counts("ssegate_streams", &[], 256.0).await;
    redis.has_listener("news").await;
    assert_eq!(redis.publish("news", "x").await, 1);
    connection.data_with("data: x").await;
    let refused = [r#"reason="max_concurrent_streams""#];
    gateway.counts("ssegate_http2_streams_reset_total", &refused, 1.0).await;
}

#[tokio::test]
async fn large_headers_get_431_and_the_connection_lives() {
    let (_redis, gateway) = gateway().await;
    let connection = Http2::connect(Via::Http2, gateway.address("https")).await;
    for kib in [17, 40] {
        let large = Request::get("/events/news").header("x-large", &"x".repeat(kib << 10));
        // A client that respects MAX_HEADER_LIST_SIZE does not send it: `h2` does.
        let response = within(SOON, "a response", connection.try_send(large)).await.unwrap();
        assert_eq!(response.status, 431, "{kib} KiB");
    }
    let fits = Request::get("/events/news").header("x-large", &"x".repeat(14 << 10));
    assert_eq!(connection.send(fits).await.status, 200);
    let rejected = [r#"reason="header""#];
    gateway.counts("ssegate_http_requests_rejected_total", &rejected, 2.0).await;
}

#[tokio::test]
async fn large_headers_over_http1_get_431() {
    let (_redis, gateway) = gateway().await;
    for via in [Via::Http1, Via::Http1Tls] {
        let large = Request::get("/events/news").header("x-large", &"x".repeat(40 << 10));
        assert_eq!(gateway.send(via, large).await.status, 431, "{via:?}");
        let fits = Request::get("/events/news").header("x-large", &"x".repeat(24 << 10));
        assert_eq!(gateway.send(via, fits).await.status, 200, "{via:?}");
    }
}

#[tokio::test]
async fn a_burst_of_requests_that_are_reset_ends_the_connection() {
    let (_redis, gateway) = gateway().await;
    let mut connection = connection(&gateway).await;
    let pairs = (0..2000).flat_map(|number| {
        let stream = 2 * number + 1;
        [Frame::get(stream, "/events/news"), reset(stream)]
    });
    connection.send_all(pairs).await;
    assert_eq!(goaway(&mut connection).await, ENHANCE_YOUR_CALM);
    assert_others_are_served(&gateway).await;
}

#[tokio::test]
async fn paced_requests_that_are_reset_end_the_connection_too() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = Gateway::build(&redis).route(&upstream.route("/{*rest}")).start().await;
    let connection = connection(&gateway).await;

    // One at a time: each request reaches the backend before it is reset, until the connection ends.
    let mut reached = 0;
    let (mut reading, mut writing) = connection.split();
    let attack = async {
        loop {
            let stream = 2 * reached + 1;
            // A connection that has ended takes no more.
            drop(writing.write_all(&Frame::get(stream, "/slow").encode()).await);
            let call = upstream.call().await;
            reached += 1;
            drop(writing.write_all(&reset(stream).encode()).await);
            call.closed().await;
        }
    };
    let end = async {
        let goaway = reading.next_of(GOAWAY).await.expect("closed without a GOAWAY");
        while reading.next_of(GOAWAY).await.is_some() {}
        goaway.goaway_code()
    };
    let code = tokio::select! {
        code = within(4 * SOON, "the end of the connection", end) => code,
        () = attack => unreachable!("it never ends by itself"),
    };
    assert_eq!(code, ENHANCE_YOUR_CALM);
    assert!((50..=110).contains(&reached), "{reached} requests reached the backend");
    assert_others_are_served(&gateway).await;
}

/// RFC 9113, section 6.8: what it had opened before it said so goes on; what comes late is ignored.
#[tokio::test]
async fn a_client_that_opens_no_more_streams_keeps_those_that_it_has() {
    let (redis, gateway) = gateway().await;
    let mut connection = connection(&gateway).await;
    connection.send(&Frame::get(1, "/events/news")).await;
    gateway.counts("ssegate_streams", &[], 1.0).await;
    connection.send(&Frame::new(GOAWAY, 0, 0, &[0; 8])).await;
    let mut late = Frame::get(3, "/events/news");
    late.flags &= !END_STREAM;
    let data = Frame::new(DATA, 0, 3, b"late");
    let update = Frame::new(WINDOW_UPDATE, 0, 3, &1_u32.to_be_bytes());
    connection.send_all([late, data, update, reset(3)]).await;
    connection.send(&Frame::new(PING, 0, 0, b"all read")).await;
    let pong = async { while connection.next_of(PING).await.unwrap().payload != b"all read" {} };
    within(SOON, "an answer to the PING", pong).await;
    redis.has_listener("news").await;
    assert_eq!(redis.publish("news", "x").await, 1);
    connection.data_with("data: x").await;
}

#[tokio::test]
async fn streams_that_are_left_after_a_while_do_not_end_the_connection() {
    let (_redis, gateway) = gateway().await;
    let mut connection = connection(&gateway).await;
    within(SOON, "SETTINGS", connection.next_of(SETTINGS)).await.unwrap();
    let streams = || (0..150).map(|number| 2 * number + 1);
    connection.send_all(streams().map(|stream| Frame::get(stream, "/events/news"))).await;
    gateway.counts("ssegate_streams", &[], 150.0).await;
    // What is left within a second of its begin is left too early.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    connection.send_all(streams().map(reset)).await;
    gateway.counts("ssegate_streams_closed_total", &[], 150.0).await;
    connection.send(&Frame::get(301, "/events/news")).await;
    gateway.counts("ssegate_streams", &[], 1.0).await;
}

fn reset(stream: u32) -> Frame {
    Frame::new(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

#[tokio::test]
async fn errors_that_make_us_reset_streams_end_the_connection() {
    let (_redis, gateway) = gateway().await;
    let mut connection = connection(&gateway).await;
    // Each window overflows: an error of its stream, so that we are the ones who reset it.
    let overflow = |stream| Frame::new(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
    let pairs = (0..500).flat_map(|number| {
        let stream = 2 * number + 1;
        [Frame::get(stream, "/events/news"), overflow(stream)]
    });
    connection.send_all(pairs).await;
    assert_eq!(goaway(&mut connection).await, ENHANCE_YOUR_CALM);
    assert_others_are_served(&gateway).await;
}

#[tokio::test]
async fn a_head_without_end_ends_the_connection() {
    let (_redis, gateway) = gateway().await;
    let mut connection = connection(&gateway).await;
    let mut head = Frame::get(1, "/events/news");
    head.flags = END_STREAM;
    let more = (0..100).map(|_| Frame::new(CONTINUATION, 0, 1, b"\x00\x01a\x01b"));
    connection.send_all(std::iter::once(head).chain(more)).await;
    assert_eq!(goaway(&mut connection).await, ENHANCE_YOUR_CALM);
    assert_others_are_served(&gateway).await;
}

#[tokio::test]
async fn a_header_that_grows_when_it_is_unpacked_ends_the_connection() {
    let (_redis, gateway) = gateway().await;
    let mut connection = connection(&gateway).await;
    // One entry of 4,000 bytes for the dynamic table, then 8,000 references to it.
    let mut block = Frame::get(1, "/events/news").payload;
    block.extend(b"\x40\x01x\x7f\xa1\x1e");
    block.extend([b'y'; 4000]);
    block.extend([0x80 | 62; 8000]);
    connection.send(&Frame::new(HEADERS, END_STREAM | END_HEADERS, 1, &block)).await;
    assert_eq!(goaway(&mut connection).await, ENHANCE_YOUR_CALM);
    assert_others_are_served(&gateway).await;
}

#[tokio::test]
async fn empty_data_without_end_ends_the_connection() {
    let (_redis, gateway) = gateway().await;
    let mut connection = connection(&gateway).await;
    let post = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/events/news"),
        (":authority", "localhost"),
    ];
    let empty = (0..2000).map(|_| Frame::new(DATA, 0, 1, b""));
    connection.send_all(std::iter::once(Frame::request(1, 0, &post)).chain(empty)).await;
    within(SOON, "the end of the connection", async {
        while let Some(frame) = connection.next().await {
            if frame.kind == RST_STREAM || frame.kind == GOAWAY {
                break;
            }
        }
    })
    .await;
    assert_others_are_served(&gateway).await;
}

#[tokio::test]
async fn a_flood_of_pings_delays_nobody_and_fills_no_memory() {
    let (redis, gateway) = gateway().await;
    let mut other = gateway.subscribe_via(Via::Http2, "/events/news").await;
    let memory = gateway.resident_bytes();
    let mut connection = connection(&gateway).await;
    let flood = async {
        // Nothing is read: the answers pile up, or the gateway stops to read.
        loop {
            connection.send_all((0..100).map(|_| Frame::new(PING, 0, 0, b"12345678"))).await;
        }
    };
    let deliver = async {
        for number in 0..200 {
            redis.publish("news", number.to_string()).await;
            // The flood goes on until all of them are there.
            assert_eq!(other.next_event().await.data, number.to_string());
        }
    };
    tokio::select! {
        never = flood => never,
        () = deliver => {}
    }
    let grown = gateway.resident_bytes().saturating_sub(memory);
    assert!(grown < 8 << 20, "{} KiB", grown >> 10);
}
