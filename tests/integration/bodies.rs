//! Bodies of any size pass in constant memory: who does not take them slows down who sends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{
    Gateway, Redis, Request, Response, SOON, Via, eventually, measured, unread_bytes_of, within,
};

const PIECE: usize = 256 << 10;

/// Repeats every 251 bytes, so that no piece looks like another.
fn piece(at: u64) -> Bytes {
    let bytes = (at..at + PIECE as u64).map(|n| u8::try_from(n % 251).unwrap());
    bytes.collect()
}

async fn in_front_of(redis: &Redis, listener: &TcpListener) -> Gateway {
    let address = listener.local_addr().unwrap();
    let route = format!("- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{address}\" }}\n");
    Gateway::build(redis).routes(&route).start().await
}

/// Reads a request of `length` bytes, checks each, and answers.
async fn take_all(listener: &TcpListener, length: u64) {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut bytes = Vec::with_capacity(PIECE);
    let head = loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            break end + 4;
        }
        assert!(socket.read_buf(&mut bytes).await.unwrap() > 0);
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    assert!(text.contains(&format!("\r\ncontent-length: {length}\r\n")), "{text}");
    bytes.drain(..head);
    let mut taken = 0;
    loop {
        for byte in &bytes {
            assert_eq!(u64::from(*byte), taken % 251, "at {taken}");
            taken += 1;
        }
        bytes.clear();
        if taken == length {
            break;
        }
        assert!(socket.read_buf(&mut bytes).await.unwrap() > 0, "ended at {taken}");
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nall";
    socket.write_all(answer).await.unwrap();
}

async fn upload_http1(gateway: &Gateway, length: u64) {
    let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    for at in (0..length).step_by(PIECE) {
        socket.write_all(&piece(at)).await.unwrap();
    }
    let mut line = [0; 15];
    within(SOON, "an answer", socket.read_exact(&mut line)).await.unwrap();
    assert_eq!(&line, b"HTTP/1.1 200 OK");
}

async fn upload_http2(gateway: &Gateway, length: u64) {
    let io = Via::Http2.connect(gateway.address_for(Via::Http2)).await;
    let (mut requests, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("https://a/").header("content-length", length);
    let (response, mut body) = requests.send_request(request.body(()).unwrap(), false).unwrap();
    for at in (0..length).step_by(PIECE) {
        let mut piece = piece(at);
        let is_last = at + PIECE as u64 == length;
        while !piece.is_empty() {
            body.reserve_capacity(piece.len());
            let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
            let part = piece.split_to(room.min(piece.len()));
            body.send_data(part, is_last && piece.is_empty()).unwrap();
        }
    }
    assert_eq!(within(SOON, "an answer", response).await.unwrap().status(), 200);
}

/// Uploads over both protocols, and what the gateway's memory grows by meanwhile, at most.
async fn uploads(length: u64) -> u64 {
    let redis = Redis::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = in_front_of(&redis, &listener).await;
    // What is only allocated once is there already.
    tokio::join!(upload_http1(&gateway, PIECE as u64), take_all(&listener, PIECE as u64));
    tokio::join!(upload_http2(&gateway, PIECE as u64), take_all(&listener, PIECE as u64));
    let before = gateway.resident_bytes();
    let mut most = before;
    let upload = async {
        tokio::join!(upload_http1(&gateway, length), take_all(&listener, length));
        tokio::join!(upload_http2(&gateway, length), take_all(&listener, length));
    };
    let mut upload = std::pin::pin!(upload);
    loop {
        tokio::select! {
            () = &mut upload => return most - before,
            () = tokio::time::sleep(Duration::from_millis(50)) => {
                most = most.max(gateway.resident_bytes());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_takes_no_memory() {
    let grown = uploads(32 << 20).await;
    assert!(grown < 4 << 20, "{grown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: run by tests/run --full"]
async fn long_an_upload_of_a_gibibyte_takes_no_memory() {
    let grown = uploads(1 << 30).await;
    assert!(grown < 4 << 20, "{grown}");
}

/// A response that the backend writes for as long as it is taken: with it the backend, and how many
/// octets it has written.
async fn answer_without_end(
    gateway: &Gateway,
    listener: &TcpListener,
    via: Via,
) -> (Response, JoinHandle<()>, Arc<AtomicU64>) {
    let (response, mut socket) = tokio::join!(gateway.send(via, Request::get("/")), async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(socket.read(&mut request).await.unwrap() > 0);
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n";
        socket.write_all(head).await.unwrap();
        socket
    });
    let written = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&written);
    let backend = tokio::spawn(async move {
        let piece = piece(0);
        while socket.write_all(&piece).await.is_ok() {
            counted.fetch_add(PIECE as u64, Ordering::SeqCst);
        }
    });
    (response, backend, written)
}

/// The backend waits when nothing more is taken for a while; gives what it had written by then.
async fn until_it_waits(written: &AtomicU64) -> u64 {
    let mut last = u64::MAX;
    eventually(SOON, "the backend waits", async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = written.load(Ordering::SeqCst);
        std::mem::replace(&mut last, now) == now
    })
    .await;
    last
}

#[tokio::test]
async fn a_client_that_does_not_read_slows_the_backend_and_costs_no_memory() {
    let redis = Redis::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = in_front_of(&redis, &listener).await;
    for via in [Via::Http1, Via::Http2] {
        let before = gateway.resident_bytes();
        let (response, backend, written) = answer_without_end(&gateway, &listener, via).await;
        let last = until_it_waits(&written).await;
        assert!(last < 32 << 20, "what four ends of sockets can hold: {last} via {via:?}");
        let grown = gateway.resident_bytes().saturating_sub(before);
        assert!(grown < 4 << 20, "{grown} via {via:?}");

        // And goes on when the client reads.
        let mut body = response.body;
        let mut read = 0;
        while read < last + (1 << 20) {
            let chunk = within(SOON, "more", body.chunk()).await.unwrap().unwrap();
            read += chunk.len() as u64;
        }
        drop(body);
        within(SOON, "the backend is told that the client has left", backend).await.unwrap();
    }
}

/// The kernel gives a connection that was fast up to 6 MiB to receive in, which a client that stops
/// would hold for as long as it likes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stops_leaves_little_of_the_answer_in_the_kernel() {
    let redis = Redis::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = in_front_of(&redis, &listener).await;
    for via in [Via::Http1, Via::Http2] {
        let (response, backend, written) = answer_without_end(&gateway, &listener, via).await;
        let mut body = response.body;
        let mut read = 0;
        while read < 64 << 20 {
            read += within(SOON, "more", body.chunk()).await.unwrap().unwrap().len();
        }
        until_it_waits(&written).await;
        // What the gateway has not come to read on a busy machine it still reads.
        let mut unread = 0;
        let is_little = async || {
            unread = unread_bytes_of(listener.local_addr().unwrap());
            unread <= 1 << 20
        };
        eventually(SOON, "at most 1 MiB is unread", is_little).await;
        measured(&format!("{} KiB unread via {via:?}", unread >> 10));
        drop(body);
        within(SOON, "the backend is told that the client has left", backend).await.unwrap();
    }
}
