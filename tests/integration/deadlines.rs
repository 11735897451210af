//! Connections that send nothing, or not enough: each is closed in its time.
//!
//! Short times are set, so that the tests are short; `the_times_are_those_of_the_reference` waits
//! for the defaults.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, SETTINGS,
};
use crate::support::{
    Frame, FrameConnection, Gateway, Redis, Request, SOON, TlsClient, Upstream, Via, eventually,
    within,
};

/// What a client sends before it falls silent.
const TLS_BEGINNING: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
const SLOW_HEAD: &[u8] = b"GET /events/news HTTP/1.1\r\nhost: localhost\r\nx-never-ends: ";

/// Sends `bytes`, then nothing; gives the time until the gateway hangs up.
async fn closed_after(to: SocketAddr, bytes: &[u8]) -> Duration {
    let start = Instant::now();
    let mut socket = TcpStream::connect(to).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // An error on reading is a reset: as closed as any.
    let end = socket.read_to_end(&mut answer);
    drop(within(Duration::from_secs(90), "a silent connection is closed", end).await);
    start.elapsed()
}

/// Opens HTTP/2 in clear text, does nothing, and gives the time until the gateway hangs up.
async fn idle_http2(to: SocketAddr, requests: bool) -> Duration {
    let start = Instant::now();
    let mut connection = FrameConnection::open(to, &[]).await;
    if requests {
        connection.send(&Frame::get(1, "/nothing")).await;
    }
    let end = async {
        let goaway = connection.next_of(GOAWAY).await;
        // The last frame after it, if any; what comes on the way is acknowledged.
        while connection.next_of(GOAWAY).await.is_some() {}
        goaway
    };
    let goaway = within(Duration::from_secs(90), "an idle connection is closed", end).await;
    if requests {
        assert_eq!(goaway.expect("a GOAWAY says that this is orderly").goaway_code(), 0);
    }
    start.elapsed()
}

/// Asserts that `measured` is no shorter than `expected`, with a little room for the clocks, and at most
/// four times as long: a busy machine is late. That is still below the default (10 s) where a test sets a
/// shorter time.
fn assert_about(what: &str, measured: Duration, expected: Duration) {
    let (least, most) = (expected.mul_f64(0.8), (4 * expected).min(expected + SOON));
    assert!(measured >= least && measured <= most, "{what}: {measured:?}, not {expected:?}");
}

async fn all_close(gateway: &Gateway, first_request: Duration, idle: Duration) {
    let (http, https) = (gateway.address("http"), gateway.address("https"));
    let (silent, silent_tls, half_tls, preface, head, fresh, used) = tokio::join!(
        closed_after(http, b""),
        closed_after(https, b""),
        closed_after(https, TLS_BEGINNING),
        closed_after(http, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        closed_after(http, SLOW_HEAD),
        idle_http2(http, false),
        idle_http2(http, true),
    );
    assert_about("silent TCP", silent, first_request);
    assert_about("silent TLS", silent_tls, first_request);
    assert_about("half a ClientHello", half_tls, first_request);
    assert_about("a preface and nothing else", preface, first_request);
    assert_about("a head that never ends", head, first_request);
    assert_about("HTTP/2 without a request", fresh, first_request);
    assert_about("HTTP/2 after its last stream", used, idle);
}

#[tokio::test]
async fn who_sends_nothing_is_closed_in_time() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .settings("timeouts: { first_request: 2s, idle: 3s }\nhttp1: { header_timeout: 2s }")
        .start()
        .await;
    all_close(&gateway, Duration::from_secs(2), Duration::from_secs(3)).await;
    let metrics = gateway.metrics().await;
    let cut = metrics.sum("ssegate_connections_cut_total", &[]);
    assert!(cut >= 5.0, "{cut} were cut");
    // The client may hear of the end a moment before it is counted.
    let gone = async || gateway.metrics().await.sum("ssegate_connections", &[]) == 0.0;
    eventually(SOON, "all are gone", gone).await;
}

#[tokio::test]
async fn the_times_are_those_of_the_reference() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    all_close(&gateway, Duration::from_secs(10), Duration::from_secs(60)).await;
}

#[tokio::test]
async fn a_kept_http1_connection_waits_for_its_next_request_as_long_as_for_a_head() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).settings("http1: { header_timeout: 2s }").start().await;
    let first = b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let waited = closed_after(gateway.address("http"), first).await;
    assert_about("between two requests", waited, Duration::from_secs(2));
}

#[tokio::test]
async fn streams_outlive_every_deadline_of_their_connection() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .settings(
            "timeouts: { first_request: 1s, idle: 1s }\nhttp1: { header_timeout: 1s }\n\
             write_timeout: 1s\nsse: { keep_alive: 4s }",
        )
        .start()
        .await;
    let mut streams = Vec::new();
    for via in Via::ALL {
        streams.push(gateway.subscribe_via(via, "/events/news").await);
    }
    for stream in &mut streams {
        stream.next_comment().await;
    }
    redis.publish("news", "still here").await;
    for stream in &mut streams {
        assert_eq!(stream.next_event().await.data, "still here");
    }
}

#[tokio::test]
async fn a_peer_on_http2_is_asked_whether_it_lives() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .settings("http2: { keep_alive_interval: 1s, keep_alive_timeout: 1s }")
        .start()
        .await;
    let mut connection = FrameConnection::open(gateway.address("http"), &[]).await;
    connection.send(&Frame::get(1, "/events/news")).await;
    let ping = within(SOON, "a PING", connection.next_of(PING)).await;
    assert!(ping.is_some_and(|ping| ping.flags == 0));
    // It is not answered.
    let end = async { while connection.next().await.is_some() {} };
    within(SOON, "the connection is closed", end).await;
    gateway.counts("ssegate_streams_closed_total", &[], 1.0).await;
}

/// What a client begins, and does not end soon.
fn unfinished() -> [(&'static str, Vec<u8>); 5] {
    let mut open_block = Frame::get(3, "/events/news");
    open_block.flags &= !END_HEADERS;
    let more = Frame::new(CONTINUATION, 0, 3, &[0; 1 << 14]);
    let whole = |frame: Frame| frame.encode();
    [
        ("the head of a frame", vec![0; 8]),
        ("HEADERS", whole(Frame::new(HEADERS, END_HEADERS, 3, &[0; 1 << 14]))),
        ("a header block", [whole(open_block), whole(more)].concat()),
        ("SETTINGS", whole(Frame::new(SETTINGS, 0, 0, &[0; 6 << 10]))),
        ("a frame that nobody knows", whole(Frame::new(0x7f, 0, 0, &[0; 1 << 14]))),
    ]
}

/// Sends an octet now and then, from the first ones that are left, until the gateway hangs up.
async fn drip(connection: FrameConnection, octets: &[u8], at_once: usize) -> Duration {
    let begun = Instant::now();
    let (mut reading, mut writing) = connection.split();
    let dripping = async {
        writing.write_all(&octets[..at_once]).await.unwrap();
        for octet in &octets[at_once..] {
            tokio::time::sleep(Duration::from_millis(400)).await;
            if writing.write_all(&[*octet]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let closed = async { while reading.next().await.is_some() {} };
    tokio::select! {
        () = dripping => unreachable!("it never ends by itself"),
        () = within(2 * SOON, "the connection is closed", closed) => {}
    }
    begun.elapsed()
}

#[tokio::test]
async fn a_frame_or_a_header_block_that_never_ends_ends_its_connection_beside_an_open_stream() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).settings("http2: { header_timeout: 2s }").start().await;
    let mut tried = tokio::task::JoinSet::new();
    for (what, octets) in unfinished() {
        // From its first octet on, and from somewhere in its middle.
        for at_once in [1, octets.len() * 2 / 3] {
            let mut connection = FrameConnection::open(gateway.address("http"), &[]).await;
            connection.send(&Frame::get(1, "/events/news")).await;
            within(SOON, "the stream's head", connection.next_of(HEADERS)).await.unwrap();
            let octets = octets.clone();
            tried.spawn(async move { (what, at_once, drip(connection, &octets, at_once).await) });
        }
    }
    let count = tried.len();
    while let Some(tried) = tried.join_next().await {
        let (what, at_once, took) = tried.unwrap();
        assert_about(&format!("{what} from {at_once}"), took, Duration::from_secs(2));
    }
    let cut = gateway.metrics().await;
    let cut = cut.sum("ssegate_connections_cut_total", &["reason=\"header_timeout\""]);
    assert_eq!(cut, count as f64);
}

#[tokio::test]
async fn a_body_that_drips_is_passed_on_and_harms_no_stream_beside_it() {
    const BODY: &[u8] = b"one octet after the other";
    let redis = Redis::start().await;
    let backend = Upstream::start().await;
    let gateway = Gateway::build(&redis)
        .settings("http2: { header_timeout: 1s }")
        .route(&backend.route("/{*rest}"))
        .start()
        .await;
    let mut connection = FrameConnection::open(gateway.address("http"), &[]).await;
    connection.send(&Frame::get(1, "/events/news")).await;
    gateway.counts("ssegate_streams", &[], 1.0).await;
    let length = BODY.len().to_string();
    let post = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/upload"),
        (":authority", "localhost"),
        ("content-length", length.as_str()),
    ];
    connection.send(&Frame::request(3, 0, &post)).await;
    let frame = Frame::new(DATA, END_STREAM, 3, BODY).encode();
    let call = tokio::spawn(async move { backend.call().await });
    // Three times as long as a header may take.
    for octet in frame {
        connection.send_bytes(&[octet]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let call = within(SOON, "the whole body", call).await.unwrap();
    assert_eq!(call.body, BODY);
    call.answer("200 OK", "", "").await;
    while within(SOON, "an answer", connection.next_of(HEADERS)).await.unwrap().stream != 3 {}
    redis.has_listener("news").await;
    assert_eq!(redis.publish("news", "x").await, 1);
    connection.data_with("data: x").await;
}

#[tokio::test]
async fn silent_connections_leave_room_for_others() {
    const SILENT: usize = 500;
    let redis = Redis::start().await;
    // With the longer one, who waited for them would wait for ever; with the shorter one they go.
    for first_request in ["1h", "3s"] {
        let settings = format!("timeouts: {{ first_request: {first_request} }}");
        let gateway = Gateway::build(&redis).settings(&settings).start().await;
        let files = gateway.open_files();
        let mut silent = Vec::new();
        for number in 0..SILENT {
            let kind = if number % 2 == 0 { "http" } else { "https" };
            silent.push(TcpStream::connect(gateway.address(kind)).await.unwrap());
        }
        let response = gateway.send(Via::Http2, Request::events("/events/news")).await;
        assert_eq!(response.status, 200);
        if first_request == "1h" {
            let open = gateway.open_files() - files;
            assert!(open >= SILENT, "they are all there still: {open}");
        } else {
            drop(response);
            let closed = async || gateway.open_files() <= files + 2;
            eventually(SOON, "all silent connections are closed", closed).await;
        }
        drop(silent);
    }
}

#[tokio::test]
async fn half_handshakes_leave_room_for_whole_ones() {
    let redis = Redis::start().await;
    // Who waited for them would wait for ever.
    let settings = "limits: { handshakes: 2 }\ntimeouts: { first_request: 1h }";
    let gateway = Gateway::build(&redis).settings(settings).start().await;
    let client = TlsClient::offering(&["h2"]);
    let mut half = Vec::new();
    for _ in 0..100 {
        half.push(client.only_hello(gateway.address("https")).await.unwrap());
    }
    let response = gateway.send(Via::Http2, Request::events("/events/news")).await;
    assert_eq!(response.status, 200);
    drop(half);
}

#[tokio::test]
async fn one_connection_more_than_allowed_is_closed_at_once() {
    let redis = Redis::start().await;
    // It says nothing, and that alone would not close it for an hour.
    let settings = "limits: { connections: 10 }\ntimeouts: { first_request: 1h }";
    let gateway = Gateway::build(&redis).settings(settings).start().await;
    let kept = gateway.subscribe_all("/events/news", 10).await;
    closed_after(gateway.address("http"), b"").await;
    drop(kept);
    let fits = async || gateway.metrics().await.sum("ssegate_streams", &[]) == 0.0;
    eventually(SOON, "the others are gone", fits).await;
    let _again = gateway.subscribe("/events/news").await;
}

#[tokio::test]
async fn without_file_descriptors_it_waits_and_accepts_again() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    gateway.becomes(200, SOON).await;
    let process = Pid::from_raw(i32::try_from(gateway.id()).unwrap());
    let most = |files| Rlimit { current: Some(files), ..getrlimit(Resource::Nofile) };
    let before = prlimit(process, Resource::Nofile, most(8)).unwrap();
    let waiting = TcpStream::connect(gateway.address("http")).await.unwrap();
    gateway.logs("out of file descriptors").await;
    prlimit(process, Resource::Nofile, before).unwrap();

    let _stream = gateway.subscribe("/events/news").await;
    let metrics = gateway.metrics().await;
    assert!(metrics.sum("ssegate_accept_errors_total", &[]) >= 1.0);
    assert_eq!(metrics.sum("ssegate_connections_cut_total", &[]), 0.0, "none was cut");
    drop(waiting);
}
