//! A response that comes before the upload is complete reaches its client, whatever becomes of the
//! rest of the upload; and that is not read without an end.

use std::cell::Cell;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::support::frame_backend::{FrameBackend, head};
use crate::support::frames::{ACK, DATA, END_STREAM, HEADERS, PING, RST_STREAM, WINDOW_UPDATE};
use crate::support::nginx::Nginx;
use crate::support::{
    Frame, FrameConnection, Gateway, Process, Program, Redis, SOON, Via, eventually, read_head,
    within,
};

const MEGABYTE: usize = 1 << 20;

async fn node() -> (Process, u16) {
    node_over("http1").await
}

async fn node_over(kind: &str) -> (Process, u16) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/early_answers.cjs");
    let node = Program::new("/usr/bin/env").args(["node", script, kind]).start();
    eventually(SOON, "the backend listens", async || !node.stdout().is_empty()).await;
    let port = node.stdout()[0].parse().unwrap();
    (node, port)
}

async fn in_front_of(redis: &Redis, port: u16, more: &str, settings: &str) -> Gateway {
    let proxy = format!("upstream: \"http://127.0.0.1:{port}\", {more}");
    let route = format!("- path: /{{*rest}}\n  proxy: {{ {proxy} }}\n");
    Gateway::build(redis).settings(settings).routes(&route).start().await
}

/// What a real curl sees: the status, and its own exit code. It does not ask before it sends.
async fn curl(gateway: &Gateway, via: Via, path: &str, body: &std::path::Path) -> (String, i32) {
    let (scheme, version) = match via {
        Via::Http1 => ("http", "--http1.1"),
        Via::Http1Tls => ("https", "--http1.1"),
        Via::Http2 => ("https", "--http2"),
        Via::H2c => ("http", "--http2-prior-knowledge"),
    };
    let url = format!("{scheme}://{}{path}", gateway.address_for(via));
    let body = format!("@{}", body.display());
    let arguments = ["-sSk", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Expect:", version];
    let program = Program::new("/usr/bin/curl").args(arguments);
    let output = program.args(["--data-binary", &body, &url]).output(2 * SOON).await;
    (output.stdout.clone(), output.code())
}

fn large_body() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'x'; 30 * MEGABYTE]).unwrap();
    file
}

/// curl sees this status in each of so many uploads.
async fn assert_seen(gateway: &Gateway, path: &str, status: &str, runs: usize) {
    let body = large_body();
    for via in Via::ALL {
        for run in 0..runs {
            let (seen, code) = curl(gateway, via, path, body.path()).await;
            assert_eq!(seen, status, "{path} via {via:?}, run {run}, curl {code}");
        }
    }
}

#[tokio::test]
async fn curl_sees_that_nginx_refuses_its_upload() {
    let redis = Redis::start().await;
    for (listen, http2) in [("", false), ("http2", true)] {
        let refuses = "client_max_body_size 1m; location / { return 200; }";
        let nginx = Nginx::listening(listen, refuses).await;
        let more = format!("http2: {http2}");
        let gateway = in_front_of(&redis, nginx.address().port(), &more, "").await;
        assert_seen(&gateway, "/", "413", 4).await;
    }
}

#[tokio::test]
async fn curl_sees_that_node_refuses_its_upload_however_it_closes() {
    let redis = Redis::start().await;
    let (_node, port) = node().await;
    let gateway = in_front_of(&redis, port, "", "").await;
    for how in ["keep", "close", "destroy", "chunks"] {
        assert_seen(&gateway, &format!("/{how}"), "413", 4).await;
    }
}

#[tokio::test]
async fn curl_sees_that_node_refuses_its_upload_over_http2_however_it_closes() {
    let redis = Redis::start().await;
    let (_node, port) = node_over("http2").await;
    let gateway = in_front_of(&redis, port, "http2: true", "").await;
    for how in ["keep", "close", "destroy", "chunks", "reset"] {
        assert_seen(&gateway, &format!("/{how}"), "413", 4).await;
    }
}

#[tokio::test]
async fn curl_sees_that_the_gateway_refuses_its_upload() {
    let redis = Redis::start().await;
    for kind in ["http1", "http2"] {
        let (_node, port) = node_over(kind).await;
        let more = format!("max_body: 1MiB, http2: {}", kind == "http2");
        let gateway = in_front_of(&redis, port, &more, "").await;
        assert_seen(&gateway, "/", "413", 2).await;
    }
    let nowhere = Gateway::start(&redis).await;
    assert_seen(&nowhere, "/nowhere", "404", 2).await;
}

/// Like many clients, this one sends all that it has before it reads.
async fn send_all_then_read(gateway: &Gateway, path: &str, length: usize) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b'x'; MEGABYTE];
    for _ in 0..length / MEGABYTE {
        within(SOON, "it is read", socket.write_all(&piece)).await.unwrap();
    }
    socket
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_gets_the_response_and_keeps_its_connection() {
    let redis = Redis::start().await;
    let (_node, port) = node().await;
    let gateway = in_front_of(&redis, port, "", "").await;
    for how in ["keep", "close", "destroy"] {
        let mut socket = send_all_then_read(&gateway, &format!("/{how}"), 16 * MEGABYTE).await;
        for _ in 0..2 {
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\ntoo large for this backend") {
                let read = within(SOON, "an answer", socket.read_buf(&mut answer)).await.unwrap();
                assert!(read > 0, "{how}: {}", String::from_utf8_lossy(&answer));
            }
            assert!(answer.starts_with(b"HTTP/1.1 413"), "{how}");
            let again = b"POST /keep HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
            socket.write_all(again).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_header_that_is_too_large_is_answered_even_if_all_of_it_is_sent_first() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    for via in [Via::Http1, Via::Http1Tls] {
        let mut io = via.connect(gateway.address_for(via)).await;
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(8 * MEGABYTE));
        within(SOON, "it is read", io.write_all(head.as_bytes())).await.unwrap();
        let response = within(SOON, "an answer", read_head(io, false)).await;
        assert_eq!(response.status, 431, "{via:?}");
    }
}

/// The backend answers before it has been sent all, and goes on reading: both go on.
#[tokio::test]
async fn an_upload_goes_on_for_as_long_as_its_response_does() {
    let redis = Redis::start().await;
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = in_front_of(&redis, backend.local_addr().unwrap().port(), "", "").await;
    let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc").await.unwrap();
    let (mut backend, _) = within(SOON, "a connection", backend.accept()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\nabc") {
        assert!(within(SOON, "a request", backend.read_buf(&mut seen)).await.unwrap() > 0);
    }
    let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
    backend.write_all(answer).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"3\r\nabc\r\n") {
        assert!(within(SOON, "an answer", client.read_buf(&mut answer)).await.unwrap() > 0);
    }
    client.write_all(b"def").await.unwrap();
    let mut rest = [0; 3];
    within(SOON, "the rest", backend.read_exact(&mut rest)).await.unwrap();
    assert_eq!(&rest, b"def");
    backend.write_all(b"3\r\ndef\r\n0\r\n\r\n").await.unwrap();
    while !answer.ends_with(b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n") {
        assert!(within(SOON, "the end", client.read_buf(&mut answer)).await.unwrap() > 0);
    }
}

/// A client that stops half-way still gets the response that has begun.
#[tokio::test]
async fn a_client_that_stops_sending_gets_the_rest_of_the_response() {
    let redis = Redis::start().await;
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = backend.local_addr().unwrap().port();
    let gateway = in_front_of(&redis, port, "idle_timeout: 1s", "").await;
    for half_closes in [false, true] {
        let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
        client
            .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
            .await
            .unwrap();
        let (mut backend, _) = within(SOON, "a connection", backend.accept()).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\nabc") {
            assert!(within(SOON, "a request", backend.read_buf(&mut seen)).await.unwrap() > 0);
        }
        backend.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"abc") {
            assert!(within(SOON, "an answer", client.read_buf(&mut answer)).await.unwrap() > 0);
        }
        if half_closes {
            client.shutdown().await.unwrap();
        }
        // For longer than the upload may pause.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            backend.write_all(b"de").await.unwrap();
        }
        while !answer.ends_with(b"abcdedede") {
            let read = within(SOON, "the rest", client.read_buf(&mut answer)).await.unwrap();
            assert!(read > 0, "{half_closes}: {}", String::from_utf8_lossy(&answer));
        }
    }
}

#[tokio::test]
async fn what_is_left_of_a_request_over_http1_is_not_read_for_ever() {
    let redis = Redis::start().await;
    let (_node, port) = node().await;
    let settings = "timeouts: { lingering_close: 1s }";
    let gateway = in_front_of(&redis, port, "", settings).await;
    let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
    let head = b"POST /keep HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    socket.write_all(head).await.unwrap();
    let (mut read, mut write) = socket.split();
    let send = async {
        // At an even pace, and without an end.
        while write.write_all(b"5\r\nabcde\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let begin = Instant::now();
    let mut answer = Vec::new();
    let receive = async { drop(read.read_to_end(&mut answer).await) };
    within(SOON, "an end", async { tokio::join!(send, receive) }).await;
    assert!(begin.elapsed() >= Duration::from_millis(900), "{:?}", begin.elapsed());
    assert!(answer.starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer));
    assert!(answer.ends_with(b"too large for this backend"));
    gateway.counts("ssegate_connections_cut_total", &["lingering_close"], 1.0).await;
}

#[tokio::test]
async fn what_is_left_of_a_request_over_http2_is_read_for_a_while_and_then_reset_without_an_error()
{
    let redis = Redis::start().await;
    let (_node, port) = node().await;
    let settings = "timeouts: { lingering_close: 2s }";
    let gateway = in_front_of(&redis, port, "", settings).await;
    let mut connection = FrameConnection::open(gateway.address("http"), &[]).await;
    let fields =
        [(":method", "POST"), (":scheme", "http"), (":path", "/keep"), (":authority", "a")];
    connection.send(&Frame::request(1, 0, &fields)).await;
    // As long as it sends.
    let (mut sent, window) = (0, Cell::new(65_535));
    let begin = Instant::now();
    let (mut reading, mut writing) = connection.split();
    let sending = async {
        loop {
            if sent + 1000 <= window.get() {
                let piece = Frame::new(DATA, 0, 1, &[b'x'; 1000]).encode();
                writing.write_all(&piece).await.unwrap();
                sent += 1000;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let receiving = async {
        let mut is_answered = false;
        loop {
            let frame = reading.next().await.expect("the connection goes on");
            match frame.kind {
                WINDOW_UPDATE if frame.stream == 1 => {
                    window.set(window.get() + usize::try_from(frame.number(0)).unwrap());
                }
                DATA | HEADERS => is_answered |= frame.flags & END_STREAM != 0,
                RST_STREAM => {
                    assert!(is_answered, "before the end of the response");
                    return frame.number(0);
                }
                _ => {}
            }
        }
    };
    tokio::select! {
        () = sending => unreachable!("it goes on for ever"),
        code = within(SOON, "a reset", receiving) => assert_eq!(code, 0, "NO_ERROR"),
    }
    assert!(begin.elapsed() >= Duration::from_millis(1900), "{:?}", begin.elapsed());
    assert!(sent > 65_535, "what nobody reads is given back: {sent}");

    // One that stops is waited for no longer than a second or two.
    let mut stopped = FrameConnection::open(gateway.address("http"), &[]).await;
    stopped.send(&Frame::request(1, 0, &fields)).await;
    let reset = within(SOON, "a reset", stopped.next_of(RST_STREAM)).await.unwrap();
    assert_eq!(reset.number(0), 0, "NO_ERROR");
    gateway.counts("ssegate_http2_streams_reset_total", &["lingering_close"], 2.0).await;

    // One that ends is not reset.
    writing.write_all(&Frame::request(3, 0, &fields).encode()).await.unwrap();
    let mut is_ended = false;
    while !is_ended {
        let frame = within(SOON, "a response", reading.next()).await.unwrap();
        is_ended = frame.stream == 3 && frame.flags & END_STREAM != 0;
    }
    let rest = [Frame::new(DATA, END_STREAM, 3, b"abc"), Frame::get(5, "/keep")];
    writing.write_all(&rest.each_ref().map(Frame::encode).concat()).await.unwrap();
    loop {
        let frame = within(SOON, "a response", reading.next()).await.unwrap();
        assert!(frame.kind != RST_STREAM, "{frame:?}");
        if frame.stream == 5 && frame.flags & END_STREAM != 0 {
            break;
        }
    }
}

/// A client over HTTP/2 with a body that it sends as its window allows.
struct Uploading {
    connection: FrameConnection,
    // What may still be sent on stream 1, in octets.
    window: usize,
    left: usize,
    is_answered: bool,
}

impl Uploading {
    async fn begin(gateway: &Gateway, path: &str, more: &[(&str, &str)], left: usize) -> Self {
        let mut connection = FrameConnection::open(gateway.address("http"), &[]).await;
        let fields =
            [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "a")];
        connection.send(&Frame::request(1, 0, &[&fields, more].concat())).await;
        Self { connection, window: 64 << 10, left, is_answered: false }
    }

    /// Sends all that the window allows, in one write.
    async fn send(&mut self) {
        let mut frames = Vec::new();
        while self.window.min(self.left) > 0 {
            let length = self.window.min(self.left).min(16 << 10);
            (self.window, self.left) = (self.window - length, self.left - length);
            let flags = if self.left == 0 { END_STREAM } else { 0 };
            frames.push(Frame::new(DATA, flags, 1, &vec![b'x'; length]));
        }
        self.connection.send_all(frames).await;
    }

    /// Reads a frame; returns whether it acknowledges a PING.
    async fn read(&mut self) -> bool {
        let what = format!("a frame, with a window of {} and {} to send", self.window, self.left);
        let frame = within(SOON, &what, self.connection.next()).await.expect("closed");
        match frame.kind {
            WINDOW_UPDATE if frame.stream == 1 => {
                self.window += usize::try_from(frame.number(0)).unwrap();
            }
            DATA | HEADERS => self.is_answered |= frame.flags & END_STREAM != 0,
            RST_STREAM => panic!("{frame:?} instead of {what}"),
            _ => {}
        }
        frame.kind == PING && frame.flags & ACK != 0
    }

    /// Reads all frames that answer what was sent so far.
    async fn settle(&mut self) {
        self.connection.send(&Frame::new(PING, 0, 0, b"all read")).await;
        while !self.read().await {}
    }
}

#[tokio::test]
async fn a_client_over_http2_whose_window_is_used_up_when_its_upload_is_refused_sends_the_rest() {
    let redis = Redis::start().await;
    let announced = MEGABYTE.to_string();
    for more in [&[][..], &[("content-length", announced.as_str())]] {
        let backend = FrameBackend::start().await;
        let gateway = in_front_of(&redis, backend.address().port(), "http2: true", "").await;
        let mut client = Uploading::begin(&gateway, "/", more, MEGABYTE).await;
        let mut connection = backend.accept(&[]).await;
        let request = within(SOON, "a request", connection.next_of(HEADERS)).await.unwrap();
        client.send().await;
        // The backend takes as much as its window allows at first, and does not open it.
        let mut received = 0;
        while received < 65_535 {
            let data = within(SOON, "the body", connection.next_of(DATA)).await.unwrap();
            received += data.payload.len();
        }
        client.settle().await;
        while client.window > 0 {
            client.send().await;
            client.settle().await;
        }
        assert!(client.left > 0 && !client.is_answered);

        let mut refusal = head(request.stream, &[("content-length", "0")]);
        refusal[0].flags |= END_STREAM;
        connection.send_all(refusal).await;
        while client.left > 0 || !client.is_answered {
            client.send().await;
            if client.left > 0 || !client.is_answered {
                client.read().await;
            }
        }
    }
}

#[tokio::test]
async fn all_that_a_client_over_http2_has_sent_of_an_upload_the_gateway_refuses_it_may_send_again()
{
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    for (path, more) in [("/nowhere", &[][..]), ("/large-header", &[("a", ""); 600])] {
        let mut client = Uploading::begin(&gateway, path, more, MEGABYTE).await;
        client.send().await;
        while client.window < 64 << 10 {
            client.read().await;
        }
        assert!(client.is_answered, "{path}");
    }
}

#[tokio::test]
async fn a_refused_upload_that_was_not_sent_is_not_asked_for() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
    let head =
        b"POST /nowhere HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    socket.write_all(head).await.unwrap();
    let mut line = [0; 12];
    within(SOON, "an answer", socket.read_exact(&mut line)).await.unwrap();
    assert_eq!(&line, b"HTTP/1.1 404");
}
