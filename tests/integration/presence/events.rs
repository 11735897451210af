//! Streams that are sent who joins and leaves.

use serde_json::Value;

use super::{becomes, build, by, listen};
use crate::auth::jwt;
use crate::support::{EventStream, Gateway, Redis, Request, SOON, Via, eventually};

const ROUTES: &str = "\
- path: /room/{channel}
  events: { channels: [\"{channel}\"], strip_prefix: \"room:\" }
  presence: { identify: \"{auth.id}\", grace: 4s, events: true }
- path: /quiet/{channel}
  events: { channels: [\"{channel}\"], strip_prefix: \"room:\" }
";

/// What the next event says: a change and whose it is, or the data of a message. Not the stream's own join: that may have been
/// told before the stream was ready.
async fn next(stream: &mut EventStream, own: &str) -> String {
    let (event, data) = loop {
        let event = stream.next_event().await;
        if event.name != "presence" {
            return event.data;
        }
        let data: Value = serde_json::from_str(&event.data).expect("JSON");
        if data["event"] != "join" || data["id"] != own {
            break (event, data);
        }
    };
    assert!(!event.id.is_empty(), "a position");
    assert_eq!(data["channel"], "one", "{data}");
    assert!(data["since"].as_u64().is_some_and(|since| since > 1_000_000_000_000), "{data}");
    format!(
        "{} {} {}",
        data["event"].as_str().unwrap(),
        data["id"].as_str().unwrap(),
        data["count"]
    )
}

/// Five tabs come once and go once, at whichever gateway they are, and who reconnects does neither.
async fn tabs(redis: &Redis, url: &str, count: usize) {
    let mut gateways = Vec::new();
    for _ in 0..count {
        let settings = jwt("");
        let gateway = Gateway::build(redis).redis_url(url).settings(&settings).routes(ROUTES);
        gateways.push(gateway.start().await);
    }
    let (first, last) = (&gateways[0], &gateways[count - 1]);
    let mut watcher = listen(first, "watcher", "/room/one").await;
    becomes(first, "/room/one/presence", &[("watcher", 1)]).await;
    let mut tabs = Vec::new();
    for number in 0..5 {
        tabs.push(listen([first, last][number % 2], "ann", "/room/one").await);
    }
    let _bob = listen(last, "bob", "/room/one").await;
    assert_eq!(next(&mut watcher, "watcher").await, "join ann 2");
    assert_eq!(next(&mut watcher, "watcher").await, "join bob 3");
    // All five reconnect, some at another gateway.
    tabs.clear();
    for number in 0..5 {
        tabs.push(listen([last, first][number % 2], "ann", "/room/one").await);
    }
    tabs.truncate(1);
    let _cat = listen(first, "cat", "/room/one").await;
    assert_eq!(next(&mut watcher, "watcher").await, "join cat 4");
    // Where she is no more, her grace is over.
    let members = async || first.metrics().await.sum("ssegate_presence_members", &[]);
    if count == 2 {
        eventually(SOON, "the grace is over", async || members().await == 2.0).await;
    }
    let dan = listen(first, "dan", "/room/one").await;
    assert_eq!(next(&mut watcher, "watcher").await, "join dan 5");
    drop(tabs);
    assert_eq!(next(&mut watcher, "watcher").await, "leave ann 4");
    drop(dan);
    assert_eq!(next(&mut watcher, "watcher").await, "leave dan 3");
}

#[tokio::test]
async fn five_tabs_join_once_and_leave_once_over_two_gateways() {
    let redis = Redis::start().await;
    tabs(&redis, &redis.url(), 2).await;
}

#[tokio::test]
async fn five_tabs_join_once_and_leave_once_without_a_redis() {
    tabs(&Redis::stopped(&[]), "embedded://127.0.0.1:0", 1).await;
}

#[tokio::test]
async fn who_comes_back_is_sent_the_joins_that_it_missed_among_the_messages() {
    let redis = Redis::start().await;
    let start = async || Gateway::build(&redis).settings(&jwt("")).routes(ROUTES).start().await;
    let (one, two) = (start().await, start().await);
    let mut watcher = listen(&one, "watcher", "/room/one").await;
    let stays = listen(&one, "watcher", "/room/one").await;
    becomes(&one, "/room/one/presence", &[("watcher", 2)]).await;
    let mut quiet = listen(&two, "quiet", "/quiet/one").await;
    redis.publish("room:one", "before").await;
    assert_eq!(next(&mut watcher, "watcher").await, "before");
    let last = watcher.last_id().to_owned();
    let kept = listen(&one, "keeper", "/room/one").await;
    drop(watcher);
    becomes(&two, "/room/one/presence", &[("keeper", 1), ("watcher", 1)]).await;
    let mut ann = listen(&two, "ann", "/room/one").await;
    becomes(&two, "/room/one/presence", &[("ann", 1), ("keeper", 1), ("watcher", 1)]).await;
    redis.publish("room:one", "after").await;
    assert_eq!(next(&mut ann, "ann").await, "after");
    let request = by("watcher", Request::events("/room/one")).header("last-event-id", &last);
    let mut back = one.send(Via::Http1, request).await.stream();
    assert_eq!(next(&mut back, "watcher").await, "join keeper 2");
    assert_eq!(next(&mut back, "watcher").await, "join ann 3");
    assert_eq!(next(&mut back, "watcher").await, "after");
    // Who has not asked for them is sent messages alone.
    for expected in ["before", "after"] {
        assert_eq!(quiet.next_event().await.data, expected);
    }
    drop((kept, stays));
}

#[tokio::test]
async fn the_channels_of_joins_are_for_nobody_to_name() {
    let redis = Redis::start().await;
    let gateway = build(&redis)
        .route("- { path: /all, events: { channels: [\"{query.channel}\"], patterns: true } }\n")
        .start()
        .await;
    for target in [
        "/events/ssegate:presence:news",
        "/all?channel=ssegate:presence:*",
        "/all?channel=ssegate*",
    ] {
        let response = gateway.send(Via::Http1, by("ann", Request::events(target))).await;
        assert!([200, 400].contains(&response.status), "{target}");
        if response.status == 200 {
            let mut stream = response.stream();
            stream.ready().await;
            redis.publish("ssegate:presence:news", "forged").await;
            redis.publish("ssegated", "last").await;
            assert_eq!(stream.next_event().await.data, "last", "{target}");
        }
    }
}
