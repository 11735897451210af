//! A backend that switches protocols.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{SOON, within};

/// A backend that switches to what it is asked for and then sends back what it is sent.
pub(crate) struct Echo {
    listener: TcpListener,
}

impl Echo {
    /// Listens.
    pub(crate) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// A route that leads here.
    pub(crate) fn route(&self) -> String {
        let address = self.listener.local_addr().unwrap();
        format!("- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{address}\" }}\n")
    }

    /// The next request's head, and its connection.
    pub(crate) async fn call(&self) -> (String, TcpStream) {
        let (mut socket, _) = within(SOON, "a connection", self.listener.accept()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).await.unwrap();
            head.push(byte[0]);
        }
        (String::from_utf8(head).unwrap(), socket)
    }

    /// Switches, then echoes until the other side has ended.
    pub(crate) async fn serve(&self) -> String {
        let (head, mut socket) = self.call().await;
        let accept = accept(&head);
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\n";
        let answer = format!("{answer}Sec-WebSocket-Accept: {accept}\r\n\r\nhello");
        socket.write_all(answer.as_bytes()).await.unwrap();
        let mut bytes = vec![0; 64 << 10];
        loop {
            match socket.read(&mut bytes).await {
                Ok(0) | Err(_) => return head,
                Ok(read) => socket.write_all(&bytes[..read]).await.unwrap(),
            }
        }
    }
}

/// The answer to the challenge in this head (RFC 6455, section 4.2.2).
pub(crate) fn accept(head: &str) -> String {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let key = fields.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let text = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key.unwrap().1);
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// Checks what the backend was asked for a WebSocket: the client's request, made one of HTTP/1.1,
/// with `forwarded` among what the gateway says of the client.
#[track_caller]
pub(crate) fn assert_handshake(head: &str, forwarded: &str) {
    let head = head.to_lowercase();
    assert!(head.starts_with("get /chat?room=1 http/1.1\r\n"), "{head}");
    for field in [
        "\r\nhost: app.example\r\n",
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "origin: https://app.example\r\n",
        "sec-websocket-version: 13\r\n",
        &format!("{forwarded}\r\n"),
    ] {
        assert_eq!(head.matches(field).count(), 1, "{field}: {head}");
    }
}
