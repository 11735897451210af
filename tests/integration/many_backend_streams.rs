//! Thousands of streams that the backend writes itself, through one gateway.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{EventStream, Gateway, Http2, Redis, Request, SOON, Via, eventually, within};

const STREAMS: usize = 2000;
const EVENTS: usize = 20;
/// What one HTTP/2 connection carries.
const STREAMS_OF_A_CONNECTION: usize = 200;

/// What the backend writes on one of its streams: no two are the same.
fn text(stream: &str, event: usize) -> String {
    format!("{event} of {stream}: {}", "x".repeat(event * 17 % 300))
}

/// A backend that answers each request with a stream of its own, at the pace of `said`.
async fn serve(listener: TcpListener, said: watch::Receiver<usize>) {
    let mut streams = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        streams.spawn(write_stream(socket, said.clone()));
    }
}

async fn write_stream(mut socket: TcpStream, mut said: watch::Receiver<usize>) {
    let mut head = Vec::new();
    while memchr::memmem::find(&head, b"\r\n\r\n").is_none() {
        if socket.read_buf(&mut head).await.unwrap() == 0 {
            return;
        }
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    let begin = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                 transfer-encoding: chunked\r\n\r\n9\r\n: hello\n\n\r\n";
    socket.write_all(begin.as_bytes()).await.unwrap();
    for event in 0..EVENTS {
        said.wait_for(|said| *said > event).await.unwrap();
        // Cut within its line: a piece is no event.
        let block = format!("id: {event}\ndata: {}\n\n", text(&target, event));
        for piece in block.as_bytes().chunks(100) {
            let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
            socket.write_all(&chunk).await.unwrap();
        }
    }
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    // Closed by the gateway, or kept.
    drop(socket.read(&mut [0]).await);
}

/// Reads a stream from its first event to its clean end.
async fn read_all(number: usize, mut stream: EventStream) -> usize {
    let target = format!("/stream/{number}");
    for event in 0..EVENTS {
        let next = stream.event().await.unwrap_or_else(|| panic!("{target} ended before {event}"));
        assert_eq!((next.id, next.data), (event.to_string(), text(&target, event)));
    }
    assert_eq!(stream.event().await, None, "{target} has more than was written");
    assert_eq!(stream.end().await, Ok(()), "{target}");
    EVENTS
}

/// Opens all of them: half over HTTP/1.1, half over HTTP/2 with TLS.
async fn open_all(gateway: &Gateway) -> Vec<EventStream> {
    let mut streams = Vec::with_capacity(STREAMS);
    let (http, https): (SocketAddr, _) = (gateway.address("http"), gateway.address("https"));
    let mut connection = None;
    for number in 0..STREAMS {
        let request = Request::events(&format!("/stream/{number}"));
        let response = if number < STREAMS / 2 {
            request.send(Via::Http1, http).await
        } else {
            if number % STREAMS_OF_A_CONNECTION == 0 {
                connection = Some(Http2::connect(Via::Http2, https).await);
            }
            connection.as_ref().unwrap().send(request).await
        };
        streams.push(response.stream());
    }
    streams
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_streams_of_a_backend_arrive_whole() {
    let redis = Redis::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let (pace, said) = watch::channel(0);
    let backend = tokio::spawn(serve(listener, said));
    let route = format!("- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{upstream}\" }}\n");
    let gateway = Gateway::build(&redis).route(&route).start().await;
    let before = gateway.resident_bytes();

    let streams = open_all(&gateway).await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_streams", &["route=\"/{*rest}\""]), STREAMS as f64);
    let grown = gateway.resident_bytes().saturating_sub(before) / STREAMS as u64;
    eprintln!("{} KiB of memory for each stream and its connection to the backend", grown >> 10);

    let mut reading: JoinSet<usize> =
        streams.into_iter().enumerate().map(|(n, stream)| read_all(n, stream)).collect();
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    for event in 1..=EVENTS {
        pause.tick().await;
        pace.send_replace(event);
    }
    let mut arrived = 0;
    within(8 * SOON, "all events on all streams", async {
        while let Some(events) = reading.join_next().await {
            arrived += events.unwrap();
        }
    })
    .await;
    assert_eq!(arrived, STREAMS * EVENTS);
    let gone = async || gateway.metrics().await.sum("ssegate_streams", &[]) == 0.0;
    eventually(SOON, "all are closed", gone).await;
    let closed = ["reason=\"backend_ended\""];
    gateway.counts("ssegate_streams_closed_total", &closed, STREAMS as f64).await;
    backend.abort();
}
