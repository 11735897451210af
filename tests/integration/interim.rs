//! What comes before a response, and in its first line: interim responses, reason phrases, and how far
//! a request goes.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::nginx::Nginx;
use crate::support::{
    Gateway, Process, Program, Redis, Request, SOON, Upstream, Via, eventually, within,
};

async fn in_front_of(redis: &Redis, address: std::net::SocketAddr, more: &str) -> Gateway {
    let proxy = format!("upstream: \"http://{address}\", {more}");
    let route = format!("- path: /{{*rest}}\n  proxy: {{ {proxy} }}\n");
    Gateway::build(redis).routes(&route).start().await
}

async fn node(kind: &str) -> (Process, std::net::SocketAddr) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/backend_servers.cjs");
    let node = Program::new("/usr/bin/env").args(["node", script, kind]).start();
    eventually(SOON, "the backend listens", async || !node.stdout().is_empty()).await;
    let port: u16 = node.stdout()[0].parse().unwrap();
    (node, ([127, 0, 0, 1], port).into())
}

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>\r\n\
                     Connection: x-hop\r\nX-Hop: 1\r\nGrip-Hold: stream\r\n\r\n";

/// Reads until `end` has come.
async fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    while memchr::memmem::find(&seen, end.as_bytes()).is_none() {
        let read = within(SOON, end, socket.read_buf(&mut seen)).await.unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[tokio::test]
async fn early_hints_reach_a_client_of_http1_before_the_response() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, upstream.address(), "").await;
    let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
    // Again on the same connection.
    for _ in 0..2 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut call = upstream.call().await;
        for _ in 0..2 {
            call.write("HTTP/1.1 102 Processing\r\n\r\n").await;
            call.write(HINTS).await;
            // The response has not come.
            let seen = read_until(&mut client, "</b.js>\r\n\r\n").await.to_lowercase();
            let expected = "http/1.1 102 processing\r\n\r\nhttp/1.1 103 early hints\r\n\
                            link: </a.css>; rel=preload\r\nlink: </b.js>\r\n\r\n";
            assert_eq!(seen, expected);
        }
        call.answer("200 OK", "", "ok").await;
        let seen = read_until(&mut client, "\r\n\r\nok").await;
        assert!(seen.starts_with("HTTP/1.1 200 OK\r\n"), "{seen}");
    }
}

#[tokio::test]
async fn early_hints_in_one_piece_with_the_response_stay_before_it() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, upstream.address(), "").await;
    let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut call = upstream.call().await;
    call.write(format!("{HINTS}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")).await;
    let seen = read_until(&mut client, "\r\n\r\nok").await;
    assert!(seen.starts_with("HTTP/1.1 103 Early Hints\r\n"), "{seen}");
    assert_eq!(seen.matches("HTTP/1.1 ").count(), 2, "{seen}");
}

#[tokio::test]
async fn a_client_of_http10_gets_the_response_alone() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, upstream.address(), "").await;
    let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
    client.write_all(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
    let mut call = upstream.call().await;
    call.write(HINTS).await;
    call.answer("200 OK", "", "ok").await;
    let seen = read_until(&mut client, "\r\n\r\nok").await;
    assert!(seen.starts_with("HTTP/1.0 200 OK\r\n"), "{seen}");
}

#[tokio::test]
async fn early_hints_reach_a_client_of_http2_before_the_response() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, upstream.address(), "").await;
    let io = Via::Http2.connect(gateway.address_for(Via::Http2)).await;
    let (mut requests, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://a/").body(()).unwrap();
    let (mut response, _) = requests.send_request(request, true).unwrap();
    let mut call = upstream.call().await;
    call.write(HINTS).await;
    let hints = std::future::poll_fn(|cx| response.poll_informational(cx));
    let hints = within(SOON, "the hints", hints).await.unwrap().unwrap();
    assert_eq!(hints.status(), 103);
    let links: Vec<_> = hints.headers().get_all("link").iter().collect();
    assert_eq!(links, ["</a.css>; rel=preload", "</b.js>"]);
    assert_eq!(hints.headers().len(), 2, "{hints:?}");
    call.answer("200 OK", "", "ok").await;
    assert_eq!(within(SOON, "a response", response).await.unwrap().status(), 200);
}

#[tokio::test]
async fn early_hints_of_a_backend_over_http2_reach_its_clients() {
    let redis = Redis::start().await;
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = in_front_of(&redis, backend.local_addr().unwrap(), "http2: true").await;
    let (socket, mut client) = tokio::join!(backend.accept(), async {
        let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        client
    });
    let mut backend = h2::server::handshake(socket.unwrap().0).await.unwrap();
    let (_, mut respond) = within(SOON, "a request", backend.accept()).await.unwrap().unwrap();
    tokio::spawn(async move { while backend.accept().await.is_some() {} });
    let hints = http::Response::builder().status(103).header("link", "</a.css>");
    respond.send_informational(hints.header("grip-hold", "stream").body(()).unwrap()).unwrap();
    let seen = read_until(&mut client, "\r\n\r\n").await;
    assert_eq!(seen, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
    let mut body = respond.send_response(http::Response::new(()), false).unwrap();
    body.send_data("ok".into(), true).unwrap();
    let seen = read_until(&mut client, "ok\r\n").await;
    assert!(seen.starts_with("HTTP/1.1 200 OK\r\n"), "{seen}");
}

/// RFC 9110, section 8.6. Clients that build on nghttp2 give the stream up where they see one.
#[tokio::test]
async fn a_length_in_a_response_that_has_none_is_not_passed_on() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, upstream.address(), "").await;
    let url = format!("http://{}/", gateway.address("http"));
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for (status, body) in [("200 OK", "ok"), ("204 No Content", "")] {
            let curl = Program::new("/usr/bin/curl").args(["-sSv", version, &url]);
            let respond = async {
                let mut call = upstream.call().await;
                call.write("HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\nLink: </a>\r\n\r\n")
                    .await;
                call.answer(status, "", body).await;
            };
            let (curl, ()) = tokio::join!(curl.output(SOON), respond);
            assert_eq!((curl.code(), &*curl.stdout), (0, body), "{version}: {}", curl.stderr);
            assert!(curl.stderr.contains("< link: </a>"), "{}", curl.stderr);
            let lengths = curl.stderr.matches("< content-length:").count();
            assert_eq!(lengths, usize::from(!body.is_empty()), "{}", curl.stderr);
        }
    }
}

/// A real node behind, a real curl in front.
#[tokio::test]
async fn curl_sees_the_early_hints_of_node() {
    let redis = Redis::start().await;
    for (kind, http2) in [("http1", false), ("http2", true)] {
        let (_node, address) = node(kind).await;
        let gateway = in_front_of(&redis, address, &format!("http2: {http2}")).await;
        let url = format!("http://{}/hints", gateway.address("http"));
        for (version, line) in
            [("--http1.1", "< HTTP/1.1 103"), ("--http2-prior-knowledge", "< HTTP/2 103")]
        {
            let curl = Program::new("/usr/bin/curl").args(["-sSv", version, &url]);
            let curl = curl.output(SOON).await;
            assert_eq!(curl.code(), 0, "{curl:?}");
            assert!(curl.stderr.contains(line), "{kind}: {}", curl.stderr);
            assert!(curl.stderr.contains("< link: </style.css>; rel=preload"), "{}", curl.stderr);
            assert!(curl.stderr.contains(&line.replace("103", "200")), "{}", curl.stderr);
        }
    }
}

#[tokio::test]
async fn a_reason_phrase_of_any_bytes_reaches_a_client_of_http1() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, upstream.address(), "").await;
    for line in [
        &b"404 Nicht gefunden: \xe4\xf6\xfc"[..],
        "200 C\u{2019}est bon \u{2713}".as_bytes(),
        b"200 Fine",
        b"599 ",
    ] {
        let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut call = upstream.call().await;
        let rest = b"\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
        call.write([b"HTTP/1.1 ", line, rest].concat()).await;
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\nok") {
            assert!(within(SOON, "a response", client.read_buf(&mut seen)).await.unwrap() > 0);
        }
        let expected = [b"HTTP/1.1 ", line, b"\r\n"].concat();
        assert!(seen.starts_with(&expected), "{}", String::from_utf8_lossy(&seen));
        // HTTP/2 has none.
        let serve = async {
            let mut call = upstream.call().await;
            call.write([b"HTTP/1.1 ", line, rest].concat()).await;
        };
        let (response, ()) = tokio::join!(gateway.send(Via::Http2, Request::get("/")), serve);
        assert_eq!(response.status.to_string().as_bytes(), &line[..3]);
    }
}

#[tokio::test]
async fn a_request_goes_no_further_than_it_says() {
    let redis = Redis::start().await;
    for (listen, http2) in [("", false), ("http2", true)] {
        let says = "location / { return 200 \"$http_max_forwards\"; }";
        let nginx = Nginx::listening(listen, says).await;
        let gateway = in_front_of(&redis, nginx.address(), &format!("http2: {http2}")).await;
        counts_the_way(&gateway, &nginx).await;
    }
}

async fn counts_the_way(gateway: &Gateway, nginx: &Nginx) {
    let ask = async |via, method: &str, path: &str, left: &str| {
        gateway.send(via, Request::new(method, path).header("max-forwards", left)).await
    };
    for via in Via::ALL {
        assert_eq!(ask(via, "OPTIONS", "/", "10").await.text().await, "9", "{via:?}");
        assert_eq!(ask(via, "OPTIONS", "/", "1").await.text().await, "0");
        assert_eq!(ask(via, "OPTIONS", "/", "x").await.text().await, "x");
        assert_eq!(ask(via, "GET", "/", "0").await.text().await, "0");
        let last = ask(via, "OPTIONS", "/no-further", "0").await;
        assert_eq!(last.status, 204, "{via:?}");
        assert_eq!(last.header("allow"), "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        let last = ask(via, "TRACE", "/no-further", "0").await;
        assert_eq!(last.status, 405, "{via:?}");
        assert_ne!(last.header("allow"), "");
    }
    // nginx logs a request when it has sent its response.
    let all = 4 * Via::ALL.len();
    eventually(SOON, "nginx logs its requests", async || nginx.log().len() >= all).await;
    let asked = nginx.log();
    assert_eq!(asked.len(), all, "{asked:?}");
    assert!(!asked.iter().any(|line| line.contains("/no-further")), "{asked:?}");
}
