//! Bodies that clients send over HTTP/2: how fast they may come, and what those that nobody reads cost
//! the others.

use rustix::process::Signal;

use crate::support::frames::{ACK, DATA, END_STREAM, HEADERS, PING, RST_STREAM, WINDOW_UPDATE};
use crate::support::{
    Frame, FrameConnection, Gateway, GatewayBuilder, Process, Program, Redis, SOON, Site, Upstream,
    eventually, measured, within,
};

/// Uploads that are stuck: with 64 KiB each they are over the window of a connection.
const STUCK: &str = "40";

/// Uploads by node: see the script.
async fn node(gateway: &Gateway) -> Process {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/http2_uploads.cjs");
    let address = gateway.address("http").to_string();
    let node = Program::new("/usr/bin/env").args(["node", script, &address, STUCK]).start();
    let said = async || node.stdout().len() >= 2;
    eventually(2 * SOON, "the last upload has begun", said).await;
    node
}

/// A gateway before a backend that reads, and one that accepts connections and never does.
fn before(redis: &Redis, reads: &Site, never_reads: &Upstream) -> GatewayBuilder {
    let routes = format!("{}{}", reads.route("/read"), never_reads.route("/stuck"));
    Gateway::build(redis).routes(&routes)
}

#[tokio::test]
async fn uploads_that_nobody_reads_do_not_stop_the_next_on_their_connection() {
    let redis = Redis::start().await;
    let (reads, never_reads) = (Site::start("ok").await, Upstream::start().await);
    let gateway = before(&redis, &reads, &never_reads).start().await;
    let node = node(&gateway).await;
    let said = async || node.stdout().len() >= 3;
    eventually(SOON, "the last upload is answered", said).await;
    assert_eq!(node.stdout(), ["stuck", "begun", &format!("200 {}", 1 << 20)]);
    drop(node);
    // What was lent for the others is given back with them.
    let given_back =
        async || gateway.metrics().await.sum("ssegate_upload_memory_bytes", &[]) == 0.0;
    eventually(SOON, "nothing is lent", given_back).await;
}

#[tokio::test]
async fn without_upload_memory_they_wait_and_no_more_is_held_than_the_window_of_the_connection() {
    let redis = Redis::start().await;
    let (reads, never_reads) = (Site::start("ok").await, Upstream::start().await);
    let gateway =
        before(&redis, &reads, &never_reads).settings("limits: { upload_memory: 0 }").start().await;
    let node = node(&gateway).await;
    eventually(SOON, "its head has come", async || reads.begun() == 1).await;
    gateway.counts("ssegate_upload_memory_refused_total", &[], 1.0).await;
    assert_eq!(gateway.metrics().await.sum("ssegate_upload_memory_bytes", &[]), 0.0);
    assert_eq!(node.stdout(), ["stuck", "begun"], "it waits for the others");
    node.signal(Signal::USR2);
    let said = async || node.stdout().len() >= 3;
    eventually(SOON, "the last upload is answered when they are gone", said).await;
    assert_eq!(node.stdout()[2], format!("200 {}", 1 << 20));
}

/// Uploads that are open at the same time, on one connection.
struct Uploads {
    connection: FrameConnection,
    // What may be sent on the connection, in octets.
    window: usize,
    opened: u32,
}

impl Uploads {
    async fn open(gateway: &Gateway, window: usize) -> Self {
        let connection = FrameConnection::open(gateway.address("http"), &[]).await;
        Self { connection, window, opened: 0 }
    }

    /// Begins an upload to `path`, and sends `length` octets of it: less than would be worth an update of its
    /// own window.
    async fn begin(&mut self, path: &str, length: usize) {
        let stream = 2 * self.opened + 1;
        self.opened += 1;
        let fields =
            [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "a")];
        self.connection.send(&Frame::request(stream, 0, &fields)).await;
        let mut left = length;
        while left > 0 {
            let piece = left.min(self.window).min(1 << 10);
            if piece == 0 {
                let what = format!("room on the connection for upload {}", self.opened);
                within(SOON, &what, self.read()).await;
                continue;
            }
            self.connection.send(&Frame::new(DATA, 0, stream, &vec![b'x'; piece])).await;
            (self.window, left) = (self.window - piece, left - piece);
        }
    }

    async fn read(&mut self) {
        let frame = self.connection.next().await.expect("closed");
        if (frame.kind, frame.stream) == (WINDOW_UPDATE, 0) {
            self.window += usize::try_from(frame.number(0)).unwrap();
        }
        assert!(!matches!(frame.kind, HEADERS | RST_STREAM), "{frame:?}");
    }
}

#[tokio::test]
async fn uploads_that_are_read_go_on_without_upload_memory_however_little_each_of_them_sends() {
    let redis = Redis::start().await;
    let (reads, never_reads) = (Site::start("ok").await, Upstream::start().await);
    // The window of the connection; what others keep of it, in KiB; uploads of 10 KiB that are read.
    for (window, stuck, uploads) in [(1024, 0, 150), (65, 0, 30), (1024, 1000, 30)] {
        let settings = format!(
            "limits: {{ upload_memory: 0 }}\nhttp2: {{ connection_window: {}B }}",
            (window << 10) - 1
        );
        let gateway = before(&redis, &reads, &never_reads).settings(&settings).start().await;
        let mut client = Uploads::open(&gateway, 65_535).await;
        for _ in 0..stuck / 50 {
            client.begin("/stuck", 50 << 10).await;
        }
        for _ in 0..uploads {
            client.begin("/read", 10 << 10).await;
        }
    }
}

/// Sends so much as a far client does: what it says to a PING comes behind a whole window. Returns the
/// most that could be sent on the stream at any time.
async fn upload(gateway: &Gateway, length: usize) -> usize {
    const PIECE: usize = 16 << 10;
    let mut connection = FrameConnection::open(gateway.address("http"), &[]).await;
    let fields =
        [(":method", "POST"), (":scheme", "http"), (":path", "/read"), (":authority", "localhost")];
    connection.send(&Frame::request(1, 0, &fields)).await;
    let mut pings: Vec<Vec<u8>> = Vec::new();
    let (mut sent, mut window, mut all, mut most) = (0, 64 << 10, 65_535, 64 << 10);
    loop {
        while sent < length && window >= PIECE && all >= PIECE {
            connection.send(&Frame::new(DATA, 0, 1, &[b'x'; PIECE])).await;
            (sent, window, all) = (sent + PIECE, window - PIECE, all - PIECE);
        }
        if sent >= length {
            break;
        }
        for payload in std::mem::take(&mut pings) {
            connection.send(&Frame::new(PING, ACK, 0, &payload)).await;
        }
        let frame = within(SOON, "a frame", connection.next()).await.expect("closed");
        let more = || usize::try_from(frame.number(0)).unwrap();
        match (frame.kind, frame.stream) {
            (WINDOW_UPDATE, 0) => all += more(),
            (WINDOW_UPDATE, 1) => window += more(),
            (PING, _) if frame.flags & ACK == 0 => pings.push(frame.payload),
            _ => {}
        }
        most = most.max(window);
    }
    connection.send(&Frame::new(DATA, END_STREAM, 1, b"")).await;
    within(SOON, "an answer", connection.next_of(HEADERS)).await.expect("closed");
    most
}

#[tokio::test]
async fn a_window_grows_with_what_is_read_and_no_further_than_it_may() {
    let redis = Redis::start().await;
    let (reads, never_reads) = (Site::start("ok").await, Upstream::start().await);
    for (settings, least, most) in [
        // How far it gets depends on when frames are read: on a busy machine, four times where it began.
        ("", 256 << 10, 4 << 20),
        ("http2: { max_stream_window: 256KiB }", 128 << 10, 256 << 10),
        ("http2: { max_stream_window: 64KiB }", 64 << 10, 64 << 10),
        ("limits: { upload_memory: 0 }", 64 << 10, 64 << 10),
        ("limits: { upload_memory: 256KiB }", 128 << 10, 320 << 10),
    ] {
        let gateway = before(&redis, &reads, &never_reads).settings(settings).start().await;
        let window = upload(&gateway, 32 << 20).await;
        measured(&format!("{settings}: {} KiB", window >> 10));
        assert!((least..=most).contains(&window), "{settings}: {} KiB", window >> 10);
        let lent = async || gateway.metrics().await.sum("ssegate_upload_memory_bytes", &[]) == 0.0;
        eventually(SOON, "nothing is lent to a connection that is gone", lent).await;
    }
}
