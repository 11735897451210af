//! Comments on quiet streams, and only there.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Gateway, Redis, SOON, Via, within};

#[tokio::test]
async fn a_quiet_stream_gets_a_comment_and_never_data() {
    let redis = Redis::start().await;
    let gateway =
        Gateway::build(&redis).settings("sse: { keep_alive: 1s }\nfleet: off").start().await;
    for via in [Via::Http1, Via::Http2] {
        // One that is read late makes the time to the next one short, but not that of all.
        let begun = Instant::now();
        let mut stream = gateway.subscribe_via(via, "/events/news").await;
        let comments = async {
            for number in 1..=3 {
                stream.next_comment().await;
                let waited = begun.elapsed();
                assert!(waited > number * Duration::from_millis(700), "{waited:?} via {via:?}");
            }
        };
        // With the default of 15 s there would be one.
        within(SOON, "three comments", comments).await;
    }
}

#[tokio::test]
async fn a_stream_that_has_events_gets_no_comments() {
    let redis = Redis::start().await;
    let gateway =
        Gateway::build(&redis).settings("sse: { keep_alive: 2s }\nfleet: off").start().await;
    let mut stream = gateway.subscribe("/events/busy").await;

    // The publisher's own pace: ten events a second, for longer than two keep-alives.
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    let mut last = Instant::now();
    for number in 0..50 {
        pace.tick().await;
        let published = Instant::now();
        redis.publish("busy", number.to_string()).await;
        let mut block = stream.next_block().await;
        // On a machine that stood still in between, the stream was quiet.
        while block.event.is_none() && last.elapsed() > Duration::from_millis(1900) {
            block = stream.next_block().await;
        }
        assert_eq!(block.comments, Vec::<String>::new());
        assert_eq!(block.event.unwrap().data, number.to_string());
        last = published;
    }
    // Quiet again: comments again.
    stream.next_comment().await;
}

#[tokio::test]
async fn streams_that_wait_for_redis_are_kept_alive() {
    let redis = Redis::stopped(&[]);
    let gateway =
        Gateway::build(&redis).settings("sse: { keep_alive: 1s }\nfleet: off").start().await;
    let mut stream = gateway.open("/events/news").await;
    assert!(stream.next_block().await.retry.is_some());
    for _ in 0..3 {
        assert_ne!(stream.next_comment().await, "ready");
    }
}

#[tokio::test]
async fn each_route_has_its_own_pace() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .settings("sse: { keep_alive: 1h }\nfleet: off")
        .routes(
            "- path: /quiet\n  events: { channels: [a] }\n\
             - path: /chatty\n  events: { channels: [a], keep_alive: 1s }\n",
        )
        .start()
        .await;
    let mut quiet = gateway.subscribe("/quiet").await;
    let mut chatty = gateway.subscribe("/chatty").await;
    within(SOON, "three comments", async {
        for _ in 0..3 {
            chatty.next_comment().await;
        }
    })
    .await;
    redis.publish("a", "hello").await;
    let block = quiet.next_block().await;
    assert_eq!(block.event.map(|event| event.data).as_deref(), Some("hello"), "no comment before");
}
