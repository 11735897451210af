//! Streams of one name: several, the newest, or one at most.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{OWNER, STREAM, build, events, get, open, post};
use crate::support::{
    Gateway, Redis, Request, SOON, Upstream, Via, eventually, read_exactly, within,
};

/// Two of one name.
#[tokio::test]
async fn another_stream_of_the_same_name_replaces_or_is_refused() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    for (same_key, expected) in [("parallel", 2), ("replace", 1), ("reject", 1)] {
        let keep = format!("{OWNER}, key: [\"header:x-id\"], same_key: {same_key}");
        let gateway = build(&redis, &upstream, &keep).start().await;
        let ask = || post("/chat", "{}").header("x-id", "1");
        let (mut first, mut call) = open(&gateway, &upstream, (Via::Http1, ask()), STREAM).await;
        call.write_chunk("data: 1\n\n").await;
        let stream = first.header("ssegate-stream").to_owned();
        read_exactly(&mut first.body, &events(&stream, 1..=1)).await;
        // Another owner has names of its own.
        let bert = Request::new("POST", "/chat").header("x-id", "1");
        let bert = bert.header("authorization", "Bearer bert");
        let (_bert, _his) = open(&gateway, &upstream, (Via::Http1, bert), STREAM).await;
        if same_key == "reject" {
            let refused = gateway.send(Via::Http1, ask()).await;
            assert_eq!(refused.status, 409);
        } else {
            let (_second, _call) = open(&gateway, &upstream, (Via::Http1, ask()), STREAM).await;
            if same_key == "replace" {
                call.closed().await;
                assert!(within(SOON, "the end", first.body.rest()).await.unwrap().is_empty());
                gateway.counts("ssegate_kept_cancelled_total", &["reason=\"replaced\""], 1.0).await;
            }
            let metrics = gateway.metrics().await;
            let running = metrics.sum("ssegate_kept_streams", &["state=\"running\""]);
            assert!((running - f64::from(expected + 1)).abs() < 0.1, "{same_key}: {running}");
        }
    }
}

/// How many streams run.
async fn running(gateway: &Gateway) -> f64 {
    gateway.metrics().await.sum("ssegate_kept_streams", &["state=\"running\""])
}

/// What is replaced is stopped before the backend gets what replaces it: a model that thinks need not think twice.
#[tokio::test]
async fn a_request_replaces_what_runs_and_what_waits_as_soon_as_it_begins() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    for (more, via) in
        [("", Via::Http1), ("", Via::Http2), (", resume_at: \"{path}/{key}/stream\"", Via::H2c)]
    {
        let keep = format!("{OWNER}, key: [\"header:x-id\"], same_key: replace{more}");
        let gateway = build(&redis, &upstream, &keep).start().await;
        let ask = || post("/chat", "{}").header("x-id", "1");
        let (mut first, call) = open(&gateway, &upstream, (via, ask()), STREAM).await;
        // The second waits for the backend, and the first is stopped.
        let second = gateway.send(via, ask());
        let third = async {
            let waits = upstream.call().await;
            call.closed().await;
            assert!(within(SOON, "the end", first.body.rest()).await.unwrap().is_empty());
            // The third stops the second, which has no stream yet.
            let (third, its_call) = open(&gateway, &upstream, (via, ask()), STREAM).await;
            waits.closed().await;
            (third, its_call)
        };
        let (second, (mut third, mut its_call)) = tokio::join!(second, third);
        assert_eq!((second.status, second.header("cache-control")), (409, "no-store"), "{more}");
        its_call.write_chunk("data: 1\n\n").await;
        let stream = third.header("ssegate-stream").to_owned();
        read_exactly(&mut third.body, &events(&stream, 1..=1)).await;
        assert!((running(&gateway).await - 1.0).abs() < 0.1);
        gateway.counts("ssegate_kept_cancelled_total", &["reason=\"replaced\""], 2.0).await;
    }
}

/// However they overtake each other.
#[tokio::test]
async fn of_many_that_replace_each_other_one_is_left() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    for key in ["header:x-id", "response:x-id"] {
        let keep = format!("{OWNER}, key: [\"{key}\"], same_key: replace");
        let gateway = build(&redis, &upstream, &keep).settings("shards: 2").start().await;
        let head = STREAM.replacen("\r\n", "\r\nx-id: 1\r\n", 1);
        let gateway = Arc::new(gateway);
        let mut asking = JoinSet::new();
        for number in 0..20 {
            let gateway = Arc::clone(&gateway);
            let request = post(&format!("/chat?number={number}"), "").header("x-id", "1");
            asking.spawn(async move { gateway.send(Via::ALL[number % 4], request).await });
        }
        let answered = async {
            let mut open = JoinSet::new();
            // Those that are replaced early do not get here.
            while let Ok(mut call) =
                tokio::time::timeout(Duration::from_secs(2), upstream.next_call()).await
            {
                let head = head.clone();
                open.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(..200))).await;
                    // It may have been replaced.
                    drop(call.try_write(&head).await);
                    call
                });
            }
            open.join_all().await
        };
        let (responses, _calls) = tokio::join!(asking.join_all(), answered);
        eventually(SOON, "one is left", async || (running(&gateway).await - 1.0).abs() < 0.1).await;
        let kept = responses.iter().filter(|response| response.status == 200).count();
        let refused = responses.iter().filter(|response| response.status == 409).count();
        assert!(kept >= 1 && kept + refused == 20, "{key}: {kept} and {refused}");
    }
}

/// To stop by a name stops what the backend has not answered yet, too.
#[tokio::test]
async fn a_request_that_waits_is_stopped_by_its_name() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let keep = format!("{OWNER}, key: [\"header:x-id\"], resume_at: \"{{path}}/{{key}}/stream\"");
    let gateway = build(&redis, &upstream, &keep).start().await;
    for via in Via::ALL {
        let waits = gateway.send(via, post("/chat", "{}").header("x-id", "1"));
        let deleted = async {
            let call = upstream.call().await;
            let delete = |target| Request { method: "DELETE".into(), ..get(target) };
            for other in [
                delete("/chat/2/stream"),
                delete("/other/1/stream"),
                delete("/chat/1/stream").host("other.example"),
            ] {
                assert_eq!(gateway.send(via, other).await.status, 204);
            }
            let cancelled = gateway.metrics().await.sum("ssegate_kept_cancelled_total", &[]);
            assert_eq!(gateway.send(via, delete("/chat/1/stream")).await.status, 204);
            call.closed().await;
            cancelled
        };
        let (waited, cancelled) = tokio::join!(waits, deleted);
        assert_eq!(waited.status, 409);
        let now = gateway.metrics().await.sum("ssegate_kept_cancelled_total", &[]);
        assert!((now - cancelled - 1.0).abs() < 0.1, "{cancelled} and {now}");
    }
}
