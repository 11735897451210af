//! What streams of events wait for on a connection that something large is downloaded on as well.

use std::time::{Duration, SystemTime};

use crate::support::frames::{END_STREAM, HEADERS};
use crate::support::{
    Frame, FrameConnection, Gateway, Program, Redis, Relay, SOON, Site, Slowness, Upstream,
    eventually, measured, within,
};

const STREAMS: usize = 200;
const EVENTS: usize = 400;

/// node on a path of 2 MB a second, which takes what it is sent as far as its buffers go.
#[tokio::test(flavor = "multi_thread")]
async fn events_do_not_wait_behind_a_download_on_their_connection() {
    let redis = Redis::start().await;
    let large = Site::start(Box::leak("x".repeat(64 << 20).into_boxed_str())).await;
    let gateway = Gateway::build(&redis).route(&large.route("/large")).start().await;
    let path = Relay::to(gateway.address("http")).await;
    path.slow_down(Some(Slowness { latency: Duration::ZERO, bytes_per_second: 2_000_000 }));

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/http2_latency.cjs");
    let (address, streams) = (path.address().to_string(), STREAMS.to_string());
    let arguments = ["node", script, &address, &streams, &EVENTS.to_string()];
    let node = Program::new("/usr/bin/env").args(arguments).start();
    eventually(2 * SOON, "it downloads", async || !node.stdout().is_empty()).await;
    for number in 0..EVENTS {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let text = format!("{:.3}", now.as_secs_f64() * 1000.0);
        assert_eq!(redis.publish(&format!("c{}", number * 37 % STREAMS), text).await, 1);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    eventually(SOON, "all events are there", async || node.stdout().len() >= 2).await;
    let line = node.stdout()[1].clone();
    measured(&format!("KiB before an event, share of the download, ms until an event: {line}"));
    let numbers: Vec<f64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
    // What came before them: 20 KiB on a quiet machine; before it was bounded, 600 and more.
    assert!(numbers[1] < 200.0, "{line}");
    // Beside one that has its path for itself, so that a busy machine slows both.
    assert!(numbers[2] > 0.2, "the download has what is left: {line}");
}

/// Such as the response to HEAD: it counts as a stream of events no longer than it lasts.
#[tokio::test]
async fn an_event_stream_without_a_body_leaves_its_connection_as_it_was() {
    let redis = Redis::start().await;
    let backend = Upstream::start().await;
    let gateway = Gateway::build(&redis).route(&backend.route("/app")).start().await;
    let mut connection = FrameConnection::open(gateway.address("http"), &[]).await;
    let fields =
        [(":method", "HEAD"), (":scheme", "http"), (":path", "/app"), (":authority", "localhost")];
    connection.send(&Frame::request(1, END_STREAM, &fields)).await;
    let call = within(SOON, "a request", backend.call()).await;
    call.answer("200 OK", "content-type: text/event-stream\r\n", "").await;
    for stream in [1, 3] {
        let head = within(SOON, "a response", connection.next_of(HEADERS)).await;
        assert_eq!(head.expect("the connection has ended").stream, stream);
        connection.send(&Frame::get(stream + 2, "/events/news")).await;
    }
}
