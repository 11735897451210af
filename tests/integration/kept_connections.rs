//! Connections to a backend over HTTP/1.1 that are kept for the next request, and die as it is sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Gateway, Redis, Request, Via};

/// A backend on whose connections a request with `x-die` is read and never answered: on kept ones, or
/// on all of them with `x-always`. What `x-die` says is how the connection ends: `closed`, `reset`, or
/// `halfway` through the head of a response.
struct Mortal {
    address: SocketAddr,
    // Requests with x-die that were read.
    seen: Arc<AtomicUsize>,
}

impl Mortal {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(live(socket, Arc::clone(&count)));
            }
        });
        Self { address, seen }
    }

    /// A gateway in front of it, on one shard, with further keys of `proxy`.
    async fn gateway(&self, redis: &Redis, more: &str) -> Gateway {
        let upstream = self.address;
        let route =
            format!("- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{upstream}\"{more} }}\n");
        Gateway::build(redis).settings("shards: 1").routes(&route).start().await
    }

    /// Sends a request on a kept connection, which dies. Gives the status, and how often it was read.
    async fn asked(&self, gateway: &Gateway, request: Request, death: &str) -> (u16, usize) {
        assert_eq!(gateway.get("/").await.status, 200);
        let before = self.seen.load(Ordering::SeqCst);
        let response = gateway.send(Via::Http1, request.header("x-die", death)).await;
        (response.status, self.seen.load(Ordering::SeqCst) - before)
    }
}

async fn live(mut socket: TcpStream, seen: Arc<AtomicUsize>) {
    let mut is_kept = false;
    while let Some(head) = read(&mut socket).await {
        if head.contains("\r\nx-die: ") {
            seen.fetch_add(1, Ordering::SeqCst);
            if is_kept || head.contains("\r\nx-always: ") {
                return die(socket, &head).await;
            }
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        socket.write_all(answer).await.unwrap();
        is_kept = true;
    }
}

/// Reads a request; gives its head.
async fn read(socket: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..at + 4].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if bytes.len() == at + 4 + length {
                return Some(head);
            }
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

async fn die(mut socket: TcpStream, head: &str) {
    if head.contains("x-die: reset") {
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    } else if head.contains("x-die: halfway") {
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await.unwrap();
    }
}

#[tokio::test]
async fn a_request_that_a_dying_connection_took_is_sent_once_more() {
    let redis = Redis::start().await;
    let backend = Mortal::start().await;
    let gateway = backend.gateway(&redis, "").await;
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        for death in ["closed", "reset", "halfway"] {
            let asked = backend.asked(&gateway, Request::new(method, "/"), death).await;
            assert_eq!(asked, (200, 2), "{method} {death}");
        }
    }
    let retried = ["reason=\"lost\""];
    gateway.counts("ssegate_upstream_retries_total", &retried, 15.0).await;
}

#[tokio::test]
async fn a_request_is_sent_twice_and_no_more() {
    let redis = Redis::start().await;
    let backend = Mortal::start().await;
    let gateway = backend.gateway(&redis, "").await;
    let request = Request::get("/").header("x-always", "yes");
    assert_eq!(backend.asked(&gateway, request, "closed").await, (502, 2));
}

#[tokio::test]
async fn a_request_that_may_have_had_effect_is_not_sent_again() {
    let redis = Redis::start().await;
    let backend = Mortal::start().await;
    let gateway = backend.gateway(&redis, "").await;
    for (method, body) in [("POST", &b""[..]), ("PATCH", b""), ("POST", b"body"), ("PUT", b"body")]
    {
        let request = Request::new(method, "/").body(body);
        let asked = backend.asked(&gateway, request, "closed").await;
        assert_eq!(asked, (502, 1), "{method} {body:?}");
    }
}

#[tokio::test]
async fn nothing_is_sent_again_where_the_route_says_so() {
    let redis = Redis::start().await;
    let backend = Mortal::start().await;
    let gateway = backend.gateway(&redis, ", retry_idempotent: false").await;
    assert_eq!(backend.asked(&gateway, Request::get("/"), "closed").await, (502, 1));
}

#[tokio::test]
async fn a_request_that_a_new_connection_took_is_not_sent_again() {
    let redis = Redis::start().await;
    let backend = Mortal::start().await;
    let gateway = backend.gateway(&redis, "").await;
    let request = Request::get("/").header("x-always", "yes").header("x-die", "closed");
    assert_eq!(gateway.send(Via::Http1, request).await.status, 502);
    assert_eq!(backend.seen.load(Ordering::SeqCst), 1);
}
