//! A bug of our own: row 34 of the fault matrix.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Scene;
use super::table::{judge, mib};
use crate::support::{Gateway, Http2, Redis, Request, SOON, Upstream, Via, within};

/// A build for tests panics where it is told to.
#[tokio::test]
async fn a_panic_costs_its_own_request_and_no_other() {
    if !cfg!(debug_assertions) {
        return;
    }
    let scene =
        Scene::with(Redis::start().await, |builder| builder.env("SSEGATE_PANIC_AT", "/events/bug"))
            .await;
    let (answers, toll) = scene
        .crowd
        .under(async {
            let mut answers = Vec::new();
            for via in Via::ALL {
                let bug = Request::get("/events/bug");
                if via.is_http2() {
                    // Its neighbours on the same connection live.
                    let connection = Http2::connect(via, scene.gateway.address_for(via)).await;
                    let mut beside =
                        connection.send(Request::events("/events/beside")).await.stream();
                    beside.ready().await;
                    answers.push(connection.send(bug).await.status);
                    scene.redis.publish("beside", "still here").await;
                    assert_eq!(beside.next_event().await.data, "still here");
                    assert_eq!(connection.send(Request::get("/site")).await.status, 200);
                } else {
                    answers.push(scene.gateway.send(via, bug).await.status);
                }
            }
            answers
        })
        .await;
    assert_eq!(answers, [500; 4]);
    let counted = scene.count("ssegate_panics_total", "").await;
    let bounds = [("panics counted", 4.0, counted), ("MiB", 4.0, mib(toll.resident))];
    judge("4 panics", &toll, &bounds);
    assert_eq!(counted, 4.0);
}

#[tokio::test]
async fn a_head_request_whose_handler_panics_gets_no_body() {
    if !cfg!(debug_assertions) {
        return;
    }
    let redis = Redis::start().await;
    let builder = Gateway::build(&redis).env("SSEGATE_PANIC_AT", "/events/bug");
    let gateway = builder.start().await;
    for via in Via::ALL {
        let get = gateway.send(via, Request::get("/events/bug")).await.text().await;
        let mut response = gateway.send(via, Request::new("HEAD", "/events/bug")).await;
        assert_eq!(response.status, 500, "{via:?}");
        assert_eq!(response.header("content-length"), get.len().to_string(), "{via:?}");
        assert_eq!(response.body.rest().await, Ok(Vec::new()), "{via:?}");
    }
}

/// What is read of a response over HTTP/1 until its connection ends; `Err`: it was reset.
async fn raw(gateway: &Gateway, version: &str, path: &str) -> Result<Vec<u8>, std::io::Error> {
    let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
    let request = format!("GET {path} HTTP/{version}\r\nHost: a\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    within(SOON, "the end", socket.read_to_end(&mut read)).await.map(|_| read)
}

#[tokio::test]
async fn a_body_that_panics_never_looks_complete() {
    if !cfg!(debug_assertions) {
        return;
    }
    let redis = Redis::start().await;
    // Two pieces: the body is polled more than once.
    let backend = Upstream::start().await;
    let serve = async {
        loop {
            let mut call = backend.call().await;
            call.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n").await;
            tokio::spawn(call.closed());
        }
    };
    let ask = async {
        for path in ["/events/bug", "/site"] {
            let gateway = Gateway::build(&redis)
                .env("SSEGATE_PANIC_IN_BODY", path)
                .route(&backend.route("/{*rest}"))
                .start()
                .await;
            // Something happens on the stream.
            let publish = async {
                loop {
                    redis.publish("bug", "news").await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            let see = async {
                // A reset is no complete end; and the head may not come either.
                if let Ok(read) = raw(&gateway, "1.1", path).await {
                    let read = String::from_utf8_lossy(&read);
                    assert!(!read.ends_with("\r\n0\r\n\r\n"), "{path}: {read}");
                }
                assert!(raw(&gateway, "1.0", path).await.is_err(), "{path}: in good order");
                for via in [Via::Http2, Via::H2c] {
                    let mut response = gateway.send(via, Request::get(path)).await;
                    let rest = within(SOON, "the end", response.body.rest()).await;
                    let error = rest.expect_err("the stream is reset");
                    assert!(error.contains("internal error"), "{path} via {via:?}: {error}");
                }
            };
            tokio::select! {
                () = publish => unreachable!("it goes on for ever"),
                () = see => {}
            }
            let panics = gateway.metrics().await.sum("ssegate_panics_total", &["cost=\"body\""]);
            assert!(panics >= 4.0, "{path}: {panics}");
        }
    };
    tokio::select! {
        () = serve => unreachable!("it goes on for ever"),
        () = ask => {}
    }
}
