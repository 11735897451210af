//! Streams that are kept for all gateways: what is refused, what is hidden, and names of many streams.

use tokio::time::Instant;

use super::{SHARED, STREAM, begun, build, end, events, get, open, post};
use crate::support::{
    Gateway, Redis, Request, SOON, Upstream, Via, eventually, read_exactly, within,
};

async fn two(redis: &Redis, upstream: &Upstream, keep: &str) -> (Gateway, Gateway) {
    let keep = format!("{SHARED}, {keep}");
    tokio::join!(build(redis, upstream, &keep).start(), build(redis, upstream, &keep).start())
}

/// Of a request that waits at another gateway only the name is known here, and the path there.
#[tokio::test]
async fn a_delete_with_a_path_leaves_what_waits_elsewhere_for_another_path() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let keep = "key: [\"header:x-id\"], resume_at: \"{path}/{key}/stream\"";
    let (one, other) = two(&redis, &upstream, keep).await;
    let ask = |path: &str| one.send(Via::Http1, post(path, "{}").header("x-id", "c"));
    let rest = async {
        let chat_call = upstream.call().await;
        let wait = async {
            let mut call = upstream.call().await;
            eventually(SOON, "both wait", async || {
                let keys: Vec<String> = redis.command(&["KEYS", "ssegate:kept:*:index"]).await;
                let key = keys.first().map_or("none", String::as_str);
                redis.command::<u64>(&["HLEN", key]).await == 2
            })
            .await;
            // The younger one is looked at first.
            let delete = Request { method: "DELETE".into(), ..get("/chat/c/stream") };
            assert_eq!(other.send(Via::Http1, delete).await.status, 204);
            within(SOON, "the request to this path is cancelled", chat_call.closed()).await;
            call.write(STREAM).await;
            call.write_chunk("data: 1\n\n").await;
            call
        };
        tokio::join!(ask("/draft"), wait)
    };
    let (chat, (mut draft, _call)) = tokio::join!(ask("/chat"), rest);
    assert_eq!((chat.status, draft.status), (409, 200));
    let stream = draft.header("ssegate-stream").to_owned();
    read_exactly(&mut draft.body, &events(&stream, 1..=1)).await;
}

/// A stream for which there is no room passes, and does not hold its name for others.
#[tokio::test]
async fn a_stream_that_is_not_kept_gives_its_name_back() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let keep = "key: [\"header:x-id\"], same_key: reject, limits: { per_owner: 1 }";
    let (one, other) = two(&redis, &upstream, keep).await;
    let ask = |name: &str| (Via::Http1, post("/chat", "{}").header("x-id", name));
    let (_first, _call, _) = begun(&one, &upstream, Via::Http1).await;
    let (mut passed, mut call) = open(&one, &upstream, ask("a"), STREAM).await;
    assert_eq!(passed.header("ssegate-stream"), "", "it is not kept");
    end(&mut call).await;
    drop(within(SOON, "the end", passed.body.rest()).await.unwrap());
    // Well before the time after which a name is free whose gateway has died.
    eventually(SOON / 2, "the name is free elsewhere", async || {
        let answer = async {
            let mut call = upstream.call().await;
            call.write(STREAM).await;
            call
        };
        let (via, ask) = ask("a");
        tokio::select! {
            response = other.send(via, ask) => response.status == 200,
            _call = answer => true,
        }
    })
    .await;
}

/// However many streams of a name have ended since it began, one that runs is found and stopped.
#[tokio::test]
async fn a_stream_that_runs_is_found_among_many_younger_ones_that_have_ended() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let keep = "key: [\"header:x-id\"], resume_at: \"{path}/{key}/stream\"";
    let (one, other) = two(&redis, &upstream, keep).await;
    let ask = || (Via::Http1, post("/chat", "{}").header("x-id", "c"));
    let place = |method: &str| Request { method: method.into(), ..get("/chat/c/stream") };
    let (running, call) = open(&one, &upstream, ask(), STREAM).await;
    for _ in 0..25 {
        let (mut response, mut call) = open(&one, &upstream, ask(), STREAM).await;
        call.write_chunk("data: 1\n\n").await;
        end(&mut call).await;
        let stream = response.header("ssegate-stream").to_owned();
        read_exactly(&mut response.body, &events(&stream, 1..=1)).await;
        // Only what is in the index can hide another.
        let location = response.header("location").to_owned();
        eventually(SOON, "it has ended", async || super::state(&other, &location).await == "ended")
            .await;
    }
    let stream = running.header("ssegate-stream").to_owned();
    let found = other.send(Via::Http1, place("HEAD")).await;
    assert_eq!((found.status, found.header("ssegate-stream")), (200, &*stream));
    assert_eq!(other.send(Via::Http1, place("DELETE")).await.status, 204);
    within(SOON, "the backend's request is cancelled", call.closed()).await;
}

/// Who asks for a stream of another waits as for one that does not exist, also where that is pumped.
#[tokio::test]
async fn the_time_does_not_tell_whether_there_is_a_stream() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let (one, other) = two(&redis, &upstream, "").await;
    let (_first, _call, location) = begun(&one, &upstream, Via::Http1).await;
    let nothing = format!("/.ssegate/kept/{}", "a".repeat(26));
    for gateway in [&one, &other] {
        for target in [&location, &nothing] {
            let began = Instant::now();
            let bert = Request::get(target).header("authorization", "Bearer bert");
            assert_eq!(gateway.send(Via::Http1, bert).await.status, 404);
            // The pauses between the looks for a stream that Redis may not have yet.
            let took = began.elapsed();
            assert!(took.as_millis() >= 350, "{target}: {took:?}");
        }
    }
}
