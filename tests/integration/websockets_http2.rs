//! WebSockets over HTTP/2 (RFC 8441): to the backend they are upgrades.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::echo::{Echo, accept, assert_handshake};
use crate::support::{Gateway, Redis, SOON, eventually, extended_connect, within};

/// What a page of the application says beside the handshake.
const FIELDS: &[(&str, &str)] =
    &[("sec-websocket-protocol", "chat"), ("origin", "https://app.example")];

/// So many bytes of a body.
async fn read(body: &mut h2::RecvStream, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let chunk = within(SOON, "some bytes", body.data()).await.unwrap().unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        bytes.extend_from_slice(&chunk);
    }
    bytes
}

#[tokio::test]
async fn a_websocket_over_http2_carries_bytes_both_ways() {
    let redis = Redis::start().await;
    let echo = Echo::start().await;
    let gateway = Gateway::build(&redis).routes(&echo.route()).start().await;
    let client = async {
        let (response, mut stream) = extended_connect(&gateway, "websocket", FIELDS).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        for name in ["connection", "upgrade", "sec-websocket-accept", "content-length"] {
            assert!(!response.headers().contains_key(name), "{:?}", response.headers());
        }
        let mut body = response.into_body();
        assert_eq!(read(&mut body, 5).await, b"hello");
        // Much of it, so that it must wait for the other side.
        let bytes: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
        let send = async {
            let mut rest = Bytes::from(bytes.clone());
            while !rest.is_empty() {
                stream.reserve_capacity(rest.len());
                let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                let piece = rest.split_to(room.unwrap().unwrap().min(rest.len()));
                stream.send_data(piece, false).unwrap();
            }
            stream.send_data(Bytes::new(), true).unwrap();
        };
        let (back, ()) = tokio::join!(read(&mut body, bytes.len()), send);
        assert!(back == bytes);
        assert!(
            within(SOON, "the end", body.data()).await.is_none_or(|end| end.unwrap().is_empty())
        );
    };
    let (head, ()) = tokio::join!(echo.serve(), client);
    assert_handshake(&head, "x-forwarded-proto: https");
    let none = async || gateway.metrics().await.sum("ssegate_tunnels", &[]) < 1.0;
    eventually(SOON, "the tunnel is gone", none).await;
}

#[tokio::test]
async fn a_websocket_over_http2_is_only_opened_when_the_backend_has_agreed() {
    let redis = Redis::start().await;
    let echo = Echo::start().await;
    let gateway = Gateway::build(&redis).routes(&echo.route()).start().await;
    let switch = "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
    for (answer, expected) in [
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", 403),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", 502),
        (&format!("{switch}sec-websocket-accept: wrong\r\n\r\n"), 502),
        (&format!("{switch}\r\n"), 502),
    ] {
        let serve = async {
            let (_, mut backend) = echo.call().await;
            backend.write_all(answer.as_bytes()).await.unwrap();
            backend
        };
        let ((response, _), _backend) =
            tokio::join!(extended_connect(&gateway, "websocket", FIELDS), serve);
        assert_eq!(response.status(), expected, "{answer}");
    }
    // Other protocols are not carried.
    let (response, _) = extended_connect(&gateway, "connect-udp", FIELDS).await;
    assert_eq!(response.status(), 405);
}

#[tokio::test]
async fn the_backend_hears_when_a_websocket_over_http2_is_left() {
    let redis = Redis::start().await;
    let echo = Echo::start().await;
    let gateway = Gateway::build(&redis).routes(&echo.route()).start().await;
    let serve = async {
        let (head, mut backend) = echo.call().await;
        let answer = "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n";
        let answer = format!("{answer}Sec-WebSocket-Accept: {}\r\n\r\n", accept(&head));
        backend.write_all(answer.as_bytes()).await.unwrap();
        backend
    };
    let ((response, stream), mut backend) =
        tokio::join!(extended_connect(&gateway, "websocket", FIELDS), serve);
    assert_eq!(response.status(), 200);
    drop((response, stream));
    let mut rest = Vec::new();
    drop(within(SOON, "the backend hears", backend.read_to_end(&mut rest)).await);
    assert_eq!(rest, b"");
}
