//! Clients that come back, in the cases where something could be lost without a word.

use crate::support::{Gateway, Redis, SOON, Via, eventually};

/// What a stream that comes back is sent before its next event, which is waited for.
struct Back {
    gaps: Vec<String>,
    data: Vec<String>,
}

/// Comes back, and reads until the event with this data.
async fn back_until(gateway: &Gateway, target: &str, id: &str, last: &str) -> Back {
    let mut stream = gateway.resume(Via::Http1, target, id).await;
    let mut back = Back { gaps: Vec::new(), data: Vec::new() };
    loop {
        let event = stream.next_event().await;
        if event.name == "gap" {
            back.gaps.push(event.data);
        } else {
            back.data.push(event.data);
        }
        if back.data.last().is_some_and(|data| data == last) {
            return back;
        }
    }
}

/// Waits until nobody listens to the channel.
async fn is_left(redis: &Redis, channel: &str) {
    let left = async || redis.listeners(channel).await == 0;
    eventually(SOON, "the channel is left", left).await;
}

/// Publishes it until somebody hears it.
async fn publish_when_followed(redis: &Redis, channel: &str, payload: &str) {
    let heard = async || redis.publish(channel, payload).await > 0;
    eventually(SOON, "the channel is followed", heard).await;
}

#[tokio::test]
async fn streams_that_come_back_are_counted() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).start().await;
    let id = gateway.subscribe("/events/one").await.last_id().to_owned();
    let resumed = async || gateway.metrics().await.sum("ssegate_streams_resumed_total", &[]);
    assert_eq!(resumed().await, 0.0, "a new one has no id");
    gateway.resume(Via::Http1, "/events/one", &id).await;
    assert_eq!(resumed().await, 1.0);
    gateway.resume(Via::Http2, "/events/one", "unknown").await;
    assert_eq!(resumed().await, 2.0, "an id that is not known is one, too");
}

#[tokio::test]
async fn what_was_published_while_nobody_followed_the_channel_is_a_gap() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).events("linger: 0s").start().await;
    let mut stream = gateway.subscribe("/events/one").await;
    let at_ready = stream.last_id().to_owned();
    redis.publish("one", "heard").await;
    let at_event = stream.next_event().await.id;
    drop(stream);
    is_left(&redis, "one").await;
    redis.publish("one", "heard by nobody").await;
    for id in [at_ready, at_event] {
        let (back, ()) = tokio::join!(
            back_until(&gateway, "/events/one", &id, "after"),
            publish_when_followed(&redis, "one", "after")
        );
        assert_eq!(back.gaps, [r#"{"reason":"expired","channels":["one"]}"#], "{id}");
        is_left(&redis, "one").await;
    }
}

#[tokio::test]
async fn what_was_published_after_a_channel_made_room_is_a_gap() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).settings("max_channels: 1").start().await;
    let mut stream = gateway.subscribe("/events/one").await;
    redis.publish("one", "heard").await;
    let id = stream.next_event().await.id;
    drop(stream);
    // As soon as the first has been left, another one may be followed in its place.
    let is_followed = async || {
        drop(gateway.open("/events/two").await);
        redis.listeners("one").await == 0
    };
    eventually(SOON, "the channel made room", is_followed).await;
    // Nobody holds the other one any more: it makes room in its turn.
    let is_quiet = async || gateway.metrics().await.sum("ssegate_streams", &[]) == 0.0;
    eventually(SOON, "the others have left", is_quiet).await;
    redis.publish("one", "heard by nobody").await;
    let (back, ()) = tokio::join!(
        back_until(&gateway, "/events/one", &id, "after"),
        publish_when_followed(&redis, "one", "after")
    );
    assert_eq!(back.gaps, [r#"{"reason":"expired","channels":["one"]}"#]);
    assert_eq!(back.data, ["after"]);
}

#[tokio::test]
async fn a_channel_that_redis_forbids_does_not_hold_back_the_past_of_others() {
    let redis = Redis::start().await;
    let rights = "on >secret resetchannels &good &ssegate:* +subscribe +unsubscribe +ping +hello";
    let user: Vec<&str> = ["ACL", "SETUSER", "gate"].into_iter().chain(rights.split(' ')).collect();
    redis.command::<String>(&user).await;
    let url = redis.url().replace("redis://", "redis://gate:secret@");
    let gateway = Gateway::build(&redis).redis_url(&url).start().await;
    let mut stream = gateway.subscribe("/events/good").await;
    redis.publish("good", "1").await;
    let id = stream.next_event().await.id;
    redis.publish("good", "2").await;
    stream.next_event().await;
    let target = "/events?channel=good&channel=forbidden";
    let mut back = gateway.resume(Via::Http2, target, &id).await;
    let mut told = [back.next_event().await.data, back.next_event().await.data];
    told.sort();
    assert_eq!(told, ["2", r#"{"reason":"expired","channels":["forbidden"]}"#]);
    redis.publish("good", "3").await;
    assert_eq!(back.next_event().await.data, "3");
}

/// Publishes six messages to a channel that is followed; gives the id after the first.
async fn six(redis: &Redis, gateway: &Gateway, target: &str, channel: &str) -> String {
    let mut stream = gateway.subscribe(target).await;
    for number in 1..=6 {
        redis.publish(channel, number.to_string()).await;
    }
    let first = stream.next_event().await.id;
    // All of them have arrived.
    for _ in 2..=6 {
        stream.next_event().await;
    }
    first
}

#[tokio::test]
async fn the_largest_history_of_all_routes_to_a_channel_holds_whichever_is_opened_first() {
    let redis = Redis::start().await;
    let routes = "\
- path: /small/{name}
  events: { channels: [\"app:{name}\"], history: { count: 2 }, linger: 1s }
- path: /big
  events: { channels: [\"{query.channel}\"], strip_prefix: \"app:\", history: { count: 1000 } }
- path: /other
  events: { channels: [\"{query.channel}\"], history: { count: 1 }, linger: 0s }
";
    let gateway = Gateway::build(&redis).routes(routes).start().await;
    for (opened, channel) in [("/small/a", "app:a"), ("/big?channel=b", "app:b")] {
        let id = six(&redis, &gateway, opened, channel).await;
        let name = channel.strip_prefix("app:").unwrap();
        for target in [format!("/small/{name}"), format!("/big?channel={name}")] {
            let back = back_until(&gateway, &target, &id, "6").await;
            assert_eq!(back.data, ["2", "3", "4", "5", "6"], "{opened} {target}");
            assert_eq!(back.gaps, [""; 0]);
        }
    }
    // One that only the smallest leads to.
    let id = six(&redis, &gateway, "/other?channel=alone", "alone").await;
    let back = back_until(&gateway, "/other?channel=alone", &id, "6").await;
    assert_eq!((back.data.len(), back.gaps.len()), (1, 1));
    let is_left = async || redis.listeners("alone").await == 0;
    eventually(SOON, "its own linger holds", is_left).await;
}

#[tokio::test]
async fn a_reload_widens_and_narrows_the_history_of_channels_that_are_followed() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).events("history: { count: 2 }").start().await;
    let _kept_followed = gateway.subscribe("/events/news").await;
    let keep = |count: u32| {
        gateway.rewrite(|yaml| {
            let start = yaml.find("history: { count: ").unwrap();
            let end = start + yaml[start..].find('}').unwrap();
            format!("{}history: {{ count: {count} {}", &yaml[..start], &yaml[end..])
        });
    };
    keep(100);
    assert!(gateway.reload().await);
    let id = six(&redis, &gateway, "/events/news", "news").await;
    let back = back_until(&gateway, "/events/news", &id, "6").await;
    assert_eq!((back.data.len(), back.gaps.len()), (5, 0), "widened");

    keep(3);
    assert!(gateway.reload().await);
    let back = back_until(&gateway, "/events/news", &id, "6").await;
    assert_eq!(back.data, ["4", "5", "6"], "narrowed");
    assert_eq!(back.gaps, [r#"{"reason":"expired","channels":["news"]}"#]);
}
