//! Recorded channels: PUBLISH, and a past that survives every gateway.

mod scripts;
mod storm;

use crate::support::{
    EventStream, Gateway, GatewayBuilder, Redis, SOON, Via, eventually, run, within,
};

const ROUTES: &str = "\
- path: /events
  events: { channels: [\"{query.channel}\"], source: recorded, follow: [\"kept:*\"] }
";

fn build(redis: &Redis) -> GatewayBuilder {
    Gateway::build(redis).routes(ROUTES)
}

async fn start(redis: &Redis) -> Gateway {
    let gateway = build(redis).start().await;
    gateway.becomes(200, SOON).await;
    gateway
}

/// The entries of the log: ids and kinds.
async fn log(redis: &Redis, channel: &str) -> Vec<(String, String)> {
    let key = format!("ssegate:log:{{{channel}}}");
    let entries: Vec<(String, Vec<String>)> = redis.command(&["XRANGE", &key, "-", "+"]).await;
    entries.into_iter().map(|(id, fields)| (id, fields[0].clone())).collect()
}

/// Waits until the log has so many messages.
async fn recorded(redis: &Redis, channel: &str, messages: usize) {
    eventually(SOON, "the log has the messages", async || {
        let log = log(redis, channel).await;
        log.iter().filter(|(_, kind)| kind == "m").count() == messages
    })
    .await;
}

/// The next events, each as its data; a gap as its reason.
async fn read(stream: &mut EventStream, count: usize) -> Vec<String> {
    let mut events = Vec::new();
    for _ in 0..count {
        let event = within(SOON, "the next event", stream.next_event()).await;
        events.push(match event.name.as_str() {
            "gap" => format!("gap {}", event.data),
            _ => event.data,
        });
    }
    events
}

fn gap(reason: &str, channel: &str) -> String {
    format!(r#"gap {{"reason":"{reason}","channels":["{channel}"]}}"#)
}

#[tokio::test]
async fn a_message_has_the_same_id_at_every_gateway_and_in_the_log() {
    let redis = Redis::start().await;
    let (one, two) = (start(&redis).await, start(&redis).await);
    let mut streams = Vec::new();
    for gateway in [&one, &two] {
        for via in Via::ALL {
            streams.push(gateway.subscribe_via(via, "/events?channel=news").await);
        }
    }
    redis.publish_all("news", ["a", "b", "c"].map(str::to_owned)).await;
    let mut ids = Vec::new();
    for stream in &mut streams {
        let mut of_stream = Vec::new();
        for expected in ["a", "b", "c"] {
            let event = stream.next_event().await;
            assert_eq!(event.data, expected);
            of_stream.push(event.id);
        }
        ids.push(of_stream);
    }
    ids.dedup();
    let [ids] = &*ids else { panic!("{ids:?}") };
    recorded(&redis, "news", 3).await;
    let log = log(&redis, "news").await;
    let kept: Vec<&String> = log.iter().filter(|(_, kind)| kind == "m").map(|(id, _)| id).collect();
    assert_eq!(kept, ids.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_missed_is_sent_by_another_gateway_and_after_the_restart_of_all() {
    let redis = Redis::start().await;
    let (one, two) = (start(&redis).await, start(&redis).await);
    let mut stream = one.subscribe("/events?channel=kept:news").await;
    redis.publish("kept:news", "0").await;
    assert_eq!(read(&mut stream, 1).await, ["0"]);
    let id = stream.last_id().to_owned();
    drop(stream);
    redis.publish_all("kept:news", (1..=300).map(|n| n.to_string())).await;
    let expected: Vec<String> = (1..=300).map(|n| n.to_string()).collect();
    let mut stream = two.resume(Via::Http2, "/events?channel=kept:news", &id).await;
    assert_eq!(read(&mut stream, 300).await, expected);
    recorded(&redis, "kept:news", 301).await;
    // Nobody hears what is published now.
    drop((one, two, stream));
    assert_eq!(redis.publish("kept:news", "unheard").await, 0);
    let three = start(&redis).await;
    let mut stream = three.resume(Via::Http1, "/events?channel=kept:news", &id).await;
    assert_eq!(read(&mut stream, 300).await, expected);
    assert_eq!(read(&mut stream, 1).await, [gap("unrecorded", "kept:news")]);
    redis.publish("kept:news", "later").await;
    assert_eq!(read(&mut stream, 1).await, ["later"]);
}

#[tokio::test]
async fn who_stays_while_all_gateways_are_replaced_is_told_no_gap() {
    let redis = Redis::start().await;
    let (mut one, mut two) = (start(&redis).await, start(&redis).await);
    let target = "/events?channel=kept:quiet";
    let mut stream = two.subscribe(target).await;
    redis.publish("kept:quiet", "1").await;
    assert_eq!(read(&mut stream, 1).await, ["1"]);
    recorded(&redis, "kept:quiet", 1).await;
    one.terminate();
    assert!(one.exit_within(SOON).await.success());
    // It has received nothing of the channel, and does not know that there was nothing.
    let three = start(&redis).await;
    two.terminate();
    while stream.event().await.is_some() {}
    assert!(two.exit_within(SOON).await.success());
    let mut moved = three.resume(Via::Http1, target, stream.last_id()).await;
    redis.publish("kept:quiet", "2").await;
    assert_eq!(read(&mut moved, 1).await, ["2"]);
    let mut again = three.resume(Via::Http1, target, stream.last_id()).await;
    assert_eq!(read(&mut again, 1).await, ["2"]);
}

#[tokio::test]
async fn what_nobody_listens_to_is_recorded_where_a_pattern_is_followed() {
    let redis = Redis::start().await;
    let gateway = start(&redis).await;
    redis.publish_all("kept:a", ["1", "2"].map(str::to_owned)).await;
    redis.publish("other", "x").await;
    recorded(&redis, "kept:a", 2).await;
    assert_eq!(log(&redis, "other").await, []);
    let first = log(&redis, "kept:a").await[1].0.clone();
    let mut stream = gateway.resume(Via::Http1, "/events?channel=kept:a", &first).await;
    assert_eq!(read(&mut stream, 1).await, ["2"]);
    redis.publish("kept:a", "3").await;
    assert_eq!(read(&mut stream, 1).await, ["3"]);
}

#[tokio::test]
async fn a_client_that_was_ahead_of_a_late_gateway_is_sent_nothing_twice() {
    let redis = Redis::start().await;
    let (one, two) = (start(&redis).await, start(&redis).await);
    let mut stream = one.subscribe("/events?channel=news").await;
    let mut other = two.subscribe("/events?channel=news").await;
    two.signal(rustix::process::Signal::STOP);
    redis.publish_all("news", ["1", "2"].map(str::to_owned)).await;
    assert_eq!(read(&mut stream, 2).await, ["1", "2"]);
    two.signal(rustix::process::Signal::CONT);
    let mut moved = two.resume(Via::Http1, "/events?channel=news", stream.last_id()).await;
    redis.publish("news", "3").await;
    assert_eq!(read(&mut moved, 1).await, ["3"]);
    assert_eq!(read(&mut other, 3).await, ["1", "2", "3"]);
}

#[tokio::test]
async fn an_id_that_no_gateway_gave_is_a_gap() {
    let redis = Redis::start().await;
    let gateway = start(&redis).await;
    let mut stream = gateway.resume(Via::Http1, "/events?channel=news", "9999999999999-5").await;
    assert_eq!(read(&mut stream, 1).await, [gap("reset", "news")]);
    redis.publish("news", "1").await;
    assert_eq!(read(&mut stream, 1).await, ["1"]);
}

#[tokio::test]
async fn a_log_is_bounded_by_count_and_age() {
    let redis = Redis::start().await;
    let gateway = build(&redis)
        .settings("recorded: { count: 100, age: 2s, prefix: \"mine:\" }\n")
        .start()
        .await;
    gateway.becomes(200, SOON).await;
    redis.publish_all("kept:a", (0..1000).map(|n| n.to_string())).await;
    let key = "mine:{kept:a}";
    eventually(SOON, "the last message is there", async || {
        let newest: Vec<(String, Vec<String>)> =
            redis.command(&["XREVRANGE", key, "+", "-", "COUNT", "1"]).await;
        newest.first().is_some_and(|(_, fields)| fields[1] == "999")
    })
    .await;
    let length: usize = redis.command(&["XLEN", key]).await;
    assert!((100..=220).contains(&length), "about 100, in whole nodes of a stream: {length}");
    eventually(SOON, "the log is gone", async || redis.command::<u64>(&["EXISTS", key]).await == 0)
        .await;
    // It goes on.
    redis.publish("kept:a", "new").await;
    eventually(SOON, "the log has a gap and the message", async || {
        redis.command::<usize>(&["XLEN", key]).await == 2
    })
    .await;
}

#[tokio::test]
async fn a_gateway_whose_connection_broke_gets_what_it_missed_from_the_log() {
    let redis = Redis::start().await;
    let (one, two) = (start(&redis).await, start(&redis).await);
    let mut streams = [
        one.subscribe("/events?channel=kept:x").await,
        two.subscribe("/events?channel=kept:x").await,
    ];
    for round in 0..3 {
        // Only one of the two can be meant: each has its own name.
        let _: u64 = redis.command(&["CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes"]).await;
        redis.publish_all("kept:x", (0..50).map(|n| format!("{round}-{n}"))).await;
        one.becomes(200, SOON).await;
        two.becomes(200, SOON).await;
    }
    redis.has_listener("ssegate:recorded").await;
    redis.publish("kept:x", "last").await;
    for stream in &mut streams {
        let mut seen: Vec<String> = Vec::new();
        let mut gaps = 0;
        while seen.last().is_none_or(|last| last != "last") {
            let event = within(2 * SOON, "the last event", stream.next_event()).await;
            match event.name.as_str() {
                "gap" => gaps += 1,
                _ => seen.push(event.data),
            }
        }
        let mut unique = seen.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), seen.len(), "none comes twice: {seen:?}");
        assert!(gaps <= 3, "{gaps} gaps");
    }
}

#[tokio::test]
async fn the_rights_that_are_shipped_suffice_and_those_that_lack_are_named() {
    let redis = Redis::start().await;
    let shipped = include_str!("../../../deploy/redis-users.acl");
    let user = shipped.lines().find(|line| line.starts_with("user ssegate ")).unwrap();
    let words: Vec<&str> = user.split(' ').skip(1).collect();
    redis.command::<String>(&[&["ACL", "SETUSER"][..], &words].concat()).await;
    let url = redis.url().replace("redis://", "redis://ssegate:listens@");
    let gateway = build(&redis).redis_url(&url).start().await;
    gateway.becomes(200, SOON).await;
    redis.publish("kept:a", "1").await;
    recorded(&redis, "kept:a", 1).await;
    let id = log(&redis, "kept:a").await[0].0.clone();
    let mut stream = gateway.resume(Via::Http1, "/events?channel=kept:a", &id).await;
    assert_eq!(read(&mut stream, 1).await, ["1"]);
    assert_eq!(gateway.metrics().await.sum("ssegate_redis_errors_total", &[]), 0.0);
    // Without the selector for recorded channels.
    let without = user.split_once("(+eval +evalsha +xadd +xtrim +xsetid ").expect("it has one");
    let rest = without.1.split_once(") ").expect("it ends").1;
    let words = format!("{}{rest}", without.0);
    redis.command::<String>(&["ACL", "SETUSER", "ssegate", "reset"]).await;
    let words: Vec<&str> = words.split(' ').skip(1).collect();
    redis.command::<String>(&[&["ACL", "SETUSER"][..], &words].concat()).await;
    let gateway = build(&redis).redis_url(&url).start().await;
    gateway.logs("Redis refused a script of recorded channels").await;
    gateway.logs("publish a mark for recorded channels").await;
}

#[tokio::test]
async fn sharded_channels_of_one_server_are_recorded_beside_those_of_the_same_name() {
    let redis = Redis::start().await;
    let routes = "- { path: /events, events: { channels: [\"{query.channel}\"], source: recorded } }\n\
                  - { path: /shards, events: { channels: [\"{query.channel}\"], source: recorded, sharded: true } }\n";
    let build = || Gateway::build(&redis).routes(routes);
    let dir = tempfile::tempdir().expect("a directory");
    let checked = build().program(dir.path(), "check").args(["--connect"]).output(SOON).await;
    assert!(
        checked.stdout.contains("2 recordings tested"),
        "{} {}",
        checked.stdout,
        checked.stderr
    );
    let (one, two) = (build().start().await, build().start().await);
    let mut plain = one.subscribe("/events?channel=news").await;
    let mut shard = one.subscribe("/shards?channel=news").await;
    let mut other = two.subscribe("/shards?channel=news").await;
    redis.publish("news", "plain").await;
    redis.command::<u64>(&["SPUBLISH", "news", "sharded"]).await;
    assert_eq!(read(&mut plain, 1).await, ["plain"]);
    assert_eq!(read(&mut shard, 1).await, ["sharded"]);
    assert_eq!(read(&mut other, 1).await, ["sharded"]);
    let id = shard.last_id().to_owned();
    assert_eq!(other.last_id(), id);
    // What nobody follows at the other gateway is recorded by this one.
    recorded(&redis, "news", 1).await;
    // The gateway is killed, and the other one has what was published meanwhile.
    one.signal(rustix::process::Signal::KILL);
    redis.command::<u64>(&["SPUBLISH", "news", "later"]).await;
    assert_eq!(read(&mut other, 1).await, ["later"]);
    let mut back = two.resume(Via::Http1, "/shards?channel=news", &id).await;
    assert_eq!(read(&mut back, 1).await, ["later"]);
    let key = "ssegate:log:sharded:{news}";
    eventually(SOON, "the log has both, behind the gap of its beginning", async || {
        redis.command::<usize>(&["XLEN", key]).await == 3
    })
    .await;
    // Its connection is lost: what was published meanwhile nobody has heard.
    redis.kill_listeners_and_spublish("news", "unheard").await;
    assert_eq!(read(&mut back, 1).await, [gap("unrecorded", "news")]);
    redis.command::<u64>(&["SPUBLISH", "news", "heard"]).await;
    assert_eq!(read(&mut back, 1).await, ["heard"]);
}

#[tokio::test]
async fn the_embedded_bus_and_a_cluster_are_refused_before_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    for url in ["embedded://127.0.0.1:6380", "redis+cluster://127.0.0.1:7000"] {
        let file = dir.path().join("gateway.yaml");
        let yaml = format!(
            "listeners: [{{ address: 127.0.0.1:0 }}]\nredis: {{ url: \"{url}\" }}\nroutes:\n{ROUTES}"
        );
        std::fs::write(&file, yaml).expect("a file");
        let output = run(["check", "-c", file.to_str().expect("UTF-8")]).await;
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(said.contains("is not supported with"), "{url}: {said}");
        assert!(!output.status.success(), "{url}");
    }
}
