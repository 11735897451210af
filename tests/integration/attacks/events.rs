//! What is asked for and what is published: ids that nobody wrote, names that are none, subscriptions
//! by the thousand, payloads that would be fields.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Scene;
use super::table::{judge, mib};
use crate::support::{EventStream, Http2, Redis, Request, SOON, Via, eventually, within};

const ROUTES: &str = "\
- path: /logs
  events: { channels: [\"{query.channel}\"], source: stream }
- path: /patterns
  events: { channels: [\"{query.channel}\"], patterns: true }
- path: /behind/{channel}
  events: { channels: [\"{channel}\"], strip_prefix: \"__key\" }
- path: /envelopes/{channel}
  events: { channels: [\"{channel}\"], format: envelope, history: off }
";

/// Ids that the gateway never wrote, or not for these channels.
fn ids() -> Vec<String> {
    let short = [
        "1",
        "-",
        "~",
        "1-0~2-0~3-0",
        "abcdef-1",
        "abcdef-18446744073709551615",
        "abcdef-18446744073709551616",
        "18446744073709551615-18446744073709551615",
        "18446744073709551616-0",
        "\u{e9}\u{20ac}\u{1f600}",
        "$",
        "+",
        ">",
        "id: 7",
        "*3 $7 PUBLISH",
    ];
    let long = ["9".repeat(7000), "~".repeat(7000), "1-0~".repeat(1700), "\u{20ac}".repeat(2000)];
    short.into_iter().map(str::to_owned).chain(long).collect()
}

/// Reads up to `ready`; answers how many gaps were told before. Nothing comes without one.
async fn gaps_before_ready(stream: &mut EventStream, what: &str) -> usize {
    let mut gaps = 0;
    loop {
        let block = stream.next_block().await;
        if block.comments.iter().any(|comment| comment == "ready") {
            return gaps;
        }
        if let Some(event) = block.event {
            gaps += usize::from(event.name == "gap");
            assert!(gaps > 0, "{what}: {event:?}");
        }
    }
}

#[tokio::test]
async fn ids_that_nobody_wrote() {
    let scene = Scene::with(Redis::start().await, |builder| builder.route(ROUTES)).await;
    let _follows = scene.gateway.subscribe("/events/past").await;
    for number in 0..5 {
        scene.redis.publish("past", number.to_string()).await;
        scene.redis.add("log", &number.to_string()).await;
    }
    let before = scene.count("ssegate_gaps_total", "reason=\"unknown_id\"").await;
    let ((asked, told), toll) = scene
        .crowd
        .under(async {
            let mut all = JoinSet::new();
            for (at, id) in ids().into_iter().enumerate() {
                let (gateway, redis) = (Arc::clone(&scene.gateway), Arc::clone(&scene.redis));
                all.spawn(async move {
                    let (mut asked, mut told) = (0, 0);
                    for target in
                        ["/events/past", "/logs?channel=log", "/logs?channel=log&channel=x"]
                    {
                        for round in 0..4 {
                            let via = Via::ALL[(at + round) % Via::ALL.len()];
                            let request = Request::events(target).header("last-event-id", &id);
                            let mut stream = gateway.send(via, request).await.stream();
                            let what = format!("{id:.40} at {target}");
                            told += gaps_before_ready(&mut stream, &what).await;
                            asked += 1;
                            if round == 0 {
                                // It is served all the same: with what comes now, or with a gap.
                                let word = format!("{at}");
                                redis.publish("past", &word).await;
                                redis.add("log", &word).await;
                                let next = stream.next_event().await;
                                assert!(next.name == "gap" || next.name == "message", "{what}");
                            }
                        }
                    }
                    (asked, told)
                });
            }
            let sums = all.join_all().await.into_iter();
            sums.fold((0, 0), |sum, one: (usize, usize)| (sum.0 + one.0, sum.1 + one.1))
        })
        .await;
    let counted = scene.count("ssegate_gaps_total", "reason=\"unknown_id\"").await - before;
    assert!(counted > asked as f64 / 2.0, "{counted} of {asked} are counted, {told} told");
    let bounds = [("MiB", 16.0, mib(toll.resident))];
    judge(&format!("{asked} hostile Last-Event-IDs"), &toll, &bounds);
}

/// Ids in the query, of any bytes: no header could carry them.
#[tokio::test]
async fn ids_of_any_bytes_are_unknown() {
    let scene = Scene::set("").await;
    let _follows = scene.gateway.subscribe("/events/past").await;
    for id in ["%00", "a%0Aid:%207", "a%0D%0A%0D%0Adata:%20x", "%FF%FE-1", "%EF%BB%BF", "%", "%2"] {
        let target = format!("/events/past?last_event_id={id}");
        let mut stream = scene.gateway.send(Via::Http1, Request::events(&target)).await.stream();
        assert_eq!(gaps_before_ready(&mut stream, id).await, 1, "{id}");
    }
}

/// Names that would be something else: for Redis, for its protocol, for a pattern.
const NAMES: [&str; 22] = [
    "/events/__keyspace@0__:secret",
    "/events?channel=__keyevent@0__:set",
    "/events?channel=fine&channel=__sentinel__:hello",
    "/events/a%0D%0APUBLISH%20crowd%20forged%0D%0A",
    "/events?channel=a%0A",
    "/events?channel=a%00b",
    "/events?channel=%C2%85",
    "/events?channel=%7F",
    "/events?channel=",
    "/events",
    "/behind/space@0__:secret",
    "/behind/event@0__:set",
    "/patterns?channel=*",
    "/patterns?channel=__*",
    "/patterns?channel=?_key*",
    "/patterns?channel=%3F_keyspace@0__:*",
    "/patterns?channel=[_]_keyevent*",
    "/patterns?channel=[%5E-]*",
    "/patterns?channel=__key\\space@*",
    "/patterns?channel=_*",
    "/patterns?channel=a&channel=%5B%5E%5D*",
    "/patterns?channel=**********************************************a",
];

#[tokio::test]
async fn names_that_are_something_else() {
    let redis = Redis::with(&["--notify-keyspace-events", "KEA"]).await;
    let scene = Scene::with(redis, |builder| builder.route(ROUTES)).await;
    // What is odd, but a name: it reaches its own channel and no other.
    let mut odd = Vec::new();
    for name in ["*", "$3", "crowd*", "c?owd", "\u{1f600}", " crowd", "SUBSCRIBE crowd"] {
        let path = format!("/events/{}", name.replace(' ', "%20").replace('?', "%3F"));
        odd.push((name, scene.gateway.subscribe(&path).await));
    }
    let many = (0..101).map(|number| format!("channel=c{number}")).collect::<Vec<_>>().join("&");
    let many = format!("/events?{many}");
    let before = scene.count("ssegate_http_requests_rejected_total", "reason=\"channel\"").await;
    let ((asked, let_in), toll) = scene
        .crowd
        .under(async {
            let connections = [
                Http2::connect(Via::Http2, scene.gateway.address("https")).await,
                Http2::connect(Via::H2c, scene.gateway.address("http")).await,
            ];
            let long = format!("/events/{}", "x".repeat(256));
            let (mut asked, mut let_in) = (0, Vec::new());
            for _ in 0..20 {
                for target in NAMES.into_iter().chain([long.as_str(), many.as_str()]) {
                    scene.redis.command::<()>(&["SET", "secret", "value"]).await;
                    // Both from the start: the first request of a connection has its time.
                    let connection = &connections[asked % 2];
                    let response = connection.send(Request::events(target)).await;
                    asked += 1;
                    if response.status != 400 {
                        let_in.push(format!("{target}: {}", response.status));
                    }
                }
            }
            (asked, let_in)
        })
        .await;
    assert!(let_in.is_empty(), "{let_in:?}");
    let counted = scene.count("ssegate_http_requests_rejected_total", "reason=\"channel\"").await;
    assert!(counted - before >= f64::from(20 * 20), "{counted}");
    // None of it has come to Redis, and none of Redis's own affairs to anybody.
    let channels: Vec<String> = scene.redis.command(&["PUBSUB", "CHANNELS"]).await;
    let patterns: u64 = scene.redis.command(&["PUBSUB", "NUMPAT"]).await;
    assert!(channels.iter().all(|name| !name.contains("__key")), "{channels:?}");
    assert_eq!((patterns, channels.iter().filter(|name| name.contains("forged")).count()), (0, 0));
    scene.redis.publish("*", "for this one").await;
    assert_eq!(odd[0].1.next_event().await.data, "for this one");
    // The first that comes to each of the others is of its own channel.
    for (name, stream) in &mut odd[1..] {
        scene.redis.publish(name, *name).await;
        assert_eq!(stream.next_event().await.data, *name, "it is for another channel");
    }
    let bounds = [("let in", 0.0, let_in.len() as f64), ("MiB", 8.0, mib(toll.resident))];
    judge(&format!("{asked} names of channels that are none"), &toll, &bounds);
}

/// How often Redis was told this.
async fn commands(redis: &Redis, command: &str) -> f64 {
    let all: String = redis.command(&["INFO", "commandstats"]).await;
    let line = all.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:")));
    let calls = line.and_then(|line| line.split("calls=").nth(1)?.split(',').next());
    calls.map_or(0.0, |calls| calls.parse().unwrap())
}

#[tokio::test]
async fn subscriptions_by_the_thousand() {
    let scene = Scene::set("limits: { new_channels_per_address: 20 }").await;
    let http = scene.gateway.address("http");
    let mut connections = Vec::new();
    for _ in 0..5 {
        connections.push(Http2::connect(Via::H2c, http).await);
    }
    let before = commands(&scene.redis, "subscribe").await;
    let (_, toll) = scene
        .crowd
        .under(async {
            // One channel, asked for and left two thousand times.
            for _ in 0..2 {
                let mut streams = Vec::new();
                for number in 0..1000 {
                    let asked = Request::events("/events/one");
                    streams.push(connections[number % 5].send(asked).await.stream());
                }
                for stream in &mut streams {
                    stream.ready().await;
                }
            }
        })
        .await;
    let told = commands(&scene.redis, "subscribe").await - before;
    let bounds = [("SUBSCRIBE", 1.0, told), ("MiB", 32.0, mib(toll.resident))];
    judge("2,000 streams of one channel", &toll, &bounds);

    let reason = "reason=\"new_channels_per_address\"";
    let before = commands(&scene.redis, "subscribe").await;
    let begun = Instant::now();
    let (let_in, toll) = scene
        .crowd
        .under(async {
            let mut let_in = 0;
            for number in 0..1000 {
                let asked = Request::events(&format!("/events/other-{number}"));
                let mut stream = connections[number % 5].send(asked).await.stream();
                // Who is sent away is told why and for how long, and nothing else.
                stream.next_block().await;
                stream.next_block().await;
                let_in += usize::from(stream.block().await.is_some());
            }
            let_in
        })
        .await;
    let allowed = 20.0 * (begun.elapsed().as_secs_f64() + 1.0);
    let told = commands(&scene.redis, "subscribe").await - before;
    let away = scene.count("ssegate_http_requests_rejected_total", reason).await;
    assert_eq!(away, (1000 - let_in) as f64, "each is counted");
    let bounds = [
        ("SUBSCRIBE", allowed, told),
        ("let in", allowed, let_in as f64),
        ("MiB", 16.0, mib(toll.resident)),
    ];
    judge("1,000 streams of a channel each", &toll, &bounds);
}

/// Everything that ends a line somewhere, or begins a field.
const PIECES: [&str; 20] = [
    "\r",
    "\n",
    "\r\n",
    "\n\n",
    "\r\r",
    "\0",
    "\u{b}",
    "\u{c}",
    "\u{85}",
    "\u{2028}",
    "\u{2029}",
    "\u{feff}",
    "\u{1b}[2J",
    "data: forged",
    "id: 7",
    "event: gap",
    "retry: 1",
    ": comment",
    ":",
    "\u{1f600}",
];

#[tokio::test]
async fn payloads_that_would_be_fields() {
    const EVENTS: usize = 2000;
    let scene = Scene::with(Redis::start().await, |builder| builder.route(ROUTES)).await;
    let mut raw = scene.gateway.send(Via::Http2, Request::events("/events/victim")).await.stream();
    raw.ready().await;
    let mut named =
        scene.gateway.send(Via::Http1Tls, Request::events("/envelopes/victim")).await.stream();
    named.ready().await;
    let (forged, toll) = scene
        .crowd
        .under(async {
            let any = || (0..fastrand::usize(1..6)).map(|_| fastrand::choice(PIECES).unwrap());
            let mut forged = Vec::new();
            for _ in 0..EVENTS / 50 {
                let texts: Vec<String> = (0..50).map(|_| any().collect()).collect();
                let envelopes = texts.iter().map(|text| {
                    let field = any().collect::<String>();
                    serde_json::json!({ "event": field, "id": field, "data": text, "retry": field })
                        .to_string()
                });
                let envelopes = envelopes.collect::<Vec<_>>();
                scene.redis.publish_all("victim", &texts).await;
                for text in &texts {
                    let expected = text.replace("\r\n", "\n").replace('\r', "\n");
                    let block = raw.next_word().await;
                    let event =
                        block.event.clone().unwrap_or_else(|| panic!("{text:?}: {block:?}"));
                    if event.data != expected || event.name != "message" || event.id == "7" {
                        forged.push(format!("{text:?}: {event:?}"));
                    }
                    forged.extend(block.retry.map(|retry| format!("{text:?}: retry {retry}")));
                    forged.extend(block.comments.first().map(|said| format!("{text:?}: {said}")));
                }
                for text in &texts {
                    // An envelope on a channel without that format is a text like any other.
                    let block = named.next_block().await;
                    assert!(block.event.is_some(), "{text:?}");
                }
                scene.redis.publish_all("victim", &envelopes).await;
                for (text, envelope) in texts.iter().zip(&envelopes) {
                    assert!(raw.next_block().await.event.is_some_and(|e| e.data == *envelope));
                    let expected = text.replace("\r\n", "\n").replace('\r', "\n");
                    let block = named.next_block().await;
                    let event = block.event.clone().unwrap_or_else(|| panic!("{envelope}"));
                    let is_sound = |field: &str| !field.contains(['\r', '\n', '\0']);
                    if event.data != expected || !is_sound(&event.name) || !is_sound(&event.id) {
                        forged.push(format!("{envelope}: {event:?}"));
                    }
                    forged.extend(block.retry.map(|retry| format!("{envelope}: retry {retry}")));
                    forged.extend(block.comments.first().map(|said| format!("{envelope}: {said}")));
                }
            }
            forged
        })
        .await;
    assert!(forged.is_empty(), "{}", forged.join("\n"));
    let malformed = scene.count("ssegate_events_malformed_total", "").await;
    assert!(malformed > 0.0, "what was no envelope, or had no sound name, is counted");
    let bounds = [("forged", 0.0, forged.len() as f64), ("MiB", 16.0, mib(toll.resident))];
    judge(&format!("{EVENTS} payloads that would be fields"), &toll, &bounds);
}

/// The same in bytes, on the wire: a client may end lines elsewhere than ours does.
#[tokio::test]
async fn no_payload_brings_a_carriage_return_onto_the_wire() {
    let scene = Scene::set("").await;
    let mut socket = TcpStream::connect(scene.gateway.address("http")).await.unwrap();
    let request = b"GET /events/victim HTTP/1.0\r\nhost: localhost\r\n\r\n";
    socket.write_all(request).await.unwrap();
    let heard = async || scene.redis.publish("victim", "first").await == 1;
    eventually(SOON, "it is subscribed", heard).await;
    for piece in PIECES {
        scene.redis.publish("victim", format!("a{piece}b")).await;
    }
    scene.redis.publish("victim", "the last").await;
    let mut all = Vec::new();
    let read = async {
        while memchr::memmem::find(&all, b"the last\nid: ").is_none() {
            assert!(socket.read_buf(&mut all).await.unwrap() > 0, "it goes on");
        }
    };
    within(SOON, "the last", read).await;
    let head = memchr::memmem::find(&all, b"\r\n\r\n").unwrap() + 4;
    let body = std::str::from_utf8(&all[head..]).expect("the stream is UTF-8");
    assert!(!body.contains('\r'), "{body:?}");
}
