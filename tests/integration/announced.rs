//! What is announced to a backend is sent, or its connection is closed: otherwise the backend would
//! take the next client's request for the rest of a body, or a body for a request.
//!
//! A property, over the whole way: requests of every kind over HTTP/1.1 and HTTP/2, to backends over
//! HTTP/1.1 and HTTP/2 that answer early, late, with 1xx, with a switch, or not at all. The
//! [`Auditor`] judges what arrives, and every answer must be that of its own request.

use std::cell::Cell;

use proptest::prelude::{Strategy, any};
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::auditor::{Auditor, Conduct, Meant, body};
use crate::support::frames::{DATA, END_STREAM, GOAWAY, HEADERS, RST_STREAM};
use crate::support::nginx::Nginx;
use crate::support::recorder::Recorder;
use crate::support::{
    Frame, FrameConnection, Gateway, Redis, Request, SOON, Via, eventually, read_head, within,
};

/// One request.
#[derive(Clone, Debug)]
struct Ask {
    is_http2: bool,
    // Whether the backend speaks HTTP/2.
    to_http2: bool,
    method: &'static str,
    framing: Framing,
    length: usize,
    // Only half of the body is sent, and then the client is gone.
    is_cut: bool,
    // The client does not wait for the answer.
    leaves: bool,
    expects: bool,
    // Fields beside those that belong to it.
    fields: usize,
    upgrade: Upgrade,
    conduct: Conduct,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Nothing,
    Length,
    Chunks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upgrade {
    None,
    /// A WebSocket, as each version asks for it.
    Asked,
    /// The same, with a length beside it over HTTP/2.
    WithLength,
}

fn ask() -> impl Strategy<Value = Ask> {
    let methods = vec!["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"];
    let framings = vec![Framing::Nothing, Framing::Length, Framing::Chunks];
    let upgrades =
        vec![Upgrade::None, Upgrade::None, Upgrade::None, Upgrade::Asked, Upgrade::WithLength];
    let lengths = vec![0, 1, 33, 700, 40_000];
    let often_not = || select(vec![false, false, false, true]);
    (
        (any::<bool>(), often_not(), select(methods), select(framings), select(lengths)),
        (often_not(), often_not(), often_not(), select(upgrades), select(Conduct::ALL.to_vec())),
        select(vec![0, 0, 120]),
    )
        .prop_map(|((is_http2, to_http2, method, framing, length), rest, fields)| {
            let (is_cut, leaves, expects, upgrade, conduct) = rest;
            let length = if framing == Framing::Nothing { 0 } else { length };
            Ask {
                is_http2,
                to_http2,
                method,
                framing,
                length,
                is_cut: is_cut && length > 1,
                leaves,
                expects,
                fields,
                upgrade,
                conduct,
            }
        })
}

impl Ask {
    fn host(&self) -> &'static str {
        if self.to_http2 { "http2" } else { "http1" }
    }

    /// What the backend is told.
    fn meant(&self, token: usize) -> Meant {
        // What follows an extended CONNECT is no body.
        let is_tunnel = self.is_http2 && self.upgrade != Upgrade::None;
        let length = if is_tunnel { 0 } else { self.length };
        let is_whole = is_tunnel || !self.is_cut;
        Meant { conduct: self.conduct, token, length, is_whole }
    }

    /// What of the body is sent.
    fn sent(&self) -> Vec<u8> {
        body(if self.is_cut { self.length / 2 } else { self.length })
    }

    /// Sends it, and gives the body of its answer, where it waits for one.
    async fn send(&self, gateway: &Gateway, meant: &Meant) -> Result<Option<String>, String> {
        let sent = async {
            if self.is_http2 {
                self.over_http2(gateway, meant).await
            } else {
                self.over_http1(gateway, meant).await
            }
        };
        let answered = tokio::time::timeout(SOON, sent).await;
        answered.map_err(|_| format!("{self:?}, {}: no answer", meant.token))
    }

    fn head(&self, meant: &Meant) -> String {
        let Self { method, length, .. } = self;
        let mut head = format!("{method} {} HTTP/1.1\r\nHost: {}\r\n", meant.target(), self.host());
        for n in 0..self.fields {
            head.push_str(&format!("x-{n}: {n}\r\n"));
        }
        match self.framing {
            Framing::Nothing => {}
            Framing::Length => head.push_str(&format!("Content-Length: {length}\r\n")),
            Framing::Chunks => head.push_str("Transfer-Encoding: chunked\r\nTrailer: x-end\r\n"),
        }
        if self.expects {
            head.push_str("Expect: 100-continue\r\n");
        }
        if self.upgrade != Upgrade::None {
            head.push_str(
                "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            );
        }
        head + "\r\n"
    }

    async fn over_http1(&self, gateway: &Gateway, meant: &Meant) -> Option<String> {
        let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
        socket.write_all(self.head(meant).as_bytes()).await.unwrap();
        if !self.expects || self.is_wanted(&mut socket).await {
            let mut bytes = self.sent();
            if self.framing == Framing::Chunks {
                let chunk = |octets: &[u8]| {
                    [format!("{:x}\r\n", octets.len()).as_bytes(), octets, b"\r\n"].concat()
                };
                let end: &[u8] = if self.is_cut { b"5\r\n" } else { b"0\r\nx-end: 1\r\n\r\n" };
                let chunks = if bytes.is_empty() { Vec::new() } else { chunk(&bytes) };
                bytes = [&chunks, end].concat();
            }
            // It may be answered before.
            drop(socket.write_all(&bytes).await);
        }
        if self.is_cut || self.leaves {
            return None;
        }
        let mut response = read_head(Box::new(socket), self.method == "HEAD").await;
        if response.status == 101 && self.method != "HEAD" {
            return Some(response.body.until(&meant.answer()).await);
        }
        let body = response.body.rest().await.unwrap();
        Some(String::from_utf8(body).unwrap())
    }

    /// Whether the client is told to go on.
    async fn is_wanted(&self, socket: &mut TcpStream) -> bool {
        if self.length == 0 {
            return true;
        }
        loop {
            let mut line = [0; 12];
            while socket.peek(&mut line).await.unwrap() < line.len() {
                tokio::task::yield_now().await;
            }
            if &line != b"HTTP/1.1 103" {
                return &line == b"HTTP/1.1 100";
            }
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
        }
    }

    async fn over_http2(&self, gateway: &Gateway, meant: &Meant) -> Option<String> {
        let (target, length) = (meant.target(), self.length.max(1).to_string());
        let mut fields =
            vec![(":scheme", "http"), (":path", &*target), (":authority", self.host())];
        if self.upgrade == Upgrade::None {
            fields.insert(0, (":method", self.method));
        } else {
            fields.extend([(":method", "CONNECT"), (":protocol", "websocket")]);
            fields.push(("sec-websocket-version", "13"));
        }
        let is_announced = match self.upgrade {
            Upgrade::None => self.framing == Framing::Length && self.length > 0,
            Upgrade::Asked => false,
            Upgrade::WithLength => true,
        };
        if is_announced {
            fields.push(("content-length", &length));
        }
        if self.expects {
            fields.push(("expect", "100-continue"));
        }
        let more: Vec<_> = (0..self.fields).map(|n| (format!("x-{n}"), n.to_string())).collect();
        fields.extend(more.iter().map(|(name, value)| (&**name, &**value)));
        let mut connection = FrameConnection::open(gateway.address("http"), &[]).await;
        let is_bare = self.framing == Framing::Nothing && !is_announced;
        let flags = if is_bare { END_STREAM } else { 0 };
        connection.send(&Frame::request(1, flags, &fields)).await;
        let sent = self.sent();
        let mut pieces = sent.chunks(10_000).peekable();
        while let Some(piece) = pieces.next() {
            let is_last = pieces.peek().is_none() && !self.is_cut;
            let flags = if is_last { END_STREAM } else { 0 };
            connection.send(&Frame::new(DATA, flags, 1, piece)).await;
        }
        if sent.is_empty() && !is_bare {
            connection.send(&Frame::new(DATA, END_STREAM, 1, &[])).await;
        }
        if self.is_cut {
            connection.send(&Frame::new(RST_STREAM, 0, 1, &8_u32.to_be_bytes())).await;
        }
        if self.is_cut || self.leaves {
            return None;
        }
        answer(&mut connection, &meant.answer()).await
    }
}

/// The body of the answer on the first stream, to its end or to `text`.
async fn answer(connection: &mut FrameConnection, text: &str) -> Option<String> {
    let mut body = Vec::new();
    while let Some(frame) = connection.next().await {
        match frame.kind {
            DATA => body.extend_from_slice(&frame.payload),
            RST_STREAM | GOAWAY => break,
            _ => {}
        }
        let is_end = matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
        if is_end || memchr::memmem::find(&body, text.as_bytes()).is_some() {
            break;
        }
    }
    Some(String::from_utf8(body).unwrap())
}

/// A gateway with one shard, so that all requests share their connections to the backends.
async fn in_front_of(redis: &Redis, http1: &Auditor, http2: &Auditor) -> Gateway {
    let route = |host: &str, auditor: &Auditor| {
        let (address, is_http2) = (auditor.address(), host == "http2");
        format!(
            "- path: /{{*rest}}\n  host: {host}\n  \
             proxy: {{ upstream: \"http://{address}\", http2: {is_http2} }}\n"
        )
    };
    let routes = route("http1", http1) + &route("http2", http2);
    Gateway::build(redis).settings("shards: 1").routes(&routes).start().await
}

fn after(token: usize, is_http2: bool, to_http2: bool) -> (Ask, Meant) {
    let ask = Ask {
        is_http2,
        to_http2,
        method: "GET",
        framing: Framing::Nothing,
        length: 0,
        is_cut: false,
        leaves: false,
        expects: false,
        fields: 0,
        upgrade: Upgrade::None,
        conduct: Conduct::AfterAll,
    };
    let meant = ask.meant(token);
    (ask, meant)
}

#[test]
fn what_is_announced_to_a_backend_is_sent_or_its_connection_is_closed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let redis = runtime.block_on(Redis::start());
    let http1 = runtime.block_on(Auditor::start(false));
    let http2 = runtime.block_on(Auditor::start(true));
    let gateway = runtime.block_on(in_front_of(&redis, &http1, &http2));
    let tokens = Cell::new(0);
    let token = || tokens.replace(tokens.get() + 1);
    let property = |asks: Vec<Ask>| {
        let check = async {
            for ask in &asks {
                let meant = ask.meant(token());
                let answered = ask.send(&gateway, &meant).await?;
                if let Some(answered) = answered
                    && answered.contains("token ")
                    && !answered.contains(&meant.answer())
                {
                    return Err(format!("{ask:?} was answered {answered:?}, not {}", meant.token));
                }
            }
            for (is_http2, to_http2) in [(false, false), (true, false), (false, true), (true, true)]
            {
                let (ask, meant) = after(token(), is_http2, to_http2);
                let answered = ask.send(&gateway, &meant).await?;
                if answered.as_deref() != Some(&*meant.answer()) {
                    return Err(format!("the next client was answered {answered:?}: {meant:?}"));
                }
            }
            let faults = [http1.take_faults(), http2.take_faults()].concat();
            if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
        };
        runtime.block_on(check).map_err(TestCaseError::fail)
    };
    let config =
        Config { cases: 128, failure_persistence: None, max_shrink_iters: 8, ..Config::default() };
    let asks = proptest::collection::vec(ask(), 1..5);
    TestRunner::new(config).run(&asks, property).unwrap();
}

/// An extended CONNECT that announces a body, and what comes behind it in the tunnel.
async fn connect_with_length(gateway: &Gateway, length: &str) -> Option<String> {
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/chat"),
        (":authority", "app.example"),
        ("content-length", length),
    ];
    let mut connection = FrameConnection::open(gateway.address("http"), &[]).await;
    connection.send(&Frame::request(1, 0, &fields)).await;
    connection.send(&Frame::new(DATA, 0, 1, &body(33))).await;
    within(SOON, "an answer", answer(&mut connection, "\n")).await
}

#[tokio::test]
async fn a_websocket_over_http2_that_announces_a_length_swallows_no_request_at_nginx() {
    let redis = Redis::start().await;
    let nginx = Nginx::start("location / { return 200 \"$request_method $uri\"; }").await;
    let gateway =
        Gateway::build(&redis).settings("shards: 1").routes(&nginx.route("/{*rest}")).start().await;
    for length in ["33", "100", "0"] {
        let answer = connect_with_length(&gateway, length).await.unwrap();
        assert!(answer.contains("400"), "{length}: {answer:?}");
        for path in ["/one", "/other"] {
            let response = within(SOON, "an answer", gateway.get(path)).await;
            assert_eq!(response.text().await, format!("GET {path}"), "{length}");
        }
    }
    let expected = ["GET /one HTTP/1.1 200", "GET /other HTTP/1.1 200"].repeat(3);
    assert_eq!(nginx.log(), expected, "and nothing else");
}

/// Also where other requests go to it over HTTP/2: an upgrade is asked for over HTTP/1.1.
#[tokio::test]
async fn a_websocket_is_asked_for_over_http1_at_a_backend_of_http2_and_leaves_nothing_behind() {
    let redis = Redis::start().await;
    let (http1, http2) = (Auditor::start(false).await, Auditor::start(true).await);
    let gateway = in_front_of(&redis, &http1, &http2).await;
    let mut token = 0;
    for is_http2 in [false, true] {
        for conduct in [Conduct::Switch, Conduct::AfterAll, Conduct::Refuse] {
            let (plain, _) = after(token, is_http2, true);
            let ask = Ask { upgrade: Upgrade::Asked, conduct, ..plain.clone() };
            let meant = ask.meant(token);
            let answered = ask.send(&gateway, &meant).await.unwrap().unwrap();
            // A 200 to the GET does not open a WebSocket over HTTP/2: that is a 502.
            let is_passed_on = !(is_http2 && conduct == Conduct::AfterAll);
            assert_eq!(answered.contains(&meant.answer()), is_passed_on, "{ask:?}: {answered}");
            let next = plain.meant(token + 1);
            let answered = plain.send(&gateway, &next).await.unwrap();
            assert_eq!(answered, Some(next.answer()), "behind {ask:?}");
            token += 2;
        }
    }
    assert_eq!(http2.take_faults(), [""; 0]);
}

#[tokio::test]
async fn a_connection_on_which_an_upgrade_was_refused_is_not_used_again() {
    let redis = Redis::start().await;
    let nginx = Nginx::start("location / { return 404; }").await;
    let gateway =
        Gateway::build(&redis).settings("shards: 1").routes(&nginx.route("/{*rest}")).start().await;
    let open = async || gateway.metrics().await.sum("ssegate_upstream_connections", &[]);
    let asks = Request::get("/chat").header("connection", "upgrade").header("upgrade", "websocket");
    for via in [Via::Http1, Via::Http1Tls] {
        let response = gateway.send(via, asks.clone()).await;
        assert_eq!(response.status, 404, "{via:?}");
        drop(response.text().await);
        eventually(SOON, "it is closed", async || open().await < 1.0).await;
    }
    // Another request leaves its own open.
    assert!(gateway.get("/").await.text().await.contains("nginx"));
    assert!(open().await > 0.0);
}

#[tokio::test]
async fn an_upgrade_beside_a_body_is_a_request_like_any_other() {
    let redis = Redis::start().await;
    let backend = Recorder::start().await;
    let gateway = Gateway::build(&redis).routes(&backend.route("/{*rest}")).start().await;
    for method in ["GET", "POST"] {
        let request = Request::new(method, "/").header("connection", "upgrade");
        let request = request.header("upgrade", "websocket").body(&body(33));
        assert_eq!(gateway.send(Via::Http1, request).await.status, 200);
        let recorded = backend.take();
        assert_eq!(recorded[0].body, body(33));
        assert_eq!(recorded[0].values("upgrade"), [""; 0], "{:?}", recorded[0]);
        assert_eq!(recorded[0].values("connection"), [""; 0]);
    }
    // A length of nothing is none.
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                   Content-Length: 0\r\n\r\n";
    let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let response = within(SOON, "an answer", read_head(Box::new(socket), false)).await;
    assert_eq!(response.status, 200);
    let recorded = backend.take();
    assert_eq!(recorded[0].values("content-length"), [""; 0]);
    assert_eq!(recorded[0].values("upgrade"), ["websocket"]);
}
