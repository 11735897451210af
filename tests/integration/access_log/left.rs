//! Clients that leave in the middle of a request: one status over every protocol.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::{build, line};
use crate::support::{Gateway, Io, Redis, SOON, Via, within};

/// Half of a body of ten bytes.
const HALF: &[u8] = b"12345";

/// A request that half of its body was sent of.
enum BegunUpload {
    Http1(Box<dyn Io>),
    Http2 { stream: h2::SendStream<Bytes>, connection: AbortHandle, is_reset: bool },
}

impl BegunUpload {
    /// Sends the head of a POST to `target`, and half of its body. `is_reset`: it will be given up with a reset, of the
    /// connection in clear text over HTTP/1.1, of the stream over HTTP/2.
    async fn send(gateway: &Gateway, via: Via, target: &str, is_reset: bool) -> Self {
        let to = gateway.address_for(via);
        if !via.is_http2() {
            let head = format!("POST {target} HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n");
            let bytes = [head.as_bytes(), HALF].concat();
            if via == Via::Http1 {
                let mut socket = TcpStream::connect(to).await.unwrap();
                let linger = is_reset.then_some(Duration::ZERO);
                socket2::SockRef::from(&socket).set_linger(linger).unwrap();
                socket.write_all(&bytes).await.unwrap();
                return Self::Http1(Box::new(socket));
            }
            let mut io = via.connect(to).await;
            io.write_all(&bytes).await.unwrap();
            io.flush().await.unwrap();
            return Self::Http1(Box::new(io));
        }
        let (requests, connection) = h2::client::handshake(via.connect(to).await).await.unwrap();
        let connection = tokio::spawn(connection).abort_handle();
        let mut requests = within(SOON, "a connection", requests.ready()).await.unwrap();
        let scheme = if via.is_tls() { "https" } else { "http" };
        let request = http::Request::post(format!("{scheme}://a{target}"));
        let request = request.header("content-length", "10").body(()).unwrap();
        let (_response, mut stream) = requests.send_request(request, false).unwrap();
        stream.send_data(Bytes::from_static(HALF), false).unwrap();
        Self::Http2 { stream, connection, is_reset }
    }

    /// Gives it up.
    fn leave(self) {
        match self {
            Self::Http1(connection) => drop(connection),
            Self::Http2 { mut stream, is_reset: true, .. } => stream.send_reset(h2::Reason::CANCEL),
            Self::Http2 { connection, is_reset: false, .. } => connection.abort(),
        }
    }
}

/// Waits for the head of a request, on a connection of its own.
async fn asked(listener: &TcpListener) -> TcpStream {
    let (mut socket, _) = within(SOON, "a connection", listener.accept()).await.unwrap();
    let mut head = Vec::new();
    while memchr::memmem::find(&head, b"\r\n\r\n").is_none() {
        let read = within(SOON, "a head", socket.read_buf(&mut head)).await.unwrap();
        assert!(read > 0, "closed within a head");
    }
    socket
}

async fn assert_left(gateway: &Gateway, target: &str) {
    let line = line(gateway, "request", target).await;
    for (key, value) in
        [("status", json!(499)), ("error", json!("client_left")), ("bytes", json!(0))]
    {
        assert_eq!(line[key], value, "{key} of {target}: {line}");
    }
}

#[tokio::test]
async fn who_leaves_in_the_middle_of_a_body_has_the_same_status_over_every_protocol() {
    let redis = Redis::start().await;
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let judge = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // A request that is allowed may still be sent there, as its client leaves.
    let judged_backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (to_backend, to_judge) = (backend.local_addr().unwrap(), judge.local_addr().unwrap());
    let to_judged = judged_backend.local_addr().unwrap();
    let gateway = build(&redis)
        .routes(&format!(
            "- {{ path: \"/app/{{*rest}}\", proxy: {{ upstream: \"http://{to_backend}\" }} }}\n\
             - {{ path: \"/judged/{{*rest}}\", proxy: {{ upstream: \"http://{to_judged}\" }}, \
                   auth: {{ forward: {{ url: \"http://{to_judge}/\", cache: 0s }} }} }}\n\
             - {{ path: \"/publish/{{channel}}\", publish: {{}}, \
                   auth: {{ forward: {{ url: \"http://{to_judge}/\", cache: 0s }} }} }}\n"
        ))
        .start()
        .await;
    for via in Via::ALL {
        for is_reset in [false, true] {
            let name = format!("{via:?}-{is_reset}");
            // While the backend reads it.
            let target = format!("/app/{name}");
            let begun = BegunUpload::send(&gateway, via, &target, is_reset).await;
            let call = asked(&backend).await;
            begun.leave();
            assert_left(&gateway, &target).await;
            drop(call);
            // While it is not known whether the request is allowed.
            for route in ["judged", "publish"] {
                let target = format!("/{route}/{name}");
                let begun = BegunUpload::send(&gateway, via, &target, is_reset).await;
                let mut question = asked(&judge).await;
                begun.leave();
                let allowed = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                question.write_all(allowed.as_bytes()).await.unwrap();
                assert_left(&gateway, &target).await;
            }
        }
    }
    // What is wrong with the body itself stays the client's mistake.
    let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
    let request =
        "POST /app/malformed HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let malformed = line(&gateway, "request", "/app/malformed").await;
    assert_eq!(
        (&malformed["status"], &malformed["error"]),
        (&json!(400), &json!("broken_request"))
    );
}
