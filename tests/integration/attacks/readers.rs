//! Who does not read: windows that stay shut, and sockets that nobody empties.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::Scene;
use super::crowd::{Crowd, PACE};
use super::table::{judge, mib};
use crate::support::frames::{ACK, PING, RST_STREAM};
use crate::support::{
    Frame, FrameConnection, Gateway, Redis, Request, SOON, Via, eventually, unsent_bytes, within,
};

/// Row 9 of the fault matrix. `pace` is how often something is published that then waits for each of
/// them: 72 bytes, beside what is shared.
async fn windows_stay_shut(write_timeout: Duration, pace: Duration, settings: &str) {
    let redis = Redis::start().await;
    let scene = Scene::at(pace, redis, |builder| builder.settings(settings)).await;
    for window in [0, 1] {
        let before = scene.count("ssegate_streams_closed_total", "").await;
        let (slowest, toll) = scene
            .crowd
            .under(async {
                let settings = [(4, window)];
                let http = scene.gateway.address("http");
                let mut connection = FrameConnection::open(http, &settings).await;
                let gets = (0..100).map(|number| Frame::get(2 * number + 1, "/events/crowd"));
                connection.send_all(gets).await;
                let begun = Instant::now();
                // Sooner than the default of 30 s, where another is set.
                let patience = write_timeout + SOON;
                for _ in 0..100 {
                    let reset = within(patience, "a reset", connection.next_of(RST_STREAM)).await;
                    assert_eq!(reset.unwrap().number(0), 8);
                }
                let slowest = begun.elapsed();
                connection.send(&Frame::new(PING, 0, 0, b"12345678")).await;
                let pong = within(SOON, "the connection goes on", connection.next_of(PING)).await;
                assert_eq!(pong.unwrap().flags, ACK);
                slowest
            })
            .await;
        let closed = scene.count("ssegate_streams_closed_total", "").await;
        assert_eq!(closed - before, 100.0, "each is counted");
        let bounds = [
            ("reset after s", (write_timeout + SOON).as_secs_f64(), slowest.as_secs_f64()),
            ("MiB", 10.0, mib(toll.resident)),
        ];
        judge(&format!("100 streams with a window of {window}"), &toll, &bounds);
    }
}

#[tokio::test]
async fn windows_that_stay_shut() {
    windows_stay_shut(Duration::from_secs(2), PACE, "write_timeout: 2s").await;
}

#[tokio::test]
#[ignore = "takes its time: run by tests/run --full"]
async fn long_windows_that_stay_shut_for_as_long_as_they_may() {
    windows_stay_shut(Duration::from_secs(30), 5 * PACE, "").await;
}

/// Row 7 of the fault matrix: one of a thousand.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes its time: run by tests/run --full"]
async fn long_one_of_a_thousand_that_stops() {
    let redis = Arc::new(Redis::start().await);
    let gateway = Arc::new(Gateway::start(&redis).await);
    let http = gateway.address("http");
    let crowd = Crowd::of(1000, Duration::from_millis(250), &gateway, &redis).await;
    let (_, calm) = crowd.under(tokio::time::sleep(Duration::from_secs(10))).await;
    let closed = async || gateway.metrics().await.sum("ssegate_streams_closed_total", &[]) >= 1.0;
    let ((last, most), toll) = crowd
        .under(async {
            let target = "/events?channel=crowd&channel=large";
            let stopped = crate::slow_readers::stalled(http, target).await;
            let begun = Instant::now();
            // More than its socket takes, less than its queue: it is time that ends it.
            redis.publish("large", "x".repeat(768 << 10)).await;
            let mut most = 0;
            let gone = async || {
                most = most.max(unsent_bytes(http).0);
                closed().await
            };
            eventually(4 * SOON, "it is closed", gone).await;
            drop(stopped);
            (begun.elapsed(), most)
        })
        .await;
    // Readers, publisher and others work on the same two processors: less than that says nothing.
    let p99 = calm.p99.mul_f64(1.2).max(Duration::from_millis(100));
    let bounds = [
        ("closed after s", 35.0, last.as_secs_f64()),
        ("unsent KiB", 256.0, most as f64 / 1024.0),
        ("p99 ms", p99.as_millis() as f64, toll.p99.as_millis() as f64),
        // A thousand readers have their price.
        ("CPU s", 2.0 * toll.took.as_secs_f64(), toll.busy.as_secs_f64()),
    ];
    judge("1 of 1,000 readers that stops", &toll, &bounds);
}

/// Asks for a stream, with a small receive buffer, and never reads.
async fn stalled(scene: &Scene, number: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut socket = socket.connect(scene.gateway.address("http")).await.unwrap();
    if number.is_multiple_of(2) {
        let request = b"GET /events/large HTTP/1.1\r\nhost: localhost\r\n\r\n";
        socket.write_all(request).await.unwrap();
    } else {
        let windows = Frame::new(8, 0, 0, &(1_u32 << 30).to_be_bytes());
        let frames = [Frame::of_settings(&[(4, 1 << 30)]), windows, Frame::get(1, "/events/large")];
        let frames: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let bytes = [crate::support::frames::PREFACE, &frames].concat();
        socket.write_all(&bytes).await.unwrap();
    }
    socket
}

async fn readers_that_stop(readers: usize, write_timeout: Duration, settings: &str) {
    let scene = Scene::set(settings).await;
    let before = scene.cut("write_timeout").await + scene.cut("stream").await;
    let files = scene.gateway.open_files();
    let http = scene.gateway.address("http");
    let ((last, most), toll) = scene
        .crowd
        .under(async {
            let mut sockets = Vec::with_capacity(readers);
            for number in 0..readers {
                sockets.push(stalled(&scene, number).await);
            }
            let open = async || {
                let streams = scene.gateway.metrics().await.sum("ssegate_streams", &[]);
                streams >= (50 + readers) as f64
            };
            eventually(SOON, "all are subscribed", open).await;
            let begun = Instant::now();
            let large = "x".repeat(256 << 10);
            for _ in 0..4 {
                scene.redis.publish("large", &large).await;
            }
            let mut most = 0;
            let gone = async || {
                most = most.max(unsent_bytes(http).0);
                scene.gateway.open_files() <= files + 2
            };
            eventually(write_timeout + 2 * SOON, "all are closed", gone).await;
            let last = begun.elapsed();
            // Our own ends hold what they were sent until they are closed. What a socket without a process
            // still has to send is in this table, too.
            drop(sockets);
            let back = async || unsent_bytes(http).0 < 1 << 20;
            eventually(2 * SOON, "the kernel holds nothing for them", back).await;
            (last, most)
        })
        .await;
    // Of HTTP/1.1 the stream is cut, of HTTP/2 the connection; a queue that is full closes some before.
    // A socket is closed before that is counted.
    let cut = async || scene.cut("write_timeout").await + scene.cut("stream").await - before;
    eventually(SOON, "each is counted", async || cut().await >= readers as f64).await;
    assert_eq!(cut().await, readers as f64, "each is counted once");
    let each = (most / readers) as f64 / 1024.0;
    let bounds = [
        ("closed after s", (write_timeout + SOON).as_secs_f64(), last.as_secs_f64()),
        ("unsent KiB each", 256.0, each),
        ("waiting MiB", readers as f64 / 4.0, mib(toll.waiting as u64)),
    ];
    judge(&format!("{readers} readers that stop"), &toll, &bounds);
    let fine = scene.gateway.send(Via::Http1, Request::events("/events/crowd")).await;
    assert_eq!(fine.status, 200);
}

#[tokio::test]
async fn sockets_that_nobody_empties() {
    readers_that_stop(40, Duration::from_secs(2), "write_timeout: 2s").await;
}

#[tokio::test]
#[ignore = "takes its time: run by tests/run --full"]
async fn long_hundreds_of_sockets_that_nobody_empties() {
    readers_that_stop(500, Duration::from_secs(30), "").await;
}
