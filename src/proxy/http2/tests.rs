//! Whole connections over an in-memory pipe, against a server of the crate `h2` or hand-made
//! frames.

use std::rc::Rc;

use http::{Method, Request};
use http_body_util::BodyExt as _;
use proptest::collection::vec;
use proptest::prelude::*;
use ssegate_http2::frame::{self, flag, kind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::{JoinHandle, LocalSet};

use super::driver::Driver;
use super::reason::Reason;
use super::response::ResponseFuture;
use super::shared::ConnectionShared;
use super::window::STREAM_WINDOW;
use crate::metrics::Metrics;
use crate::proxy::upload::Upload;
use crate::server::upload_memory::UploadMemory;

const MAX_HEADER: usize = 64 << 10;

/// Starts a client connection; the test holds the other end of the pipe.
fn connection(capacity: usize) -> (Rc<ConnectionShared>, DuplexStream, JoinHandle<()>) {
    let (near, far) = duplex(capacity);
    let shared = Rc::new(ConnectionShared::new(Rc::default(), STREAM_WINDOW));
    let memory = UploadMemory::new(Metrics::new().expect("metrics"));
    let driver = Driver::new(near, Rc::clone(&shared), MAX_HEADER, memory);
    (shared, far, tokio::task::spawn_local(driver))
}

fn get(path: &str) -> Request<Upload> {
    let uri = format!("http://app.example{path}");
    Request::builder().uri(uri).body(Upload::none()).expect("a request")
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    frame::put_frame_header(&mut octets, payload.len(), kind, flags, stream);
    octets.extend_from_slice(payload);
    octets
}

async fn open(shared: &ConnectionShared) -> Result<(), Reason> {
    std::future::poll_fn(|cx| shared.poll_open(cx)).await
}

#[tokio::test]
async fn a_task_that_panics_fails_its_requests_and_takes_no_more() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let (shared, mut far, task) = connection(64 << 10);
            far.write_all(&frame(kind::SETTINGS, 0, 0, &[])).await.expect("written");
            open(&shared).await.expect("open");
            let sent = shared.send(get("/sent"));
            let mut preface = [0; 24];
            far.read_exact(&mut preface).await.expect("the preface");
            let mut head = [0; frame::FRAME_HEADER_LEN];
            while head[3] != kind::HEADERS {
                far.read_exact(&mut head).await.expect("a frame");
                let mut payload = vec![0; frame::FrameHeader::parse(&head).expect("whole").length];
                far.read_exact(&mut payload).await.expect("its payload");
            }
            let queued = shared.send(get("/queued"));
            // Drops the task, as a panic does.
            task.abort();
            let both = tokio::time::timeout(std::time::Duration::from_secs(15), async {
                (sent.await, queued.await)
            });
            let (sent, queued) = both.await.expect("both have failed");
            assert!(!sent.expect_err("no response").is_unprocessed);
            assert!(queued.expect_err("no response").is_unprocessed, "it was never sent");
            assert!(shared.is_unusable());
            let later = shared.send(get("/later")).await;
            assert!(later.expect_err("no response").is_unprocessed);
        })
        .await;
}

#[tokio::test]
async fn requests_and_responses_interoperate_with_the_crate_h2() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let (shared, far, _task) = connection(64 << 10);
            tokio::task::spawn_local(async move {
                let mut server = h2::server::handshake(far).await.expect("a connection");
                while let Some(request) = server.accept().await {
                    let (request, mut respond) = request.expect("a request");
                    assert_eq!(request.uri(), "http://app.example/x?y=1");
                    assert_eq!(request.headers()["x-own"], "value");
                    let response =
                        http::Response::builder().header("x-method", request.method().as_str());
                    let response = response.body(()).expect("a response");
                    if request.method() == Method::HEAD {
                        respond.send_response(response, true).expect("sent");
                        continue;
                    }
                    let mut body = respond.send_response(response, false).expect("sent");
                    body.send_data(vec![b'x'; 100_000].into(), false).expect("sent");
                    let trailers = [(http::header::ETAG, http::HeaderValue::from_static("1"))];
                    body.send_trailers(trailers.into_iter().collect()).expect("sent");
                }
            });
            open(&shared).await.expect("open");
            for method in [Method::GET, Method::POST, Method::HEAD] {
                let mut request = get("/x?y=1");
                *request.method_mut() = method.clone();
                request.headers_mut().insert("x-own", http::HeaderValue::from_static("value"));
                let response = shared.send(request).await.expect("a response");
                assert_eq!(response.headers()["x-method"], method.as_str());
                let body = response.into_body().collect().await.expect("complete");
                let has_trailers = body.trailers().is_some_and(|fields| fields["etag"] == "1");
                let length = body.to_bytes().len();
                let expected = if method == Method::HEAD { (false, 0) } else { (true, 100_000) };
                assert_eq!((has_trailers, length), expected);
            }
            assert_eq!((shared.open_streams(), shared.opened_streams()), (0, 3));
        })
        .await;
}

#[tokio::test]
async fn a_request_of_which_nothing_was_written_is_unprocessed() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let (shared, mut far, _task) = connection(128);
            let mut first = [0; 64];
            far.read_exact(&mut first).await.expect("preface and settings");
            far.write_all(&frame(kind::SETTINGS, 0, 0, &[])).await.expect("written");
            open(&shared).await.expect("open");
            // The first request fills the pipe, so nothing of the second is written.
            let large = get(&format!("/{}", "x".repeat(1000)));
            let (first, second) = (shared.send(large), shared.send(get("/")));
            let mut some = [0; 20];
            far.read_exact(&mut some).await.expect("the beginning of the first");
            drop(far);
            let (first, second) = tokio::join!(first, second);
            assert!(!first.expect_err("lost").is_unprocessed);
            assert!(second.expect_err("lost").is_unprocessed);
            assert_eq!(shared.open_streams(), 0);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_acknowledge_a_ping_is_closed() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let (shared, mut far, task) = connection(64 << 10);
            far.write_all(&frame(kind::SETTINGS, 0, 0, &[])).await.expect("written");
            open(&shared).await.expect("open");
            let lost = shared.send(get("/")).await.expect_err("lost");
            assert_eq!(lost.reason, Reason::ConnectionLost("no PING ACK from the backend".into()));
            assert!(!lost.is_unprocessed && shared.is_unusable());
            task.await.expect("the task has ended");
        })
        .await;
}

/// Any frame of a backend, valid or not.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop_oneof![Just(0_u32), Just(1), Just(3), Just(5), Just(2), Just(99)];
    let payload = prop_oneof![
        Just(vec![0x88]),
        Just(vec![0x88, 0x0f, 0x0d, 0x01, b'3']),
        Just(vec![0, 0, 0, 0]),
        Just(vec![0, 0, 1, 0]),
        Just(vec![0, 0, 0, 1, 0, 0, 0, 0]),
        Just(vec![0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
        Just(vec![0, 3, 0, 0, 0, 1]),
        Just(b"abc".to_vec()),
        Just(Vec::new()),
        vec(any::<u8>(), 0..40),
    ];
    let flags = prop_oneof![Just(0_u8), Just(1), Just(4), Just(5), Just(8), any::<u8>()];
    (0..11_u8, flags, stream, payload)
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Each request gets one response or one error, and no stream is leaked.
    #[test]
    fn every_request_ends_whatever_the_backend_sends(
        frames in vec(any_frame(), 0..30),
        piece in 1..200_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let local = LocalSet::new();
        local.block_on(&runtime.expect("a runtime"), async move {
            let (shared, mut far, task) = connection(1 << 20);
            far.write_all(&frame(kind::SETTINGS, 0, 0, &[])).await.expect("written");
            open(&shared).await.expect("open");
            let responses: Vec<ResponseFuture> = (0..3).map(|_| shared.send(get("/"))).collect();
            tokio::task::yield_now().await;
            for octets in frames.concat().chunks(piece) {
                // Fails if the client has closed the connection.
                drop(far.write_all(octets).await);
                tokio::task::yield_now().await;
            }
            drop(far);
            for response in responses {
                match response.await {
                    Ok(response) => drop(response.into_body().collect().await),
                    Err(lost) => drop(lost),
                }
            }
            task.await.expect("the task does not panic");
            assert_eq!(shared.open_streams(), 0);
            assert!(shared.is_unusable());
        });
    }
}

#[tokio::test]
async fn a_flood_of_frames_does_not_keep_a_response_from_arriving() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let (shared, far, _task) = connection(64 << 10);
            let (mut read, mut write) = tokio::io::split(far);
            // Reads the ACKs, so that the client goes on reading.
            tokio::task::spawn_local(async move {
                drop(tokio::io::copy(&mut read, &mut tokio::io::sink()).await);
            });
            write.write_all(&frame(kind::SETTINGS, 0, 0, &[])).await.expect("written");
            open(&shared).await.expect("open");
            let response = shared.send(get("/"));
            let flood = [
                frame(kind::PING, 0, 0, b"12345678"),
                frame(kind::SETTINGS, 0, 0, &[]),
                frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
            ];
            for _ in 0..100 {
                write.write_all(&flood.concat().repeat(100)).await.expect("written");
            }
            let head = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &[0x88]);
            write.write_all(&head).await.expect("written");
            assert_eq!(response.await.expect("a response").status(), 200);
        })
        .await;
}
