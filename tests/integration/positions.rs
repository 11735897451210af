//! Ids on streams of several Redis Streams: what a client gets that comes back with one.

use crate::support::{EventStream, Gateway, Redis, Request, Via};

async fn gateway(redis: &Redis) -> Gateway {
    let events = "{ channels: [\"{query.channel}\"], source: stream, max_channels: 250 }";
    Gateway::build(redis).routes(&format!("- path: /events\n  events: {events}\n")).start().await
}

/// Everything that comes up to `ready`, and so many events at least: what was added a moment ago may
/// come a moment after it.
async fn missed(stream: &mut EventStream, events: usize) -> Vec<String> {
    let (mut missed, mut is_ready) = (Vec::new(), false);
    while !is_ready || missed.len() < events {
        let block = stream.next_block().await;
        is_ready |= block.comments.iter().any(|comment| comment == "ready");
        missed.extend(block.event.map(|event| event.data));
    }
    missed.sort();
    missed
}

#[tokio::test]
async fn channels_may_be_named_in_another_order_and_twice_by_one_who_comes_back() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis).await;
    let mut stream = gateway.subscribe("/events?channel=a&channel=b").await;
    redis.add("a", "a1").await;
    redis.add("b", "b1").await;
    // However they are read, the second id is after both.
    stream.next_event().await;
    let id = stream.next_event().await.id;
    redis.add("b", "b2").await;
    redis.add("a", "a2").await;
    for query in ["channel=a&channel=b", "channel=b&channel=a", "channel=b&channel=a&channel=b"] {
        for via in Via::ALL {
            let mut back = gateway.resume(via, &format!("/events?{query}"), &id).await;
            assert_eq!(missed(&mut back, 2).await, ["a2", "b2"], "{query} {via:?}");
        }
    }
}

#[tokio::test]
async fn a_channel_that_has_gone_or_come_changes_nothing_for_the_others() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis).await;
    let mut stream = gateway.subscribe("/events?channel=a&channel=b&channel=c").await;
    for name in ["a", "b", "c"] {
        redis.add(name, &format!("{name}1")).await;
        stream.next_event().await;
    }
    let id = stream.last_id().to_owned();
    for name in ["a", "b", "c", "new"] {
        redis.add(name, &format!("{name}2")).await;
    }
    for (query, expected) in [
        ("channel=c&channel=a", &["a2", "c2"][..]),
        ("channel=b", &["b2"]),
        // One that is new begins live.
        ("channel=new&channel=b", &["b2"]),
        ("channel=new", &[r#"{"reason":"unknown_id","channels":["new"]}"#]),
    ] {
        let mut back = gateway.resume(Via::Http2, &format!("/events?{query}"), &id).await;
        assert_eq!(missed(&mut back, expected.len()).await, expected, "{query}");
        if query.contains("new") {
            let live = redis.add("new", "live").await;
            assert_eq!(back.next_event().await.data, "live", "{query}");
            redis.command::<u64>(&["XDEL", "new", &live]).await;
        }
    }
}

#[tokio::test]
async fn what_an_older_version_wrote_is_told_as_a_gap_and_never_taken_for_something_else() {
    let redis = Redis::start().await;
    for id in ["1-0", "2-0", "3-0"] {
        redis.command::<String>(&["XADD", "a", id, "data", id]).await;
        redis.command::<String>(&["XADD", "b", id, "data", id]).await;
    }
    let gateway = gateway(&redis).await;
    for old in ["1-0~2-0", "1-0~", "~2-0", "1-0"] {
        let mut back = gateway.resume(Via::Http1, "/events?channel=b&channel=a", old).await;
        let gap = r#"{"reason":"unknown_id","channels":["b","a"]}"#;
        assert_eq!(missed(&mut back, 1).await, [gap], "{old}");
    }
    // On one stream an id is that of its entry, as it was.
    let mut back = gateway.resume(Via::Http1, "/events?channel=a", "1-0").await;
    assert_eq!(missed(&mut back, 2).await, ["2-0", "3-0"]);
}

#[tokio::test]
async fn the_longest_id_of_the_most_channels_comes_back_over_every_protocol() {
    const MOST: usize = 250;
    let redis = Redis::start().await;
    let gateway = gateway(&redis).await;
    let names: Vec<String> = (0..MOST).map(|number| format!("channel=c{number}")).collect();
    let target = format!("/events?{}", names.join("&"));
    let mut stream = gateway.subscribe(&target).await;
    // As far apart as ids can be, with the longest sequence.
    for number in 0..MOST {
        let milliseconds = if number == 0 { u64::MAX } else { 1 };
        let (name, id) = (format!("c{number}"), format!("{milliseconds}-{}", u64::MAX - 1));
        redis.command::<String>(&["XADD", &name, &id, "data", "x"]).await;
        stream.next_event().await;
    }
    let id = stream.last_id().to_owned();
    assert!((7000..8100).contains(&id.len()), "{} bytes", id.len());
    let last = format!("1-{}", u64::MAX);
    redis.command::<String>(&["XADD", "c100", &last, "data", "missed"]).await;
    for via in Via::ALL {
        // Beside what else a browser sends.
        let request = Request::events(&target)
            .header("last-event-id", &id)
            .header("cookie", &"x".repeat(1500))
            .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36");
        let response = gateway.send(via, request).await;
        assert_eq!(response.status, 200, "{via:?}");
        assert_eq!(missed(&mut response.stream(), 1).await, ["missed"], "{via:?}");
    }
}
