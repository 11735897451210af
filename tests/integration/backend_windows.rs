//! What a backend over HTTP/2 may send before its clients read it: little for each, more for one that
//! reads fast, and all of that out of one amount.

use crate::support::frame_backend::{FrameBackend, INITIAL_WINDOW_SIZE, head};
use crate::support::frames::{ACK, DATA, END_STREAM, HEADERS, PING, SETTINGS, WINDOW_UPDATE};
use crate::support::h2_site::H2Site;
use crate::support::{
    Frame, FrameConnection, Gateway, Redis, Request, SOON, Via, eventually, measured, within,
};

/// The window of a new stream.
const WINDOW: usize = 64 << 10;

#[tokio::test]
async fn responses_that_no_client_reads_hold_64_kib_each() {
    const STREAMS: u32 = 200;
    let redis = Redis::start().await;
    let backend = H2Site::start().await;
    let gateway =
        Gateway::build(&redis).settings("shards: 1").routes(&backend.route("")).start().await;
    let mut client = FrameConnection::open(gateway.address("http"), &[(4, 0)]).await;
    client.send_all((0..STREAMS).map(|number| Frame::get(2 * number + 1, "/large"))).await;
    for _ in 0..STREAMS {
        within(SOON, "the head of a response", client.next_of(HEADERS)).await.expect("open");
    }
    let all = STREAMS as usize * WINDOW;
    eventually(SOON, "every window is full", async || backend.sent() >= all).await;
    // A larger window would have been used meanwhile.
    for _ in 0..10 {
        assert_eq!(gateway.get("/short").await.text().await, "short");
    }
    let short = 10 * "short".len();
    assert!(backend.sent() <= all + short, "{} octets more", backend.sent() - all);
    assert_eq!(gateway.metrics().await.sum("ssegate_upload_memory_bytes", &[]), 0.0);
}

/// Sends a body of this length as fast as it may; returns the most that it was allowed to send at once.
async fn send_body(backend: &FrameBackend, length: usize) -> usize {
    let mut connection = backend.accept(&[]).await;
    let (mut window, mut most, mut sent, mut stream) = (0, 0, 0, None);
    while sent < length {
        let frame = within(SOON, "a frame", connection.next()).await.expect("closed");
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => {
                let settings = frame.settings();
                let size = settings.iter().find(|(name, _)| *name == INITIAL_WINDOW_SIZE);
                window = size.expect("a window").1 as usize;
            }
            HEADERS => {
                stream = Some(frame.stream);
                connection.send_all(head(frame.stream, &[])).await;
            }
            WINDOW_UPDATE if frame.stream != 0 => window += frame.number(0) as usize,
            PING if frame.flags & ACK == 0 => {
                connection.send(&Frame::new(PING, ACK, 0, &frame.payload)).await;
            }
            _ => {}
        }
        let Some(stream) = stream else { continue };
        most = most.max(window);
        let now = window.min(length - sent);
        let body = vec![b'x'; now];
        let frames = body.chunks(16 << 10).map(|piece| Frame::new(DATA, 0, stream, piece));
        connection.send_all(frames).await;
        window -= now;
        sent += now;
    }
    connection.send(&Frame::new(DATA, END_STREAM, stream.expect("a request"), b"")).await;
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_of_a_download_that_is_read_grows_as_far_as_upload_memory_lends() {
    const LENGTH: usize = 32 << 20;
    let redis = Redis::start().await;
    for (settings, grows, limit) in [
        ("", true, 4 * WINDOW),
        ("limits: { upload_memory: 64KiB }", true, 2 * WINDOW),
        ("limits: { upload_memory: 63KiB }", false, WINDOW),
        ("limits: { upload_memory: 0 }", false, WINDOW),
    ] {
        let backend = FrameBackend::start().await;
        let gateway =
            Gateway::build(&redis).settings(settings).routes(&backend.route("")).start().await;
        let read = async {
            let mut response = gateway.send(Via::Http1, Request::get("/")).await;
            let mut length = 0;
            while let Some(chunk) = within(SOON, "a piece", response.body.chunk()).await.unwrap() {
                length += chunk.len();
            }
            length
        };
        let (length, most) = tokio::join!(read, send_body(&backend, LENGTH));
        measured(&format!("{settings}: {} KiB", most >> 10));
        assert_eq!(length, LENGTH);
        assert!(most <= limit && (most > WINDOW) == grows, "{settings}: {most}");
        let lent = async || gateway.metrics().await.sum("ssegate_upload_memory_bytes", &[]) == 0.0;
        eventually(SOON, "nothing is lent to a stream that is gone", lent).await;
    }
}
