//! Redis Streams: what Redis keeps, no client misses.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::{EventStream, Gateway, Redis, Request, SOON, Via, eventually, within};

async fn gateway(redis: &Redis) -> Gateway {
    Gateway::build(redis).streams().start().await
}

async fn data(stream: &mut EventStream, count: usize) -> Vec<String> {
    let mut data = Vec::with_capacity(count);
    for _ in 0..count {
        let event = stream.next_event().await;
        assert_eq!(event.name, "message", "{}", event.data);
        data.push(event.data);
    }
    data
}

#[tokio::test]
async fn entries_arrive_with_their_ids_over_every_protocol() {
    let redis = Redis::start().await;
    redis.add("orders", "before").await;
    let gateway = gateway(&redis).await;
    let mut streams = Vec::new();
    for via in Via::ALL {
        streams.push(gateway.subscribe_via(via, "/events/orders").await);
    }
    let fields = ["data", "shipped", "event", "order", "retry", "700"];
    let id: String = redis.command(&[&["XADD", "orders", "*"], &fields[..]].concat()).await;
    for stream in &mut streams {
        assert_eq!(stream.next_block().await.retry, Some(700));
        let event = stream.next_event().await;
        assert_eq!((event.name.as_str(), event.data.as_str()), ("order", "shipped"));
        assert_eq!(event.id, id);
    }
}

#[tokio::test]
async fn a_stream_that_does_not_exist_yet_is_waited_for() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis).await;
    let page = Request::events("/events/later");
    let mut stream = gateway.send(Via::Http1, page).await.stream();
    assert_eq!(stream.ready().await.id.as_deref(), Some("0-0"));
    let id = redis.add("later", "first").await;
    let event = stream.next_event().await;
    assert_eq!((event.data.as_str(), event.id), ("first", id));
    // A page that saw nothing yet misses nothing either.
    let mut back = gateway.resume(Via::Http1, "/events/later", "0-0").await;
    assert_eq!(back.next_event().await.data, "first");
}

#[tokio::test]
async fn new_streams_are_followed_while_others_wait() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis).await;
    let mut streams = Vec::new();
    for number in 0..50 {
        streams.push(gateway.subscribe(&format!("/events/s{number}")).await);
    }
    // Where it joins the group, the connection that waits is woken. Otherwise each would be followed
    // when the wait of five seconds is over: four minutes for all.
    let all = async {
        for (number, stream) in streams.iter_mut().enumerate() {
            let name = format!("s{number}");
            redis.add(&name, &name).await;
            assert_eq!(stream.next_event().await.data, name);
        }
    };
    within(2 * SOON, "an event on each", all).await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_redis_stream_connections", &[]), 1.0, "one reader for all");
}

#[tokio::test]
async fn more_streams_than_one_connection_waits_for() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .routes("- path: /events\n  events: { channels: [\"{query.channel}\"], source: stream, max_channels: 250 }\n")
        .start()
        .await;
    let mut streams = Vec::new();
    for part in 0..6 {
        let names: Vec<_> = (0..250).map(|n| format!("channel=c{}", part * 250 + n)).collect();
        streams.push(gateway.subscribe(&format!("/events?{}", names.join("&"))).await);
    }
    for (part, stream) in streams.iter_mut().enumerate() {
        for number in [0, 125, 249] {
            let name = format!("c{}", part * 250 + number);
            redis.add(&name, &name).await;
            assert_eq!(stream.next_event().await.data, name);
        }
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_redis_stream_connections", &[]), 2.0);
}

#[tokio::test]
async fn what_was_missed_is_read_again_by_any_gateway_and_after_any_restart() {
    let redis = Redis::start().await;
    let (one, two) = (gateway(&redis).await, gateway(&redis).await);
    let mut stream = one.subscribe("/events?channel=a&channel=b").await;
    redis.add("a", "a0").await;
    redis.add("b", "b0").await;
    let mut both = data(&mut stream, 2).await;
    both.sort();
    assert_eq!(both, ["a0", "b0"]);
    let last = stream.last_id().to_owned();
    drop((stream, one));

    // More than one piece.
    redis.add_all("a", (1..1000).map(|n| format!("a{n}"))).await;
    redis.add_all("b", (1..300).map(|n| format!("b{n}"))).await;
    let three = gateway(&redis).await;
    for gateway in [&two, &three] {
        let target = "/events?channel=a&channel=b";
        let mut back = gateway.resume(Via::Http2, target, &last).await;
        let missed = data(&mut back, 999 + 299).await;
        for (name, count) in [("a", 1000), ("b", 300)] {
            let of_one: Vec<_> = missed.iter().filter(|data| data.starts_with(name)).collect();
            let expected: Vec<_> = (1..count).map(|n| format!("{name}{n}")).collect();
            assert_eq!(of_one, expected.iter().collect::<Vec<_>>());
        }
        back.ready().await;
        let live = redis.add("a", "live").await;
        assert_eq!(back.next_event().await.data, "live");
        redis.command::<u64>(&["XDEL", "a", &live]).await;
    }
}

/// Comes back with the id of an entry that never was, and reads up to the gap.
async fn come_back_from_nowhere(to: SocketAddr) {
    const REQUEST: &[u8] = b"GET /events/busy HTTP/1.1\r\nhost: x\r\n\
        accept: text/event-stream\r\nlast-event-id: 99999999999999-0\r\n\r\n";
    let mut socket = TcpStream::connect(to).await.unwrap();
    socket.write_all(REQUEST).await.unwrap();
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("event: gap") {
        assert_ne!(socket.read_buf(&mut text).await.unwrap(), 0, "{text:?}");
    }
}

#[tokio::test]
async fn clients_with_ids_of_nowhere_do_not_make_a_busy_stream_look_rolled_back() {
    let redis = Redis::start().await;
    redis.add("busy", "before").await;
    let gateway = gateway(&redis).await;
    let mut listener = gateway.subscribe("/events/busy").await;
    let coming = async {
        for _ in 0..100 {
            // For each of them it is looked whether the stream has begun anew, at the same time.
            let to = gateway.address("http");
            let clients: JoinSet<()> = (0..10).map(|_| come_back_from_nowhere(to)).collect();
            within(4 * SOON, "all are told", clients.join_all()).await;
        }
    };
    let mut added = 0;
    let adding = async {
        loop {
            redis.add("busy", &added.to_string()).await;
            added += 1;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        () = coming => {}
        () = adding => {}
    }
    let expected: Vec<_> = (0..added).map(|number| number.to_string()).collect();
    assert_eq!(data(&mut listener, added).await, expected);
}

#[tokio::test]
async fn a_client_without_an_id_is_sent_what_the_route_says() {
    let redis = Redis::start().await;
    redis.add_all("s", (0..20).map(|n| n.to_string())).await;
    let expectations: [(&str, Vec<u32>); 4] =
        [("last", vec![19]), ("3", vec![17, 18, 19]), ("all", (0..20).collect()), ("none", vec![])];
    for (replay, expected) in expectations {
        let gateway = Gateway::build(&redis)
            .events(&format!("source: stream\nreplay: {replay}"))
            .start()
            .await;
        let mut stream = gateway.open("/events/s").await;
        let expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
        assert_eq!(data(&mut stream, expected.len()).await, expected, "{replay}");
        stream.ready().await;
    }
}

#[tokio::test]
async fn entries_of_any_size_and_any_bytes() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .settings("max_event_bytes: 4MiB\nsse: { queue: { bytes: 64MiB } }")
        .streams()
        .start()
        .await;
    let mut stream = gateway.subscribe("/events/s").await;
    for size in [1, 1000, 100_000, 4 << 20] {
        let payload = "x".repeat(size);
        redis.add("s", &payload).await;
        assert!(stream.next_event().await.data == payload, "{size} bytes");
    }
    // Together more than one answer holds.
    let last = stream.last_id().to_owned();
    let payloads: Vec<String> = (0..8).map(|n| n.to_string().repeat(3 << 20)).collect();
    redis.add_all("s", &payloads).await;
    let mut back = gateway.resume(Via::Http1, "/events/s", &last).await;
    for payload in &payloads {
        assert!(stream.next_event().await.data == *payload, "live");
        assert!(back.next_event().await.data == *payload, "again");
    }
    // Larger than an event may be.
    redis.add("s", &"x".repeat((4 << 20) + 1)).await;
    redis.add("s", "after").await;
    for stream in [&mut stream, &mut back] {
        let gap = stream.next_event().await;
        assert_eq!((gap.name.as_str(), gap.data.contains("too_large")), ("gap", true));
        assert_eq!(stream.next_event().await.data, "after");
    }
}

#[tokio::test]
async fn a_key_that_is_no_stream_harms_no_other() {
    let redis = Redis::start().await;
    redis.command::<String>(&["SET", "text", "x"]).await;
    let gateway = gateway(&redis).await;
    let mut stream = gateway.subscribe("/events/good").await;
    let mut wrong = gateway.open("/events/text").await;
    assert!(wrong.next_block().await.retry.is_some());
    gateway.counts("ssegate_redis_errors_total", &[], 1.0).await;
    gateway.becomes(200, SOON).await;
    redis.add("good", "1").await;
    assert_eq!(stream.next_event().await.data, "1");

    // A stream that becomes something else while it is read.
    let mut changes = gateway.subscribe("/events/changes").await;
    redis.add("changes", "1").await;
    assert_eq!(changes.next_event().await.data, "1");
    redis.command::<u64>(&["DEL", "changes"]).await;
    redis.command::<String>(&["SET", "changes", "x"]).await;
    redis.add("good", "2").await;
    assert_eq!(stream.next_event().await.data, "2");
    redis.add("good", "3").await;
    assert_eq!(stream.next_event().await.data, "3");

    redis.command::<u64>(&["DEL", "text", "changes"]).await;
    wrong.ready().await;
    redis.add("text", "a stream now").await;
    assert_eq!(wrong.next_event().await.data, "a stream now");
}

#[tokio::test]
async fn a_stream_that_nobody_listens_to_is_left() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).events("source: stream\nlinger: 0s").start().await;
    drop(gateway.subscribe("/events/s").await);
    let left = async || gateway.metrics().await.sum("ssegate_channels", &[]) == 0.0;
    eventually(SOON, "it is left", left).await;
    redis.add("s", "missed by nobody").await;
    let mut stream = gateway.subscribe("/events/s").await;
    redis.add("s", "heard").await;
    assert_eq!(stream.next_event().await.data, "heard");
}

#[tokio::test]
async fn the_database_of_the_url_is_read() {
    let redis = Redis::start().await;
    let url = format!("{}/3", redis.url());
    let gateway = Gateway::build(&redis).redis_url(&url).streams().start().await;
    let mut stream = gateway.subscribe("/events/s").await;
    redis.add("s", "in another database").await;
    let script = "redis.call('SELECT', 3) return redis.call('XADD', 's', '*', 'data', 'here')";
    redis.command::<String>(&["EVAL", script, "0"]).await;
    assert_eq!(stream.next_event().await.data, "here");
}

/// A Redis whose dump has 300 entries, and that has had 200 more since.
async fn with_a_dump() -> (Redis, Gateway, EventStream, EventStream, Vec<String>) {
    let redis = Redis::start().await;
    let gateway = gateway(&redis).await;
    let mut one = gateway.subscribe("/events/s").await;
    let mut both = gateway.subscribe("/events?channel=s&channel=other").await;
    redis.add("other", "kept").await;
    both.next_event().await;
    let mut ids = Vec::new();
    for part in [0..300, 300..500] {
        redis.add_all("s", part.clone().map(|number| number.to_string())).await;
        for number in part {
            let event = one.next_event().await;
            assert_eq!(event.data, number.to_string());
            ids.push(event.id);
            both.next_event().await;
        }
        if ids.len() == 300 {
            redis.command::<String>(&["SAVE"]).await;
        }
    }
    (redis, gateway, one, both, ids)
}

#[tokio::test]
async fn a_redis_that_comes_back_older_replays_nothing_and_one_gap_tells_of_it() {
    let (mut redis, gateway, mut one, mut both, ids) = with_a_dump().await;
    redis.kill();
    redis.restart().await;
    assert_eq!(redis.command::<u64>(&["XLEN", "s"]).await, 300, "it has loaded its dump");
    let gap = r#"{"reason":"rolled_back","channels":["s"]}"#;
    for stream in [&mut one, &mut both] {
        assert_eq!(stream.next_event().await.data, gap);
    }
    assert_eq!(one.last_id(), ids[299], "it goes on where Redis ends now");
    redis.add("s", "new").await;
    for stream in [&mut one, &mut both] {
        assert_eq!(stream.next_event().await.data, "new", "and nothing was repeated");
    }

    // Clients that come back: behind the end of the dump, at it, and before it.
    for (id, expected) in [
        (&ids[499], vec![gap.to_owned(), "new".into()]),
        (&ids[350], vec![gap.to_owned(), "new".into()]),
        (&ids[299], vec![gap.to_owned(), "new".into()]),
        (&ids[297], vec!["298".into(), "299".into(), gap.to_owned(), "new".into()]),
    ] {
        let mut back = gateway.resume(Via::Http2, "/events/s", id).await;
        for expected in expected {
            assert_eq!(back.next_event().await.data, expected, "after {id}");
        }
        back.ready().await;
    }
}

#[tokio::test]
async fn a_client_that_comes_back_while_redis_is_away_is_not_sent_everything_when_it_is_back() {
    let (mut redis, gateway, one, both, ids) = with_a_dump().await;
    redis.kill();
    let mut back = gateway.resume(Via::Http1, "/events/s", &ids[400]).await;
    // What the gateway has it is sent at once.
    for number in 401..500 {
        assert_eq!(back.next_event().await.data, number.to_string());
    }
    redis.restart().await;
    let gap = back.next_event().await;
    assert_eq!(gap.data, r#"{"reason":"rolled_back","channels":["s"]}"#);
    redis.add("s", "new").await;
    assert_eq!(back.next_event().await.data, "new");
    drop((one, both));
}

#[tokio::test]
async fn a_redis_that_lost_thousands_of_entries_replays_none_of_those_it_kept() {
    let mut redis = Redis::start().await;
    let gateway = gateway(&redis).await;
    let mut stream = gateway.subscribe("/events/s").await;
    for part in [0..2500, 2500..6000] {
        redis.add_all("s", part.clone().map(|number| number.to_string())).await;
        data(&mut stream, part.len()).await;
        if part.start == 0 {
            redis.command::<String>(&["SAVE"]).await;
        }
    }
    let last = stream.last_id().to_owned();
    redis.kill();
    redis.restart().await;
    let gap = r#"{"reason":"rolled_back","channels":["s"]}"#;
    assert_eq!(stream.next_event().await.data, gap);
    redis.add("s", "new").await;
    assert_eq!(stream.next_event().await.data, "new");
    let mut back = gateway.resume(Via::Http1, "/events/s", &last).await;
    assert_eq!(back.next_event().await.data, gap);
    assert_eq!(back.next_event().await.data, "new");
}

#[tokio::test]
async fn the_time_since_an_entry_was_published_is_measured_where_its_id_says_when() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis).await;
    let mut stream = gateway.subscribe("/events/orders").await;
    let mut other = gateway.subscribe("/events/numbers").await;
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    // Two were published just now, one waited for three seconds, and one has a number that is no time.
    for (key, id) in [
        ("numbers", "7-1".to_owned()),
        ("orders", format!("{}-0", now - 3000)),
        ("orders", "*".to_owned()),
        ("orders", "*".to_owned()),
    ] {
        redis.command::<String>(&["XADD", key, &id, "data", "x"]).await;
    }
    for _ in 0..3 {
        assert_eq!(stream.next_event().await.data, "x");
    }
    assert_eq!(other.next_event().await.data, "x");
    const LATENCY: &str = "ssegate_publish_latency_seconds";
    gateway.counts(&format!("{LATENCY}_count"), &[], 3.0).await;
    let metrics = gateway.metrics().await;
    let within = |le: &str| metrics.sum(&format!("{LATENCY}_bucket"), &[&format!("le=\"{le}\"")]);
    assert_eq!(metrics.sum(&format!("{LATENCY}_count"), &[]), 3.0);
    assert_eq!((within("2.5"), within("300")), (2.0, 3.0));
    // What is replayed was not published just now, and does not count.
    let mut back = gateway.resume(Via::Http1, "/events/orders", "0-0").await;
    for _ in 0..3 {
        assert_eq!(back.next_event().await.data, "x");
    }
    redis.add("orders", "the fourth").await;
    assert_eq!(back.next_event().await.data, "the fourth");
    let is_counted = format!("{LATENCY}_count");
    gateway.counts(&is_counted, &[], 4.0).await;
    assert_eq!(gateway.metrics().await.sum(&is_counted, &[]), 4.0);
}
