//! Requests over HTTP/2 that are none, beside the stream of somebody else on the same connection, as where
//! a proxy shares it between its users: each is answered 400, and held against nobody.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::frames::{
    ACK, DATA, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, WINDOW_UPDATE,
};
use crate::support::recorder::{Recorder, RequestEnd};
use crate::support::{
    Frame, FrameConnection, Gateway, Program, Redis, Request, SOON, Via, eventually, within,
};

const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

type Fields = Vec<(&'static str, &'static str)>;

/// A connection with the stream of somebody else on it, and what has come of the others.
struct Shared {
    connection: FrameConnection,
    next: u32,
}

/// How a request ended.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    status: u16,
    text: String,
    /// The code, where its stream was reset.
    reset: Option<u32>,
}

impl Shared {
    async fn open(gateway: &Gateway, via: Via) -> Self {
        let io = via.connect(gateway.address_for(via)).await;
        let mut connection = FrameConnection::over(io);
        connection.greet(&[]).await;
        connection.send(&Frame::get(1, "/events/news")).await;
        gateway.counts("ssegate_streams", &[], 1.0).await;
        Self { connection, next: 3 }
    }

    /// Sends a request, with `body` where it has one, and waits for what becomes of it.
    async fn ask(&mut self, fields: &[(&str, &str)], body: Option<&[u8]>) -> Outcome {
        let stream = self.next;
        self.next += 2;
        let flags = if body.is_none() { END_STREAM } else { 0 };
        self.connection.send(&Frame::request(stream, flags, fields)).await;
        if let Some(body) = body {
            self.connection.send(&Frame::new(DATA, END_STREAM, stream, body)).await;
        }
        within(SOON, &format!("an end of {fields:?}"), Box::pin(self.outcome(stream))).await
    }

    async fn outcome(&mut self, stream: u32) -> Outcome {
        let mut outcome = Outcome { status: 0, text: String::new(), reset: None };
        let mut asks = true;
        loop {
            let frame = self.connection.next().await.expect("the connection has ended");
            assert_ne!(frame.kind, GOAWAY, "code {}", frame.goaway_code());
            if frame.kind == PING && frame.flags & ACK != 0 {
                return outcome;
            }
            if frame.stream != stream {
                continue;
            }
            match frame.kind {
                HEADERS => outcome.status = status(&frame),
                DATA => outcome.text.push_str(&String::from_utf8_lossy(&frame.payload)),
                RST_STREAM => outcome.reset = Some(frame.number(0)),
                _ => {}
            }
            let is_over = frame.kind != RST_STREAM && frame.flags & END_STREAM != 0;
            if (is_over || outcome.status == 200) && std::mem::take(&mut asks) {
                // What is sent behind the end has been sent before this is answered.
                self.connection.send(&Frame::new(PING, 0, 0, b"and then")).await;
            }
        }
    }

    /// The stream of somebody else goes on.
    async fn assert_other_lives(mut self, redis: &Redis) {
        redis.has_listener("news").await;
        assert_eq!(redis.publish("news", "still here").await, 1);
        let event = async {
            loop {
                let frame = self.connection.next_of(DATA).await.expect("the connection has ended");
                let text = String::from_utf8_lossy(&frame.payload);
                if frame.stream == 1 && text.contains("data: still here\n") {
                    return;
                }
            }
        };
        within(SOON, "an event", event).await;
    }
}

/// The status of a response, as the gateway writes it: by the static table, or its three digits.
fn status(frame: &Frame) -> u16 {
    let block = frame.payload.strip_prefix(&[0x20]).unwrap_or(&frame.payload);
    match block {
        [0x88, ..] => 200,
        [0x8c, ..] => 400,
        [0x08, 3, digits @ ..] => std::str::from_utf8(&digits[..3]).unwrap().parse().unwrap(),
        _ => panic!("{frame:?}"),
    }
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/events/other"), (":authority", "a")];

fn with(more: &[(&'static str, &'static str)]) -> Fields {
    [&GET[..], more].concat()
}

fn but(name: &str, value: &'static str) -> Fields {
    GET.map(|(other, old)| (other, if other == name { value } else { old })).to_vec()
}

/// Only we refuse these.
fn refused() -> Vec<(Fields, &'static str)> {
    let control = "the value of last-event-id contains a control character";
    vec![
        (with(&[("last-event-id", "a\u{1}b")]), control),
        (with(&[("last-event-id", "a\u{7f}b")]), control),
        (with(&[("a(b", "1")]), "token"),
        (but(":path", "/events/other?x=<"), ":path"),
        (but(":path", "/events/o ther"), ":path"),
        (but(":method", "G(T"), ":method"),
        (but(":scheme", ""), ":scheme"),
        (but(":scheme", "ftp"), ":scheme"),
        (but(":authority", "a,b"), ":authority"),
        (but(":authority", "a:99999"), ":authority"),
        (but(":authority", "a:"), ":authority"),
        (but(":authority", "me@a"), ":authority"),
        (but(":authority", ""), ":authority"),
        ([&GET[..3], &[("host", "a,b")]].concat(), "host"),
    ]
}

/// RFC 9113, section 8.1.1, calls these malformed.
fn malformed() -> Vec<(Fields, &'static str)> {
    let value = "the value of last-event-id contains NUL or a line break";
    vec![
        (with(&[("last-event-id", "a\0b")]), value),
        (with(&[("last-event-id", "a\nb")]), value),
        (with(&[("last-event-id", "a\rb")]), value),
        (with(&[("last-event-id", " ab")]), value),
        (with(&[("Last-Event-ID", "ab")]), "a field name that HTTP/2 does not allow"),
        (with(&[("connection", "close")]), "connection"),
        (with(&[("content-length", "3")]), "content-length"),
        (but(":path", ""), ":path"),
        (GET[..2].to_vec(), ":path"),
    ]
}

#[tokio::test]
async fn a_request_that_is_none_gets_400_and_the_streams_beside_it_go_on() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    for via in [Via::H2c, Via::Http2] {
        let mut shared = Shared::open(&gateway, via).await;
        for (lists, reset) in [(refused(), None), (malformed(), Some(PROTOCOL_ERROR))] {
            for (fields, what) in lists {
                let outcome = shared.ask(&fields, None).await;
                assert_eq!((outcome.status, outcome.reset), (400, reset), "{fields:?}");
                assert!(outcome.text.contains(what), "{fields:?}: {}", outcome.text);
            }
        }
        for id in ["ab", "a\tb", "\u{e9}"] {
            let outcome = shared.ask(&with(&[("last-event-id", id)]), None).await;
            assert_eq!((outcome.status, outcome.reset), (200, None), "{id:?}");
        }
        shared.assert_other_lives(&redis).await;
    }
    let count = 2.0 * (refused().len() + malformed().len()) as f64;
    let counted = [r#"reason="malformed""#];
    gateway.counts("ssegate_http_requests_rejected_total", &counted, count).await;
}

#[tokio::test]
async fn an_id_with_a_control_character_is_400_over_http1_as_well() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    for id in ["a\u{1}b", "a\u{7f}b", "a\0b"] {
        let request = Request::events("/events/news").header("last-event-id", id);
        assert_eq!(gateway.send(Via::Http1, request).await.status, 400, "{id:?}");
    }
}

#[tokio::test]
async fn hundreds_of_requests_that_are_none_end_no_connection() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut shared = Shared::open(&gateway, Via::H2c).await;
    for number in 0..300 {
        let fields = match number % 3 {
            0 => but(":path", "/events/other?x=<"),
            1 => with(&[("last-event-id", "a\u{1}b")]),
            _ => with(&[("connection", "close")]),
        };
        assert_eq!(shared.ask(&fields, None).await.status, 400);
    }
    shared.assert_other_lives(&redis).await;
}

/// curl sends what it is told: `<` in a query is not encoded.
#[tokio::test]
async fn curl_gets_400_for_each_of_many_bad_addresses_on_one_connection() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let url = format!("https://{}/events/news?x=<&n=[1-150]", gateway.address("https"));
    let shown = "%{http_code} %{num_connects}\\n";
    let curl = ["-sk", "--http2", "-o", "/dev/null", "-w", shown, url.as_str()];
    let output = Program::new("/usr/bin/curl").args(curl).output(2 * SOON).await.success();
    let mut lines: Vec<_> = output.lines().collect();
    assert_eq!(lines.remove(0), "400 1", "the first request connects");
    assert_eq!(lines, ["400 0"; 149]);
}

#[tokio::test]
async fn a_fault_on_a_stream_that_was_answered_is_forgotten_in_time() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut shared = Shared::open(&gateway, Via::H2c).await;
    for _ in 0..200 {
        let stream = shared.next;
        assert_eq!(shared.ask(&GET, None).await.status, 200);
        // By 0: an error of the stream (RFC 9113, section 6.9).
        let update = Frame::new(WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes());
        shared.connection.send(&update).await;
        let reset = within(SOON, "RST_STREAM", shared.connection.next_of(RST_STREAM)).await;
        assert_eq!(reset.expect("the connection has ended").stream, stream);
    }
    shared.assert_other_lives(&redis).await;
}

#[tokio::test]
async fn a_body_of_another_length_than_announced_gets_400_and_is_never_whole_at_the_backend() {
    let redis = Redis::start().await;
    let backend = Recorder::start().await;
    let gateway = Gateway::build(&redis).route(&backend.route("/{*rest}")).start().await;
    let mut shared = Shared::open(&gateway, Via::H2c).await;
    let head = |length: &'static str| {
        let mut fields = but(":path", "/upload");
        fields[0].1 = "POST";
        fields.push(("content-length", length));
        fields
    };
    for (length, reset) in [("4", Some(PROTOCOL_ERROR)), ("2", Some(PROTOCOL_ERROR)), ("3", None)] {
        let outcome = shared.ask(&head(length), Some(b"abc")).await;
        let status = if reset.is_some() { 400 } else { 200 };
        assert_eq!((outcome.status, outcome.reset), (status, reset), "{length}: {outcome:?}");
    }
    shared.assert_other_lives(&redis).await;
    let ended = async || backend.recorded().iter().any(|it| it.end == RequestEnd::Complete);
    eventually(SOON, "the good one", ended).await;
    let whole = backend.take().into_iter().filter(|it| it.end == RequestEnd::Complete);
    assert_eq!(whole.map(|it| it.body).collect::<Vec<_>>(), [b"abc"]);
}

/// Over every protocol, and before any of it is forwarded.
#[tokio::test]
async fn a_length_that_no_body_has_gets_400_with_the_reason() {
    const TEXT: &str = "400 Bad Request: the Content-Length is too large: no body is that long\n";
    let redis = Redis::start().await;
    let backend = Recorder::start().await;
    let gateway = Gateway::build(&redis).route(&backend.route("/{*rest}")).start().await;
    let mut shared = Shared::open(&gateway, Via::H2c).await;
    for length in ["18446744073709551615", "18446744073709551614", "9223372036854775808"] {
        let mut fields = but(":path", "/upload");
        fields[0].1 = "POST";
        fields.push(("content-length", length));
        // Its body is still to come.
        let stream = shared.next;
        shared.next += 2;
        shared.connection.send(&Frame::request(stream, 0, &fields)).await;
        let outcome = within(SOON, length, Box::pin(shared.outcome(stream))).await;
        assert_eq!((outcome.status, outcome.text.as_str()), (400, TEXT), "{length}");
        let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
        let head =
            format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nabc");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(TEXT.as_bytes()) {
            let read = within(SOON, "the reason", socket.read_buf(&mut seen)).await.unwrap();
            assert!(read > 0, "{length}: {}", String::from_utf8_lossy(&seen));
        }
        assert!(seen.starts_with(b"HTTP/1.1 400 Bad Request\r\n"), "{length}");
    }
    shared.assert_other_lives(&redis).await;
    assert_eq!(backend.take(), []);
}

/// What a client makes us give up counts as what it takes back itself (CVE-2025-8671).
#[tokio::test]
async fn many_bodies_that_make_us_give_up_requests_end_the_connection() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut connection = FrameConnection::open(gateway.address("http"), &[]).await;
    let frames = (0..200).flat_map(|number| {
        let stream = 2 * number + 1;
        let fields = [GET[0], GET[1], GET[2], GET[3], ("content-length", "2")];
        [Frame::request(stream, 0, &fields), Frame::new(DATA, 0, stream, b"abc")]
    });
    connection.send_all(frames).await;
    let goaway = within(SOON, "a GOAWAY", connection.next_of(GOAWAY)).await.unwrap();
    assert_eq!(goaway.goaway_code(), ENHANCE_YOUR_CALM);
}
