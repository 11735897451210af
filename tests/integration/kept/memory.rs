//! What the streams of a route take together, and who goes without where that is too much.

use super::{OWNER, STREAM, begun, build, end, events, get, open, post, state};
use crate::support::{Redis, SOON, Upstream, Via, eventually, within};

/// Each has been granted its step; one that grows takes nothing from those that run.
#[tokio::test]
async fn a_stream_that_grows_takes_nothing_from_others_that_run() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let keep =
        format!("{OWNER}, limits: {{ total: 256KiB, per_owner: 1000 }}, when_nobody: continue");
    let gateway = build(&redis, &upstream, &keep).start().await;
    let (mut large, mut call, its_location) = begun(&gateway, &upstream, Via::Http1).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(begun(&gateway, &upstream, Via::Http1).await);
    }
    let text = "x".repeat(4000);
    for _ in 0..100 {
        call.write_chunk(&format!("data: {text}\n\n")).await;
        drop(large.body.until("\n\n").await);
    }
    let bytes = gateway.metrics().await.sum("ssegate_kept_bytes", &[]);
    assert!(bytes < f64::from(100 << 10), "{bytes}: its step, and what the others use");
    assert_eq!(gateway.send(Via::Http1, get(&its_location)).await.status, 410, "its own go");
    // The others keep what they have, and go on within their steps.
    for (response, call, location) in &mut others {
        let stream = response.header("ssegate-stream").to_owned();
        for number in 2..=20 {
            call.write_chunk(&format!("data: {number}\n\n")).await;
            drop(response.body.until("\n\n").await);
        }
        let mut again = gateway.send(Via::H2c, get(location)).await;
        let all = events(&stream, 1..=20);
        let seen = again.body.until(&format!("id: {stream}-20\n\n")).await;
        assert_eq!(seen, all);
    }
    // There is no step left for one more.
    let (response, mut unkept) =
        open(&gateway, &upstream, (Via::Http1, post("/chat", "{}")), STREAM).await;
    assert_eq!(response.header("location"), "");
    unkept.write_chunk("data: 1\n\n").await;
    end(&mut unkept).await;
    assert_eq!(response.text().await, "data: 1\n\n");
    gateway.counts("ssegate_kept_passed_total", &["reason=\"total\""], 1.0).await;
    // What has ended makes room, and what runs goes on.
    let (mut ended, mut call, gone) = others.remove(0);
    end(&mut call).await;
    drop(within(SOON, "the end", ended.body.rest()).await.unwrap());
    drop(ended);
    eventually(SOON, "it makes room", async || {
        let (response, mut call) =
            open(&gateway, &upstream, (Via::Http1, post("/chat", "{}")), STREAM).await;
        end(&mut call).await;
        !response.header("location").is_empty()
    })
    .await;
    assert_eq!(gateway.send(Via::Http1, get(&gone)).await.status, 404);
    for (_, _, location) in &others {
        assert_eq!(state(&gateway, location).await, "running");
    }
}

/// What is read of requests before they are forwarded.
#[tokio::test]
async fn bodies_that_are_read_for_a_name_count_too() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let keep = format!(
        "{OWNER}, key: [\"body:/id\"], resume_at: \"{{path}}/{{key}}/stream\", \
         limits: {{ total: 1MiB }}"
    );
    let gateway = build(&redis, &upstream, &keep).start().await;
    let body = |id: &str| format!("{{\"id\":\"{id}\",\"text\":\"{}\"}}", "x".repeat(700_000));
    let (first, second) = (body("a"), body("b"));
    // The backend has the first, and thinks. While it does, the second is too much: it passes without a name.
    let asked = gateway.send(Via::Http1, post("/chat", &first));
    let answered = async {
        let mut call = upstream.call().await;
        let (other, theirs) =
            open(&gateway, &upstream, (Via::H2c, post("/chat", &second)), STREAM).await;
        assert!(theirs.body == second.as_bytes(), "{} bytes", theirs.body.len());
        assert_ne!(other.header("location"), "", "it is kept all the same");
        let resumed = gateway.send(Via::Http1, get("/chat/b/stream")).await;
        assert_eq!(resumed.status, 204);
        // What may be one made before cannot be compared now; the backend is not asked again.
        let id = format!("{}-1", other.header("ssegate-stream"));
        let again = post("/chat", &second).header("last-event-id", &id);
        let refused = gateway.send(Via::Http1, again).await;
        assert_eq!((refused.status, refused.header("cache-control")), (503, "no-store"));
        call.write(STREAM).await;
        (call, other, theirs)
    };
    let (one, _others) = tokio::join!(asked, answered);
    assert_ne!(one.header("location"), "");
    assert_eq!(gateway.send(Via::Http1, get("/chat/a/stream")).await.status, 200, "by its name");
    let bytes = gateway.metrics().await.sum("ssegate_kept_bytes", &[]);
    assert!(bytes < f64::from(64 << 10), "{bytes}: the bodies are gone");
}
