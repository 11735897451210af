//! Requests that two parties could read differently: each is refused, or exactly one reading of it
//! goes to the backend.
//!
//! Raw sockets on one side, a backend that keeps the bytes on the other. What counts is that the
//! backend never sees another number of requests than the client was answered.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::attacks::crowd::Crowd;
use crate::attacks::table::{judge, mib};
use crate::support::frames::{DATA, END_STREAM, GOAWAY, HEADERS, RST_STREAM};
use crate::support::recorder::{Recorded, Recorder, RequestEnd};
use crate::support::{Frame, FrameConnection, Gateway, Redis, SOON, eventually, within};

/// What becomes of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// So many requests reach the backend and are answered 200, on a connection that stays open.
    Passes(usize),
    /// The same, and the connection ends: nothing that follows is read as a request.
    PassesOnce,
    /// Nothing reaches the backend; the answer has this status.
    Refused(u16),
    /// The body is broken: whatever of it reaches the backend, it never ends there.
    Aborted,
    /// The client leaves within the body: the backend sees a request that never ends.
    CutOff,
}
use Expected::{Aborted, CutOff, Passes, PassesOnce, Refused};

/// A request that would be smuggled in.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";

#[expect(clippy::too_many_lines, reason = "a table")]
fn payloads() -> Vec<(String, Expected)> {
    let get = |fields: &str| format!("GET /x HTTP/1.1\r\n{fields}\r\n");
    let post =
        |fields: &str, body: &str| format!("POST /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    let a_few_chunks = "3\r\nabc\r\n0\r\n\r\n";
    let headers = |count: usize| (0..count).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    let long = "a".repeat(20_000);
    vec![
        // What is right passes.
        (get("Host: a\r\n"), Passes(1)),
        (format!("{}{HIDDEN}", get("Host: a\r\n")), Passes(2)),
        (post("Content-Length: 3\r\n", "abc"), Passes(1)),
        (chunked(a_few_chunks), Passes(1)),
        (format!("{}{HIDDEN}", chunked(a_few_chunks)), Passes(2)),
        (chunked("3;ext=1;b=\"c\"\r\nabc\r\n0;last\r\n\r\n"), Passes(1)),
        (chunked("03\r\nabc\r\n000\r\n\r\n"), Passes(1)),
        // Fields that hyper does not see.
        (get(&format!("Host: a\r\n{}", headers(999))), Passes(1)),
        (get(&format!("{}Host: a\r\n", headers(101))), Passes(1)),
        (post(&format!("{}Content-Length: 3\r\n", headers(101)), "abc"), Passes(1)),
        (post(&format!("{}Content-Length: 3\r\n", headers(101)), "a\nb"), Passes(1)),
        (post(&format!("{}Transfer-Encoding: chunked\r\n", headers(101)), a_few_chunks), Passes(1)),
        (get(&format!("Host: a\r\n{}Host: b\r\n", headers(101))), Refused(400)),
        (
            post(&format!("Content-Length: 3\r\n{}Content-Length: 4\r\n", headers(101)), "abcd"),
            Refused(400),
        ),
        (get(&format!("Host: a\r\n{}X : y\r\n", headers(101))), Refused(400)),
        (get(&format!("Host: a\r\n{}X: y\r\n z\r\n", headers(101))), Refused(400)),
        (get(&format!("Host: a\r\n{}X: \0\r\n", headers(101))), Refused(400)),
        (get(&format!("Host: a\r\n{}X_Forwarded_For: 6.6.6.6\r\n", headers(101))), Refused(400)),
        (get(&format!("Host: a\r\n{}X-Forwarded-For: 6.6.6.6\r\n", headers(101))), Passes(1)),
        (post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), Passes(1)),
        (post("tRANSFER-eNCODING: Chunked\r\n", a_few_chunks), Passes(1)),
        ("GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Passes(1)),
        // Both lengths: the chunks count, and the connection is not believed any more.
        (
            post(
                "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
                &format!("0\r\n\r\n{HIDDEN}"),
            ),
            PassesOnce,
        ),
        (
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                &format!("{a_few_chunks}{HIDDEN}"),
            ),
            PassesOnce,
        ),
        // Lengths that are none.
        (post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"), Refused(400)),
        (post("Content-Length: 2, 2\r\n", "ab"), Refused(400)),
        (post("Content-Length: +2\r\n", "ab"), Refused(400)),
        (post("Content-Length: -2\r\n", "ab"), Refused(400)),
        (post("Content-Length: 0x2\r\n", "ab"), Refused(400)),
        (post("Content-Length: 2 2\r\n", "ab"), Refused(400)),
        (post("Content-Length: \r\n", ""), Refused(400)),
        (post("Content-Length: 99999999999999999999\r\n", "ab"), Refused(400)),
        (post("Content-Length: 18446744073709551616\r\n", "ab"), Refused(400)),
        (post("Content-Length: 18446744073709551615\r\n", "ab"), Refused(400)),
        (post("Content-Length: 18446744073709551614\r\n", "ab"), Refused(400)),
        (post("Content-Length: 18446744073709551613\r\n", "ab"), Refused(400)),
        (post("Content-Length: 9223372036854775808\r\n", "ab"), Refused(400)),
        (post("Content-Length: 18446744073709551615\r\nContent-Length: 2\r\n", "ab"), Refused(400)),
        (post("Content-Length: 2\r\nContent-Length: 18446744073709551615\r\n", "ab"), Refused(400)),
        (
            post(&format!("{}Content-Length: 18446744073709551615\r\n", headers(101)), "ab"),
            Refused(400),
        ),
        (post("Content-Length : 2\r\n", "ab"), Refused(400)),
        (post(" Content-Length: 2\r\n", "ab"), Refused(400)),
        // Transfer codings that are none, or not one.
        (post("Transfer-Encoding: identity\r\n", "ab"), Refused(400)),
        (post("Transfer-Encoding: xchunked\r\n", a_few_chunks), Refused(400)),
        (post("Transfer-Encoding: chunked, identity\r\n", a_few_chunks), Refused(400)),
        (post("Transfer-Encoding: gzip, chunked\r\n", a_few_chunks), Refused(400)),
        (post("Transfer-Encoding: gzip\r\n", a_few_chunks), Refused(400)),
        (post("Transfer-Encoding: chunked, chunked\r\n", a_few_chunks), Refused(400)),
        (
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", a_few_chunks),
            Refused(400),
        ),
        (
            post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", a_few_chunks),
            Refused(400),
        ),
        (post("Transfer-Encoding : chunked\r\n", a_few_chunks), Refused(400)),
        (post("Transfer-Encoding: \u{b}chunked\r\n", a_few_chunks), Refused(400)),
        (post("Transfer-Encoding:\r\n chunked\r\n", a_few_chunks), Refused(400)),
        (post("Transfer-Encoding: \"chunked\"\r\n", a_few_chunks), Refused(400)),
        (post("X: y\r\n Transfer-Encoding: chunked\r\n", a_few_chunks), Refused(400)),
        (
            format!(
                "POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{a_few_chunks}"
            ),
            Refused(400),
        ),
        (post("Transfer_Encoding: chunked\r\n", ""), Refused(400)),
        (post("Content_Length: 3\r\n", ""), Refused(400)),
        (get("Host: a\r\nX_Forwarded_For: 1.2.3.4\r\n"), Refused(400)),
        // Whom the request is for.
        (get(""), Refused(400)),
        (get("Host: a\r\nHost: a\r\n"), Refused(400)),
        (get("Host: a\r\nHost: b\r\n"), Refused(400)),
        (get("Host: a/b@c\r\n"), Refused(400)),
        (get("Host: me@a\r\n"), Refused(400)),
        (get("Host: a b\r\n"), Refused(400)),
        (get("Host: a, b\r\n"), Refused(400)),
        (get("Host: \r\n"), Refused(400)),
        (get("Host: a,b\r\n"), Refused(400)),
        (get("Host: a:\r\n"), Refused(400)),
        (get("Host: a:99999\r\n"), Refused(400)),
        (get("Host: [a]\r\n"), Refused(400)),
        ("GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Refused(400)),
        ("GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Refused(400)),
        ("GET http://me@a/x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Refused(400)),
        // Lines.
        ("GET /x HTTP/1.1\nHost: a\n\n".to_owned(), Passes(1)),
        ("GET /x HTTP/1.1\r\nHost: a\nX: y\r\n\r\n".to_owned(), Passes(1)),
        (get("Host: a\r\nX: y\rz\r\n"), Refused(400)),
        (get("Host: a\r\nX: y\0z\r\n"), Refused(400)),
        (get("Host: a\r\nX\0: y\r\n"), Refused(400)),
        (get("Host: a\r\nX y: z\r\n"), Refused(400)),
        (get("Host: a\r\n: z\r\n"), Refused(400)),
        (get("Host: a\r\nno colon\r\n"), Refused(400)),
        (get("X: y\r\n folded\r\nHost: a\r\n"), Refused(400)),
        ("GET /x\r\n".to_owned(), Refused(400)),
        ("GET /x HTTP/1.2\r\nHost: a\r\n\r\n".to_owned(), Refused(400)),
        ("GET /x HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), Refused(400)),
        ("GET  /x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Refused(400)),
        ("GET /x  HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Refused(400)),
        ("GET /x y HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Refused(400)),
        ("G(T /x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Refused(400)),
        // Other targets.
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n".to_owned(), Refused(405)),
        ("GET x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Refused(400)),
        // Chunks that are none: the request is never ended.
        (chunked("0x3\r\nabc\r\n0\r\n\r\n"), Aborted),
        (chunked("3\nabc\n0\n\n"), Aborted),
        (chunked("2;\nab\r\n0\r\n\r\n"), Aborted),
        (chunked("3\r\nabcX0\r\n\r\n"), Aborted),
        (chunked("3\r\nabc0\r\n\r\n"), Aborted),
        (chunked("-3\r\nabc\r\n0\r\n\r\n"), Aborted),
        (chunked("+3\r\nabc\r\n0\r\n\r\n"), Aborted),
        (chunked("ffffffffffffffff0\r\nabc\r\n0\r\n\r\n"), Aborted),
        (chunked("\r\nabc\r\n0\r\n\r\n"), Aborted),
        (chunked("z\r\nabc\r\n0\r\n\r\n"), Aborted),
        (chunked(&format!("3;{long}\r\nabc\r\n0\r\n\r\n")), Aborted),
        (chunked("3\r\nabc\r\n3\r\nab"), CutOff),
        (post("Content-Length: 9\r\n", "abc"), CutOff),
        // Trailers stay behind the body.
        (chunked("3\r\nabc\r\n0\r\nContent-Length: 99\r\n\r\n"), Passes(1)),
        (chunked("3\r\nabc\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\nHost: evil\r\n\r\n"), Passes(1)),
        // Too much.
        (get(&format!("Host: a\r\n{}", headers(1000))), Refused(431)),
        (get(&format!("Host: a\r\nX: {}\r\n", "a".repeat(500_000))), Refused(431)),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(70_000)), Refused(431)),
        // Another protocol over the backend's head.
        (
            get("Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
            Passes(1),
        ),
    ]
}

/// The statuses that a connection is answered with, until it is closed or `count` have come.
async fn statuses(socket: &mut TcpStream, count: usize) -> (Vec<u16>, bool) {
    let mut buffer = BytesMut::new();
    let mut statuses = Vec::new();
    loop {
        while let Some(end) = memchr::memmem::find(&buffer, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
            let status = head[9..12].parse().unwrap();
            let length = head.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.lines().next()).unwrap_or("0");
            let length: usize = length.parse().unwrap();
            while buffer.len() < end + 4 + length {
                assert!(socket.read_buf(&mut buffer).await.unwrap() > 0, "cut within a body");
            }
            drop(buffer.split_to(end + 4 + length));
            if status != 100 {
                statuses.push(status);
            }
        }
        if statuses.len() >= count {
            return (statuses, false);
        }
        // A reset is as much an end as any.
        if socket.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
            return (statuses, true);
        }
    }
}

/// What the backend was sent can be read in one way only, and says nothing that is not ours to say.
fn assert_sound(request: &Recorded) {
    assert_ne!(request.end, RequestEnd::Broken, "{request:?}");
    assert!(request.line().ends_with(" HTTP/1.1"), "{request:?}");
    assert_eq!(request.values("x-forwarded-for"), ["127.0.0.1"], "{request:?}");
    assert_eq!(request.values("host"), ["a"], "{request:?}");
    for name in ["upgrade", "http2-settings", "keep-alive", "x_forwarded_for"] {
        assert!(request.values(name).is_empty(), "{request:?}");
    }
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_over_http1_reaches_the_backend_once_or_not_at_all() {
    let redis = Arc::new(Redis::start().await);
    let backend = Recorder::start().await;
    let route = backend.route("/{*rest}");
    let settings = "http1: { header: 32KiB }";
    let gateway = Gateway::build(&redis).settings(settings).route(&route).start().await;
    let gateway = Arc::new(gateway);
    let crowd = Crowd::gather(&gateway, &redis).await;
    let (answered, toll) = crowd.under(Box::pin(all_over_http1(&gateway, &backend))).await;
    let counted = gateway.metrics().await;
    let counted = counted.sum("ssegate_http_requests_total", &["route=\"/{*rest}\"", "\"2xx\""]);
    let answered = answered as f64;
    assert_eq!(counted.to_bits(), answered.to_bits(), "{counted} counted, {answered} answered");
    let bounds =
        [("counted otherwise", 0.0, (counted - answered).abs()), ("MiB", 8.0, mib(toll.resident))];
    judge(&format!("smuggling over HTTP/1.1, {} payloads", payloads().len()), &toll, &bounds);
}

/// Sends each on a connection of its own; answers how many requests were answered 200.
async fn all_over_http1(gateway: &Gateway, backend: &Recorder) -> usize {
    let mut answered = 0;
    for (payload, expected) in payloads() {
        let shown: String = payload.chars().take(300).collect();
        let before = backend.begun();
        let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
        // It may be refused before all of it is sent.
        drop(socket.write_all(payload.as_bytes()).await);
        if expected == CutOff {
            let has_begun = async || backend.begun() > before;
            eventually(SOON, &format!("the beginning of {shown:?}"), has_begun).await;
            drop(socket);
            let is_cut = async || backend.recorded().iter().any(|r| r.end == RequestEnd::Cut);
            eventually(SOON, &format!("the end of {shown:?}"), is_cut).await;
            assert_eq!(backend.take().len(), 1, "{shown:?}");
            continue;
        }
        let count = if let Passes(count) = expected { count } else { usize::MAX };
        let (statuses, is_closed) = within(SOON, &shown, statuses(&mut socket, count)).await;
        match expected {
            Passes(count) => assert_eq!(statuses, vec![200; count], "{shown:?}"),
            PassesOnce => assert_eq!(statuses, [200], "{shown:?}"),
            Refused(status) => assert_eq!(statuses, [status], "{shown:?}"),
            Aborted => assert!(!statuses.contains(&200), "{shown:?}: {statuses:?}"),
            CutOff => unreachable!("seen above"),
        }
        assert_eq!(is_closed, !matches!(expected, Passes(_)), "{shown:?}");
        drop(socket);

        // What the backend was sent before this, it has been sent by now.
        assert_eq!(gateway.get("/after").await.status, 200);
        answered += statuses.iter().filter(|status| **status == 200).count() + 1;
        let mut recorded = backend.take();
        recorded.retain(|request| request.line() != "GET /after HTTP/1.1");
        let complete = recorded.iter().filter(|request| request.end == RequestEnd::Complete);
        match expected {
            Passes(count) => assert_eq!(complete.count(), count, "{shown:?}: {recorded:?}"),
            PassesOnce => assert_eq!(complete.count(), 1, "{shown:?}: {recorded:?}"),
            Aborted => assert_eq!(complete.count(), 0, "{shown:?}: {recorded:?}"),
            Refused(_) | CutOff => assert_eq!(recorded, [], "{shown:?}"),
        }
        recorded.iter().for_each(assert_sound);
    }
    answered
}

type Fields = Vec<(&'static str, &'static str)>;

/// Heads and bodies of requests over HTTP/2, and how many of each reach the backend.
fn streams() -> Vec<(Fields, &'static str, usize)> {
    const HEAD: [(&str, &str); 4] =
        [(":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", "a")];
    let with = |fields: &[(&'static str, &'static str)]| [&HEAD[..], fields].concat();
    let but = |name: &str, value: &'static str| {
        HEAD.map(|(n, v)| if n == name { (n, value) } else { (n, v) }).to_vec()
    };
    let without = |name: &str| HEAD.into_iter().filter(|(n, _)| *n != name).collect::<Vec<_>>();
    vec![
        // What is right passes.
        (with(&[]), "abc", 1),
        (with(&[("content-length", "3")]), "abc", 1),
        (with(&[("host", "a")]), "abc", 1),
        (with(&[("te", "trailers")]), "abc", 1),
        (with(&[("cookie", "a=1"), ("cookie", "b=2")]), "abc", 1),
        // The framing is HTTP/2's.
        (with(&[("content-length", "2")]), "abc", 0),
        (with(&[("content-length", "4")]), "abc", 0),
        (with(&[("content-length", "3"), ("content-length", "4")]), "abc", 0),
        (with(&[("content-length", "+3")]), "abc", 0),
        (with(&[("content-length", "18446744073709551616")]), "abc", 0),
        (with(&[("content-length", "18446744073709551615")]), "abc", 0),
        (with(&[("content-length", "9223372036854775808")]), "abc", 0),
        (with(&[("content-length", "3, 3")]), "abc", 0),
        (with(&[("transfer-encoding", "chunked")]), "0\r\n\r\n", 0),
        (with(&[("connection", "close")]), "abc", 0),
        (with(&[("upgrade", "h2c")]), "abc", 0),
        (with(&[("keep-alive", "5")]), "abc", 0),
        (with(&[("proxy-connection", "close")]), "abc", 0),
        (with(&[("te", "gzip")]), "abc", 0),
        // Whom the request is for.
        (with(&[("host", "b")]), "abc", 0),
        (with(&[("host", "a"), ("host", "b")]), "abc", 0),
        (but(":authority", "me@a"), "abc", 0),
        (but(":authority", "a/b"), "abc", 0),
        (but(":authority", "a b"), "abc", 0),
        (but(":authority", "a,b"), "abc", 0),
        (but(":authority", "a:"), "abc", 0),
        (but(":authority", "a:99999"), "abc", 0),
        (but(":authority", ""), "abc", 0),
        (but(":scheme", ""), "abc", 0),
        (but(":scheme", "ftp"), "abc", 0),
        ([&but(":scheme", "ftp")[..3], &[("host", "a")]].concat(), "abc", 0),
        ([&without(":authority")[..], &[("host", "a,b")]].concat(), "abc", 0),
        (but(":authority", "a\r\nx: y"), "abc", 0),
        (without(":authority"), "abc", 0),
        ([&without(":authority")[..], &[("host", "a")]].concat(), "abc", 1),
        // Pseudo-headers.
        (without(":path"), "abc", 0),
        (without(":method"), "abc", 0),
        (but(":path", ""), "abc", 0),
        (but(":path", "x"), "abc", 0),
        (but(":path", "/x HTTP/1.1\r\nHost: a\r\n\r\nGET /hidden"), "abc", 0),
        (but(":path", "/x y"), "abc", 0),
        (but(":method", "GET /hidden HTTP/1.1\r\nx: y\r\n\r\nPOST"), "abc", 0),
        (but(":method", "CONNECT"), "abc", 0),
        (with(&[(":path", "/y")]), "abc", 0),
        (with(&[(":method", "GET")]), "abc", 0),
        (with(&[(":status", "200")]), "abc", 0),
        // Names and values.
        (with(&[("x", "y\r\nz: w")]), "abc", 0),
        (with(&[("x", "y\nz: w")]), "abc", 0),
        (with(&[("x", "y\rz: w")]), "abc", 0),
        (with(&[("x", "y\0")]), "abc", 0),
        (with(&[("X-Upper", "y")]), "abc", 0),
        (with(&[("x y", "z")]), "abc", 0),
        (with(&[("x: y\r\nz", "w")]), "abc", 0),
        (with(&[("", "y")]), "abc", 0),
        (with(&[("x_forwarded_for", "1.2.3.4")]), "abc", 0),
        (with(&[("transfer_encoding", "chunked")]), "abc", 0),
    ]
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_over_http2_reaches_the_backend_once_or_not_at_all() {
    let redis = Arc::new(Redis::start().await);
    let backend = Recorder::start().await;
    let gateway = Gateway::build(&redis).route(&backend.route("/{*rest}")).start().await;
    let gateway = Arc::new(gateway);
    let crowd = Crowd::gather(&gateway, &redis).await;
    let ((), toll) = crowd.under(Box::pin(all_over_http2(&gateway, &backend))).await;
    let bounds = [("MiB", 8.0, mib(toll.resident))];
    judge(&format!("smuggling over HTTP/2, {} payloads", streams().len()), &toll, &bounds);
}

async fn all_over_http2(gateway: &Gateway, backend: &Recorder) {
    for (fields, body, expected) in streams() {
        let mut connection = FrameConnection::open(gateway.address("http"), &[]).await;
        connection.send(&Frame::request(1, 0, &fields)).await;
        connection.send(&Frame::new(DATA, END_STREAM, 1, body.as_bytes())).await;
        let answer = async {
            while let Some(frame) = connection.next().await {
                if matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY) {
                    return;
                }
            }
        };
        within(SOON, &format!("an answer to {fields:?}"), answer).await;
        drop(connection);
        assert_eq!(gateway.get("/after").await.status, 200);
        let mut recorded = backend.take();
        recorded.retain(|request| request.line() != "GET /after HTTP/1.1");
        let complete: Vec<_> =
            recorded.iter().filter(|request| request.end == RequestEnd::Complete).collect();
        assert_eq!(complete.len(), expected, "{fields:?}: {recorded:?}");
        for request in &recorded {
            assert_sound(request);
            assert_eq!(request.line(), "POST /x HTTP/1.1", "{fields:?}");
            assert!(request.values("cookie").len() < 2, "{request:?}");
        }
    }
}
