//! WebSockets through a proxy route with `auth`, over HTTP/1.1 and HTTP/2.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::auth::{jwt, of, seconds};
use crate::forward_auth::Judge;
use crate::support::echo::{Echo, accept};
use crate::support::{Gateway, Redis, SOON, eventually, extended_connect, within};

/// The header fields of a handshake, beside those of the upgrade itself.
type Fields<'a> = &'a [(&'static str, &'a str)];

/// The handshake over HTTP/1.1, as far as the head of the response: its status, and the connection.
async fn upgrade(gateway: &Gateway, protocol: &str, fields: Fields<'_>) -> (u16, TcpStream) {
    let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
    let fields: String =
        fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let handshake = format!(
        "GET /chat?room=1 HTTP/1.1\r\nhost: app.example\r\ncOnNeCtIoN: keep-alive, UPGRADE\r\nuPgRaDe: {protocol}\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    );
    client.write_all(handshake.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        within(SOON, "a head", client.read_exact(&mut byte)).await.unwrap();
        head.push(byte[0]);
    }
    let status = String::from_utf8_lossy(&head[9..12]).parse().unwrap();
    (status, client)
}

/// A gateway whose WebSockets need a token, and its backend.
async fn start() -> (Redis, Echo, Gateway) {
    let (redis, echo) = (Redis::start().await, Echo::start().await);
    let auth = jwt(", from: [bearer, \"cookie:token\", \"query:token\"]");
    let gateway = Gateway::build(&redis).settings(&auth).routes(&echo.route()).start().await;
    (redis, echo, gateway)
}

#[tokio::test]
async fn a_websocket_without_a_credential_does_not_reach_the_backend() {
    let (_redis, echo, gateway) = start().await;
    let good = of("42", &serde_json::json!({}));
    let expired = format!("Bearer {}", of("42", &serde_json::json!({"exp": seconds(-60)})));
    let cookie = format!("token={good}");
    for (fields, expected) in [
        (&[][..], 401),
        (&[("authorization", &*expired)], 401),
        (&[("authorization", "Basic eDp5")], 401),
        (&[("cookie", "token=nonsense")], 401),
        (&[("cookie", &*cookie), ("origin", "https://evil.example")], 403),
        (&[("cookie", &*cookie), ("origin", "null")], 403),
        (&[("cookie", &*cookie), ("origin", "https://app.example.evil.example")], 403),
    ] {
        for protocol in ["websocket", "WebSocket", "WEBSOCKET, other", "other"] {
            let (status, mut client) = upgrade(&gateway, protocol, fields).await;
            assert_eq!(status, expected, "{fields:?} {protocol}");
            // What follows is a request of HTTP, and not a byte for the backend.
            let next = "GET /next HTTP/1.1\r\nhost: app.example\r\nconnection: close\r\n\r\n";
            client.write_all(next.as_bytes()).await.unwrap();
            let mut rest = String::new();
            within(SOON, "the end", client.read_to_string(&mut rest)).await.unwrap();
            assert!(rest.contains("HTTP/1.1 401 "), "{rest}");
        }
        let (response, _) = extended_connect(&gateway, "websocket", fields).await;
        assert_eq!(response.status(), expected, "{fields:?}");
    }
    // The first that the backend sees is one with a credential.
    let bearer = format!("Bearer {good}");
    let (_open, (head, _backend)) =
        tokio::join!(upgrade_and_switch(&gateway, &bearer), switch(&echo));
    assert!(head.contains(&bearer), "{head}");
}

async fn upgrade_and_switch(gateway: &Gateway, bearer: &str) -> TcpStream {
    let (status, client) = upgrade(gateway, "WebSocket", &[("authorization", bearer)]).await;
    assert_eq!(status, 101);
    client
}

/// Switches the next connection to WebSocket.
async fn switch(echo: &Echo) -> (String, TcpStream) {
    let (head, mut backend) = echo.call().await;
    let accept = accept(&head);
    let answer = format!(
        "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    backend.write_all(answer.as_bytes()).await.unwrap();
    (head, backend)
}

#[tokio::test]
async fn a_websocket_with_a_credential_is_opened() {
    let (_redis, echo, gateway) = start().await;
    let cookie = format!("token={}", of("42", &serde_json::json!({})));
    for fields in [
        &[("cookie", &*cookie)][..],
        &[("cookie", &*cookie), ("origin", "https://app.example")],
        &[
            ("cookie", &*cookie),
            ("origin", "https://other.example"),
            ("sec-fetch-site", "same-origin"),
        ],
    ] {
        let ((status, mut client), (_, mut backend)) =
            tokio::join!(upgrade(&gateway, "WebSocket", fields), switch(&echo));
        assert_eq!(status, 101, "{fields:?}");
        let mut bytes = [0; 2];
        client.write_all(b"hi").await.unwrap();
        within(SOON, "two bytes", backend.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(&bytes, b"hi");
        let ((response, mut stream), (_, mut backend)) =
            tokio::join!(extended_connect(&gateway, "websocket", fields), switch(&echo));
        assert_eq!(response.status(), 200, "{fields:?}");
        stream.send_data(Bytes::from_static(b"hi"), false).unwrap();
        within(SOON, "two bytes", backend.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(&bytes, b"hi");
    }
}

#[tokio::test]
async fn a_websocket_ends_with_its_token() {
    let (_redis, echo, gateway) = start().await;
    let until = seconds(3);
    let bearer = format!("Bearer {}", of("42", &serde_json::json!({"exp": until})));
    let fields = [("authorization", &*bearer)];
    let ((_, mut client), (_, mut backend)) =
        tokio::join!(upgrade(&gateway, "websocket", &fields), switch(&echo));
    let ((response, _stream), (_, mut other)) =
        tokio::join!(extended_connect(&gateway, "websocket", &fields), switch(&echo));
    let mut body = response.into_body();
    let mut rest = Vec::new();
    drop(within(SOON, "the client's end", client.read_to_end(&mut rest)).await);
    drop(within(SOON, "the backend's end", backend.read_to_end(&mut rest)).await);
    drop(within(SOON, "the end over HTTP/2", body.data()).await);
    drop(within(SOON, "its backend's end", other.read_to_end(&mut rest)).await);
    assert!(rest.is_empty());
    assert!(seconds(0) >= until);
}

#[tokio::test]
async fn a_logout_ends_a_websocket_at_its_recheck() {
    let (redis, echo, judge) = (Redis::start().await, Echo::start().await, Judge::start().await);
    let port = judge.port;
    let settings = "copy_headers: [x-user], cache: 1h, recheck: 1s";
    let auth = format!("auth: {{ forward: {{ url: \"http://127.0.0.1:{port}/\", {settings} }} }}");
    let gateway = Gateway::build(&redis).settings(&auth).routes(&echo.route()).start().await;
    let fields = [("cookie", "user=42")];
    let ((status, mut client), (_, mut backend)) =
        tokio::join!(upgrade(&gateway, "websocket", &fields), switch(&echo));
    assert_eq!(status, 101);
    let ((response, mut stream), (_, mut other)) =
        tokio::join!(extended_connect(&gateway, "websocket", &fields), switch(&echo));
    assert_eq!(response.status(), 200);

    // No verdict ends nothing.
    judge.respond("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
    let before = judge.asked();
    eventually(SOON, "it is asked again", async || judge.asked() > before + 3).await;
    let mut bytes = [0; 2];
    client.write_all(b"hi").await.unwrap();
    within(SOON, "two bytes", backend.read_exact(&mut bytes)).await.unwrap();
    stream.send_data(Bytes::from_static(b"hi"), false).unwrap();
    within(SOON, "two bytes", other.read_exact(&mut bytes)).await.unwrap();

    judge.respond("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
    let (mut body, mut rest) = (response.into_body(), Vec::new());
    drop(within(SOON, "the client's end", client.read_to_end(&mut rest)).await);
    drop(within(SOON, "the backend's end", backend.read_to_end(&mut rest)).await);
    drop(within(SOON, "the end over HTTP/2", body.data()).await);
    drop(within(SOON, "its backend's end", other.read_to_end(&mut rest)).await);
    assert!(rest.is_empty());
    let gone = async || gateway.metrics().await.sum("ssegate_tunnels", &[]) == 0.0;
    eventually(SOON, "the tunnels are gone", gone).await;
}

#[tokio::test]
async fn a_websocket_counts_among_the_streams_of_its_identity() {
    let (redis, echo) = (Redis::start().await, Echo::start().await);
    let auth = jwt("").replace(" } }", " }, max_streams: 2 }");
    let gateway = Gateway::build(&redis).settings(&auth).routes(&echo.route()).start().await;
    let bearer = format!("Bearer {}", of("42", &serde_json::json!({})));
    let fields = [("authorization", &*bearer)];
    let ((status, first), (_, backend)) =
        tokio::join!(upgrade(&gateway, "websocket", &fields), switch(&echo));
    assert_eq!(status, 101);
    let ((response, _second), (_, _other)) =
        tokio::join!(extended_connect(&gateway, "websocket", &fields), switch(&echo));
    assert_eq!(response.status(), 200);
    let ((status, _third), (_, mut refused)) =
        tokio::join!(upgrade(&gateway, "websocket", &fields), switch(&echo));
    assert_eq!(status, 429);
    let mut rest = Vec::new();
    drop(within(SOON, "the end at the backend", refused.read_to_end(&mut rest)).await);
    let ((response, _third), (_, _refused)) =
        tokio::join!(extended_connect(&gateway, "websocket", &fields), switch(&echo));
    assert_eq!(response.status(), 429);
    drop((first, backend));
    eventually(SOON, "room for another", async || {
        let opening = async || upgrade(&gateway, "websocket", &fields).await;
        let ((status, _client), _backend) = tokio::join!(opening(), switch(&echo));
        status == 101
    })
    .await;
}
