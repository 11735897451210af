//! WebSockets and other protocols that a connection is upgraded to: bytes go both ways through the
//! gateway, over HTTP/1.1. Over HTTP/2: `websockets_http2`.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::echo::{Echo, assert_handshake};
use crate::support::frame_backend::{FrameBackend, response};
use crate::support::frames::HEADERS;
use crate::support::nginx::Nginx;
use crate::support::{Gateway, Redis, SOON, TlsClient, eventually, within};

const HANDSHAKE: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade\r\n\
                         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                         Sec-WebSocket-Protocol: chat\r\nOrigin: https://app.example\r\n\r\n";

/// The head of an answer.
async fn head(io: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        within(SOON, "a head", io.read_exact(&mut byte)).await.unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_websocket_over_http1_carries_bytes_both_ways() {
    let redis = Redis::start().await;
    let echo = Echo::start().await;
    let gateway = Gateway::build(&redis).routes(&echo.route()).start().await;
    let client = async {
        let tls = TlsClient::offering(&["http/1.1"]);
        let mut io = tls.connect(gateway.address("https")).await.unwrap();
        // What follows the handshake at once is not lost.
        io.write_all(format!("{HANDSHAKE}early").as_bytes()).await.unwrap();
        let head = head(&mut io).await.to_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(head.contains("connection: upgrade\r\n"), "{head}");
        assert!(head.contains("upgrade: websocket\r\n"), "{head}");
        assert!(head.contains("sec-websocket-protocol: chat\r\n"), "{head}");
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
        let mut first = [0; 10];
        within(SOON, "what came first", io.read_exact(&mut first)).await.unwrap();
        assert_eq!(&first, b"helloearly");
        gateway.counts("ssegate_tunnels", &[], 1.0).await;

        // Much of it, so that it must wait for the other side.
        let bytes: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
        let (mut read, mut write) = tokio::io::split(io);
        let mut back = vec![0; bytes.len()];
        let (sent, read_back) = tokio::join!(
            // TLS may hold back the end of it.
            async { write.write_all(&bytes).await.and(write.flush().await) },
            within(SOON, "it all", read.read_exact(&mut back))
        );
        sent.unwrap();
        read_back.unwrap();
        assert!(back == bytes);
        write.shutdown().await.unwrap();
        let mut rest = Vec::new();
        within(SOON, "the end", read.read_to_end(&mut rest)).await.unwrap();
        assert_eq!(rest, b"");
    };
    let (head, ()) = tokio::join!(echo.serve(), client);
    assert_handshake(&head, "x-forwarded-for: 127.0.0.1");
    let none = async || gateway.metrics().await.sum("ssegate_tunnels", &[]) < 1.0;
    eventually(SOON, "the tunnel is gone", none).await;
    let none = async || gateway.metrics().await.sum("ssegate_upstream_connections", &[]) < 1.0;
    eventually(SOON, "and its connection", none).await;
}

#[tokio::test]
async fn each_side_of_a_tunnel_hears_that_the_other_has_left() {
    let redis = Redis::start().await;
    let echo = Echo::start().await;
    let gateway =
        Gateway::build(&redis).settings("drain: 500ms").routes(&echo.route()).start().await;
    let open = async || {
        let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
        client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        let (_, mut backend) = echo.call().await;
        let answer = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        backend.write_all(answer.as_bytes()).await.unwrap();
        head(&mut client).await;
        (client, backend)
    };
    let mut rest = Vec::new();
    let (client, mut backend) = open().await;
    drop(client);
    drop(within(SOON, "the backend hears", backend.read_to_end(&mut rest)).await);
    let (mut client, backend) = open().await;
    drop(backend);
    drop(within(SOON, "the client hears", client.read_to_end(&mut rest)).await);
    assert_eq!(rest, b"");

    // And both when the gateway stops.
    let (mut client, mut backend) = open().await;
    gateway.terminate();
    drop(within(SOON, "the client hears", client.read_to_end(&mut rest)).await);
    drop(within(SOON, "the backend hears", backend.read_to_end(&mut rest)).await);
}

#[tokio::test]
async fn a_backend_may_refuse_an_upgrade() {
    let redis = Redis::start().await;
    let echo = Echo::start().await;
    let gateway = Gateway::build(&redis).routes(&echo.route()).start().await;
    for (answer, expected) in [
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", "HTTP/1.1 403"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", "HTTP/1.1 200"),
        ("HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n", "HTTP/1.1 502"),
        ("HTTP/1.1 101 X\r\n\r\n", "HTTP/1.1 502"),
    ] {
        let client = async {
            let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
            client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
            head(&mut client).await
        };
        let serve = async {
            let (_, mut backend) = echo.call().await;
            backend.write_all(answer.as_bytes()).await.unwrap();
            backend
        };
        let (head, _backend) = tokio::join!(client, serve);
        assert!(head.starts_with(expected), "{answer}: {head}");
    }
}

#[tokio::test]
async fn an_upgrade_other_than_websocket_is_an_ordinary_request_where_the_backend_speaks_http2() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = Gateway::build(&redis).routes(&backend.route("")).start().await;
    for upgrade in ["foo", "h2c, TLS/1.0", "websocket2"] {
        let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        let (head, ()) = tokio::join!(head(&mut client), async {
            let mut connection = backend.accept(&[]).await;
            let request = within(SOON, "a request", connection.next_of(HEADERS)).await;
            let stream = request.expect("the connection is open").stream;
            connection.send_all(response(stream, &[], "ok")).await;
        });
        assert!(head.starts_with("HTTP/1.1 200 "), "{upgrade}: {head}");
    }
}

#[tokio::test]
async fn a_websocket_that_a_backend_of_http2_alone_fails_is_no_trouble_of_that_backend() {
    let redis = Redis::start().await;
    let nginx = Nginx::with_files("http2", "", &[("index.html", 5)]).await;
    let route = nginx.route_with("/{*rest}", "http2: true");
    let gateway = Gateway::build(&redis).routes(&route).start().await;
    assert_eq!(gateway.get("/index.html").await.status, 200);
    let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
    client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    let head = head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    gateway.logs("a WebSocket goes to the backend over HTTP/1.1").await;
    let readiness = gateway.admin("/readyz?verbose").await.text().await;
    assert!(!readiness.contains("[!]"), "{readiness}");
}
