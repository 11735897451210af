//! What a stream looks like on the wire.
//!
//! A head that leaves at once, `retry:`, then a block with the position and `: ready`, then events,
//! each the moment it is published.

use crate::support::{Gateway, Redis, Request, SOON, Via, within};

#[tokio::test]
async fn a_stream_opens_with_its_head_and_retry_before_anything_is_published() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;

    for via in Via::ALL {
        let request = Request::get("/events/news").header("accept-encoding", "gzip, br, zstd");
        let response = gateway.send(via, request).await;
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-type"), "text/event-stream");
        assert_eq!(response.header("cache-control"), "no-store");
        assert_eq!(response.header("x-accel-buffering"), "no");
        assert!(!response.headers.contains_key("content-encoding"));
        assert!(!response.headers.contains_key("content-length"));

        let first = response.stream().next_block().await;
        assert_eq!(first.retry, Some(3000));
        assert_eq!(first.event, None);
    }
}

#[tokio::test]
async fn head_and_retry_leave_at_once_even_while_redis_is_away() {
    let redis = Redis::stopped(&[]);
    let gateway = Gateway::start(&redis).await;

    let mut response = gateway.get("/events/news").await;
    let start = within(SOON, "the first bytes", response.body.until("\n\n")).await;
    assert_eq!(start, "retry: 3000\n\n");
}

#[tokio::test]
async fn ready_is_a_comment_in_a_block_with_the_position_reached() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut response = gateway.get("/events/news").await;

    let start = within(SOON, "`ready`", response.body.until(": ready\n\n")).await;
    let lines: Vec<_> = start.lines().collect();
    let ["retry: 3000", "", id, ": ready", ""] = lines[..] else { panic!("{start:?}") };
    let (run, number) = id.strip_prefix("id: ").unwrap().split_once('-').unwrap();
    assert!(!run.is_empty() && run.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
    assert!(number.parse::<u64>().is_ok(), "{id}");
}

#[tokio::test]
async fn what_is_published_after_ready_arrives_as_one_data_line() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut response = gateway.get("/events/news").await;
    within(SOON, "`ready`", response.body.until(": ready\n\n")).await;

    redis.publish("news", "hello").await;
    let event = within(SOON, "an event", response.body.until("\n\n")).await;
    let lines: Vec<_> = event.lines().collect();
    let [id, "data: hello", ""] = lines[..] else { panic!("{event:?}") };
    assert!(id.starts_with("id: "), "{id}");
}

#[tokio::test]
async fn ids_belong_to_one_run_and_grow_over_all_channels() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut a = gateway.subscribe("/events/a").await;
    let mut both = gateway.subscribe("/events?channel=a&channel=b").await;

    for channel in ["a", "b", "a", "b"] {
        redis.publish(channel, channel).await;
    }
    let mut ids = Vec::new();
    for expected in ["a", "b", "a", "b"] {
        let event = both.next_event().await;
        assert_eq!(event.data, expected);
        ids.push(event.id);
    }
    assert_eq!(a.next_event().await.id, ids[0]);
    assert_eq!(a.next_event().await.id, ids[2]);

    let parsed: Vec<_> = ids.iter().map(|id| id.rsplit_once('-').unwrap()).collect();
    let numbers: Vec<u64> = parsed.iter().map(|(_, number)| number.parse().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert!(parsed.iter().all(|(run, _)| *run == parsed[0].0), "{ids:?}");
}

#[tokio::test]
async fn another_run_has_another_tag() {
    let redis = Redis::start().await;
    let gateways = (Gateway::start(&redis).await, Gateway::start(&redis).await);
    let first = gateways.0.subscribe("/events/news").await;
    let second = gateways.1.subscribe("/events/news").await;
    let tag = |id: &str| id.rsplit_once('-').unwrap().0.to_owned();
    assert_ne!(tag(first.last_id()), tag(second.last_id()));
}

#[tokio::test]
async fn without_history_there_are_no_ids() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).events("history: off").start().await;
    let mut stream = gateway.open("/events/news").await;
    assert_eq!(stream.ready().await.id, None);

    redis.publish("news", "hello").await;
    let block = stream.next_block().await;
    assert_eq!(block.id, None);
    assert_eq!(block.event.unwrap().data, "hello");
}

#[tokio::test]
async fn an_empty_payload_is_an_event_with_empty_data() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut stream = gateway.subscribe("/events/news").await;

    redis.publish("news", "").await;
    redis.publish("news", "after").await;
    assert_eq!(stream.next_event().await.data, "");
    assert_eq!(stream.next_event().await.data, "after");
}

#[tokio::test]
async fn no_payload_forges_a_field_or_ends_an_event() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut stream = gateway.subscribe("/events/news").await;

    let forged = "a\n\nevent: admin\ndata: b\r\rid: 9\r\n\r\nretry: 1\n: comment";
    redis.publish("news", forged).await;
    let block = stream.next_block().await;
    let event = block.event.unwrap();
    assert_eq!(event.name, "message");
    assert_eq!(event.data, "a\n\nevent: admin\ndata: b\n\nid: 9\n\nretry: 1\n: comment");
    assert_eq!((block.retry, block.comments), (None, vec![]));
    assert_ne!(event.id, "9");
}

#[tokio::test]
async fn several_channels_share_one_stream_in_the_order_of_redis() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut stream = gateway.subscribe("/events?channel=a&channel=b&channel=a").await;

    for number in 0..100 {
        redis.publish(if number % 3 == 0 { "b" } else { "a" }, number.to_string()).await;
    }
    for number in 0..100 {
        assert_eq!(stream.next_event().await.data, number.to_string());
    }
}

#[tokio::test]
async fn head_answers_the_headers_of_a_stream_and_opens_none() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;

    for via in Via::ALL {
        let mut response = gateway.send(via, Request::new("HEAD", "/events/news")).await;
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-type"), "text/event-stream");
        assert_eq!(response.header("cache-control"), "no-store");
        assert_eq!(response.body.rest().await.unwrap(), b"");
    }
    assert_eq!(redis.listeners("news").await, 0);
    assert_eq!(gateway.metrics().await.sum("ssegate_streams", &[]), 0.0);
}

#[tokio::test]
async fn retry_is_what_the_route_says() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).settings("sse: { retry: 5s }").start().await;
    assert_eq!(gateway.open("/events/news").await.next_block().await.retry, Some(5000));

    let gateway = Gateway::build(&redis).events("retry: 7s").start().await;
    assert_eq!(gateway.open("/events/news").await.next_block().await.retry, Some(7000));
}

#[tokio::test]
async fn no_last_event_id_can_do_harm() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let long = "9".repeat(8 << 10);
    for id in ["", "1", "other-7", "\u{e9}\u{20ac}", "-1", "a-18446744073709551616", &long] {
        let request = Request::events("/events/news").header("last-event-id", id);
        let mut stream = gateway.send(Via::Http1, request).await.stream();
        loop {
            let block = stream.next_block().await;
            if block.comments.iter().any(|comment| comment == "ready") {
                break;
            }
            let event = block.event.map(|event| event.name);
            assert!(event.is_none_or(|name| name == "gap"), "{id:?}");
        }
        redis.publish("news", "hello").await;
        assert_eq!(stream.next_event().await.data, "hello", "{id:?}");
    }
}
