//! Several gateways at one Redis: a client that comes to another one has missed nothing, or is told so.

mod holes;

use std::time::Duration;

use crate::support::{
    EventStream, Gateway, GatewayBuilder, Redis, Relay, SOON, Slowness, Via, eventually, within,
};

const KEY: &str = "a fleet key of thirty-two bytes or more";

const ROUTES: &str = "\
- path: /events
  events: { channels: [\"{query.channel}\"], patterns: true }
";

fn build(redis: &Redis) -> GatewayBuilder {
    Gateway::build(redis).routes(ROUTES)
}

async fn start(redis: &Redis) -> Gateway {
    ready(build(redis)).await
}

async fn ready(gateway: GatewayBuilder) -> Gateway {
    let gateway = gateway.start().await;
    gateway.becomes(200, SOON).await;
    gateway
}

fn target(channels: &[&str]) -> String {
    let names: Vec<String> = channels.iter().map(|name| format!("channel={name}")).collect();
    format!("/events?{}", names.join("&"))
}

/// Whether other gateways can know what an id means: it has a third part.
fn is_named(id: &str) -> bool {
    id.splitn(3, '-').nth(2).is_some()
}

/// Opens a stream, and waits until its client has an id that other gateways can know.
async fn open(gateway: &Gateway, via: Via, channels: &[&str]) -> EventStream {
    let mut stream = gateway.subscribe_via(via, &target(channels)).await;
    named(&mut stream).await;
    stream
}

async fn named(stream: &mut EventStream) {
    within(SOON, "an id with a name", async {
        while !is_named(stream.last_id()) {
            let block = stream.next_block().await;
            assert_eq!(block.event, None, "nothing was published");
        }
    })
    .await;
}

/// Comes to `gateway` with this id, and reads until `last`, which is published when it is there.
async fn comes_to(
    (gateway, via): (&Gateway, Via),
    redis: &Redis,
    channels: &[&str],
    id: &str,
) -> (Vec<String>, EventStream) {
    let mut stream = gateway.resume(via, &target(channels), id).await;
    // Whoever comes is told of a gap before `ready`; what is published then is no part of it.
    let mut read = stream.read_until_ready().await;
    redis.publish(channels[0], "last").await;
    read.append(&mut stream.read_until("last").await);
    (read, stream)
}

fn gap(reason: &str, channel: &str) -> String {
    format!("gap {{\"reason\":\"{reason}\",\"channels\":[\"{channel}\"]}}")
}

async fn clients(gateway: &Gateway, result: &str) -> f64 {
    let label = format!("result=\"{result}\"");
    gateway.metrics().await.sum("ssegate_fleet_clients_total", &[&label]).round()
}

/// Moves between two gateways again and again while messages come.
async fn moves(
    redis: &Redis,
    gateways: [&Gateway; 2],
    via: Via,
    payload: impl Fn(usize) -> String,
) {
    let channel = format!("c{}", fastrand::u64(..));
    let channels = [channel.as_str()];
    let mut followers =
        [open(gateways[0], via, &channels).await, open(gateways[1], via, &channels).await];
    // Both have heard the marks that came before it: an id with an older one would have to be asked for.
    redis.publish(&channel, "first").await;
    for follower in &mut followers {
        assert_eq!(follower.next_event().await.data, "first");
    }
    let mut id = followers[0].last_id().to_owned();
    let (rounds, per_round) = (12, 20);
    let publishing = async {
        for number in 0..rounds * per_round {
            redis.publish(&channel, payload(number)).await;
            tokio::time::sleep(Duration::from_millis(fastrand::u64(..8))).await;
        }
    };
    let reading = async {
        for round in 0..rounds {
            let gateway = gateways[(round + 1) % 2];
            let mut stream = gateway.resume(via, &target(&channels), &id).await;
            for number in 0..per_round {
                let event = stream.next_event().await;
                let expected = payload(round * per_round + number);
                assert_eq!((event.name.as_str(), event.data), ("message", expected), "{round}");
                id = event.id;
            }
        }
    };
    tokio::join!(publishing, reading);
    // None is repeated, and none is left.
    let (read, _stream) = comes_to((gateways[0], via), redis, &channels, &id).await;
    assert_eq!(read, ["last"]);
}

#[tokio::test]
async fn a_client_moves_between_gateways_without_a_gap_and_without_a_repeat() {
    for arguments in [&[][..], &["--rename-command", "HELLO", ""]] {
        let redis = Redis::with(arguments).await;
        let gateways = [start(&redis).await, start(&redis).await];
        for via in [Via::Http1, Via::Http2] {
            moves(&redis, [&gateways[0], &gateways[1]], via, |number| number.to_string()).await;
            // As many as were published, although each looks like the others.
            moves(&redis, [&gateways[0], &gateways[1]], via, |_| "same".to_owned()).await;
        }
        assert_eq!(clients(&gateways[1], "gap").await, 0.0);
        assert!(clients(&gateways[1], "complete").await >= 24.0);
    }
}

#[tokio::test]
async fn a_client_of_quiet_channels_moves_without_a_gap() {
    let redis = Redis::start().await;
    let gateways = [start(&redis).await, start(&redis).await];
    for via in [Via::Http1, Via::Http2] {
        for (number, meanwhile) in [&[][..], &["1", "2"]].into_iter().enumerate() {
            let names = ["quiet", "silent"].map(|name| format!("{name}:{via:?}:{number}"));
            let pattern = format!("rare:{via:?}:{number}:*");
            let channels = [&*names[0], &*names[1], &*pattern];
            let _follower = open(&gateways[1], via, &channels).await;
            let id = open(&gateways[0], via, &channels).await.last_id().to_owned();
            for (channel, data) in
                [pattern.replace('*', "x"), names[1].clone()].iter().zip(meanwhile)
            {
                redis.publish(channel, data).await;
            }
            let (read, _stream) = comes_to((&gateways[1], via), &redis, &channels, &id).await;
            assert_eq!(read, [meanwhile, &["last"][..]].concat());
        }
    }
}

#[tokio::test]
async fn a_channel_that_one_gateway_alone_has_followed_is_asked_for() {
    let redis = Redis::start().await;
    let gateways = [start(&redis).await, start(&redis).await];
    for via in [Via::Http1, Via::Http2] {
        let quiet = format!("quiet:{via:?}");
        let id = open(&gateways[0], via, &[&quiet]).await.last_id().to_owned();
        let (read, stream) = comes_to((&gateways[1], via), &redis, &[&quiet], &id).await;
        assert_eq!(read, ["last"]);
        drop(stream);

        // After a message, too.
        let busy = format!("busy:{via:?}");
        let mut stream = open(&gateways[0], via, &[&busy]).await;
        redis.publish(&busy, "first").await;
        let id = stream.next_event().await.id;
        drop(stream);
        let (read, _stream) = comes_to((&gateways[1], via), &redis, &[&busy], &id).await;
        assert_eq!(read, ["last"]);

        // What came when only the other one followed it is with the other one.
        let missed = format!("missed:{via:?}");
        let id = open(&gateways[0], via, &[&missed]).await.last_id().to_owned();
        redis.publish(&missed, "for the other one").await;
        let (read, _stream) = comes_to((&gateways[1], via), &redis, &[&missed], &id).await;
        assert_eq!(read, [gap("expired", &missed), "last".to_owned()]);
    }
    let metrics = gateways[1].metrics().await;
    let asked = metrics.sum("ssegate_fleet_messages_published_total", &["kind=\"question\""]);
    assert!(asked >= 6.0, "{asked}");
    let metrics = gateways[0].metrics().await;
    let answered = metrics.sum("ssegate_fleet_messages_published_total", &["kind=\"answer\""]);
    assert!(answered >= 6.0, "{answered}");
}

#[tokio::test]
async fn a_rolling_restart_is_no_gap_while_the_old_gateway_drains() {
    let redis = Redis::start().await;
    // After SIGTERM it goes on for three seconds, as with a load balancer that has not seen it yet.
    let settings = "drain: 1s\ndrain_delay: 3s\nsse: { retry: 100ms }";
    let mut old = ready(build(&redis).settings(settings)).await;
    let kinds = [["busy", "quiet"], ["private:1", "private:2"]];
    for generation in 0..2 {
        let mut streams = Vec::new();
        for channels in &kinds {
            for via in [Via::Http1, Via::Http2] {
                streams.push((via, channels, open(&old, via, channels).await));
            }
        }
        redis.publish("busy", "before").await;
        for (_, channels, stream) in &mut streams {
            if channels[0] == "busy" {
                assert_eq!(stream.next_event().await.data, "before");
            }
        }
        // One that starts before the old one drains, and one that starts meanwhile: the old one follows and
        // answers until it exits.
        let new = match generation {
            0 => {
                let new = ready(build(&redis).settings(settings)).await;
                old.terminate();
                new
            }
            _ => {
                old.terminate();
                old.logs("stopping").await;
                ready(build(&redis).settings(settings)).await
            }
        };
        assert!(old.said("stopped").next().is_none(), "it drains");
        for (via, channels, mut stream) in streams {
            stream.end().await.expect("it ends in good order");
            let id = stream.last_id().to_owned();
            let (read, _stream) = comes_to((&new, via), &redis, channels, &id).await;
            let lasts = read.iter().all(|data| data == "last");
            assert!(lasts && !read.is_empty(), "{generation} {via:?} {channels:?}: {read:?}");
        }
        assert_eq!(old.exit_within(SOON).await.code(), Some(0));
        old = new;
    }
}

#[tokio::test]
async fn a_gateway_whose_connection_broke_tells_one_gap_and_the_others_none() {
    let redis = Redis::start().await;
    let user = ["ACL", "SETUSER", "gate", "on", ">secret", "~*", "&*", "+@all"];
    redis.command::<String>(&user).await;
    let url = redis.url().replace("redis://", "redis://gate:secret@");
    let broken = ready(build(&redis).redis_url(&url)).await;
    let whole = start(&redis).await;
    let mut streams = [
        open(&broken, Via::Http1, &["news"]).await,
        open(&broken, Via::Http2, &["news"]).await,
        open(&whole, Via::Http1, &["news"]).await,
    ];
    redis.publish("news", "before").await;
    for stream in &mut streams {
        assert_eq!(stream.next_event().await.data, "before");
    }
    let left = open(&whole, Via::Http1, &["news"]).await.last_id().to_owned();
    let killed: u64 = redis.command(&["CLIENT", "KILL", "USER", "gate", "TYPE", "pubsub"]).await;
    assert_eq!(killed, 1);
    redis.publish("news", "heard by one").await;
    broken.counts("ssegate_redis_reconnects_total", &[], 1.0).await;
    broken.becomes(200, SOON).await;
    redis.publish("news", "last").await;
    for (number, stream) in streams.iter_mut().enumerate() {
        let read = stream.read_until("last").await;
        match number {
            2 => assert_eq!(read, ["heard by one", "last"]),
            _ => assert_eq!(read, [gap("redis_away", "news"), "last".to_owned()]),
        }
    }
    // Whoever comes from before the break, and has not been told, is told at the gateway that has the hole.
    let (read, _stream) = comes_to((&broken, Via::Http1), &redis, &["news"], &left).await;
    assert!(read[0].starts_with("gap "), "{read:?}");
    let (read, _stream) = comes_to((&whole, Via::Http1), &redis, &["news"], &left).await;
    assert_eq!(read[..2], ["heard by one", "last"]);
    // After the gap all is as before.
    let mut stream = open(&broken, Via::Http1, &["news"]).await;
    redis.publish("news", "after").await;
    let id = stream.next_event().await.id;
    let (read, _stream) = comes_to((&whole, Via::Http1), &redis, &["news"], &id).await;
    assert_eq!(read, ["last"]);
}

/// Lets a client move from `first` to `second`; returns what it is sent there.
async fn moved(redis: &Redis, first: &Gateway, second: &Gateway) -> Vec<String> {
    let _follower = second.subscribe(&target(&["news"])).await;
    let mut stream = first.subscribe(&target(&["news"])).await;
    redis.publish("news", "first").await;
    let id = stream.next_event().await.id;
    comes_to((second, Via::Http2), redis, &["news"], &id).await.0
}

#[tokio::test]
async fn without_the_right_to_publish_or_to_hear_marks_it_is_said_once_and_a_move_is_a_gap() {
    let redis = Redis::start().await;
    let rights = ["+@pubsub", "+ping", "+hello", "+client", "+info"];
    for (name, more, told) in [
        ("mute", &["&*", "-publish"][..], "refused PUBLISH to ssegate:mark: NOPERM"),
        ("deaf", &["&news"], "refuses SUBSCRIBE to ssegate:mark and ssegate:fleet:*"),
    ] {
        let user = ["ACL", "SETUSER", name, "on", ">secret"];
        redis.command::<String>(&[&user[..], &rights, &["resetchannels"], more].concat()).await;
        let url = redis.url().replace("redis://", &format!("redis://{name}:secret@"));
        let gateways = [
            ready(build(&redis).redis_url(&url)).await,
            ready(build(&redis).redis_url(&url)).await,
        ];
        for _ in 0..2 {
            let read = moved(&redis, &gateways[0], &gateways[1]).await;
            assert_eq!(read, [gap("unknown_id", "news"), "last".to_owned()], "{name}");
        }
        for gateway in &gateways {
            let said = "clients cannot resume at another gateway: ";
            eventually(SOON, "it is said", async || gateway.log().contains(said)).await;
            let log = gateway.log();
            assert_eq!(log.matches(said).count(), 1, "{log}");
            assert!(log.contains(told), "{log}");
            let report = gateway.admin("/readyz?verbose").await.text().await;
            assert!(report.contains(&format!("[!] fleet: {said}")), "{report}");
            assert!(!report.contains("fleet ok") && report.contains("\nready"), "{report}");
        }
    }
    let gateway = start(&redis).await;
    let report = gateway.admin("/readyz?verbose").await.text().await;
    assert!(report.contains("[+] fleet ok: clients can resume at another gateway"), "{report}");
}

#[tokio::test]
async fn what_is_not_signed_with_the_fleet_key_is_ignored() {
    let redis = Redis::start().await;
    let with = |fleet: String| ready(build(&redis).settings(&format!("fleet: {fleet}")));
    let signed =
        [with(format!("{{ key: \"{KEY}\" }}")).await, with(format!("{{ key: \"{KEY}\" }}")).await];
    let other = with(format!("{{ key: \"another {KEY}\" }}")).await;
    let unsigned = with("{}".to_owned()).await;
    let off = with("off".to_owned()).await;
    assert_eq!(moved(&redis, &signed[0], &signed[1]).await, ["last"]);
    for gateway in [&other, &unsigned, &off] {
        let told = [gap("unknown_id", "news"), "last".to_owned()];
        assert_eq!(moved(&redis, &signed[0], gateway).await, told);
        assert_eq!(moved(&redis, gateway, &signed[0]).await, told);
    }
    for (gateway, reason) in
        [(&other, "signature"), (&unsigned, "signed"), (&signed[0], "unsigned")]
    {
        let label = format!("reason=\"{reason}\"");
        gateway.counts("ssegate_fleet_messages_ignored_total", &[&label], 1.0).await;
        gateway.logs("ignored a message between gateways").await;
        let report = gateway.admin("/readyz?verbose").await.text().await;
        let told = "[!] fleet: clients of some gateways at this Redis cannot resume here: ";
        assert!(report.contains(told), "{report}");
    }
    // Whoever can publish, and has not the key, cannot place a mark.
    let run_id: String = redis.command(&["INFO", "server"]).await;
    let run_id = run_id.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap().trim();
    for (message, reason) in [
        ("nonsense".to_owned(), "reason=\"malformed\""),
        (format!("{run_id} {{\"mark\":\"0000000000000001\"}}"), "reason=\"unsigned\""),
        ("0123 {\"mark\":\"0000000000000001\"}".to_owned(), "reason=\"server\""),
        (
            format!("{run_id} {} {{\"mark\":\"0000000000000001\"}}", "0".repeat(64)),
            "reason=\"signature\"",
        ),
    ] {
        redis.publish("ssegate:mark", message).await;
        signed[0].counts("ssegate_fleet_messages_ignored_total", &[reason], 1.0).await;
    }
}

#[tokio::test]
async fn an_id_that_no_gateway_gave_is_unknown_and_harms_nothing() {
    let redis = Redis::start().await;
    let gateways = [start(&redis).await, start(&redis).await];
    let mut stream = open(&gateways[0], Via::Http1, &["news"]).await;
    let _follower = open(&gateways[1], Via::Http1, &["news", "other"]).await;
    redis.publish("news", "first").await;
    let id = stream.next_event().await.id;
    let parts: Vec<&str> = id.splitn(3, '-').collect();
    let [run, number, name] = parts[..] else { panic!("{id}") };
    let flipped = if name.starts_with('A') { "B" } else { "A" };
    for forged in [
        format!("zzzzzz-{number}"),
        format!("zzzzzz-{number}-{flipped}{}", &name[1..]),
        format!("zzzzzz-{number}-{}", &name[..22]),
        format!("zzzzzz-{number}-{name}A"),
        format!("{run}-1844674407370955161"),
        format!("zzzzzz-{number}-{}", "A".repeat(23)),
        format!("{run}-18446744073709551616-{name}"),
        "x".repeat(200),
    ] {
        let (read, _stream) =
            comes_to((&gateways[1], Via::Http2), &redis, &["news"], &forged).await;
        assert!(read[0].starts_with("gap {\"reason\":\"unknown_id\""), "{forged}: {read:?}");
    }
    // The id of a stream of other channels says nothing about these.
    redis.publish("other", "since then").await;
    let (read, _stream) = comes_to((&gateways[1], Via::Http1), &redis, &["other"], &id).await;
    assert!(read[0].starts_with("gap {\"reason\":\"unknown_id\""), "{read:?}");
    let (read, _stream) = comes_to((&gateways[1], Via::Http1), &redis, &["news"], &id).await;
    assert!(read.iter().all(|data| data == "last"), "{read:?}");
}

#[tokio::test]
async fn a_gateway_that_is_late_repeats_nothing_and_loses_nothing() {
    let redis = Redis::start().await;
    let relay = Relay::to(format!("127.0.0.1:{}", redis.port()).parse().unwrap()).await;
    let late = ready(build(&redis).redis_url(&format!("redis://{}", relay.address()))).await;
    let early = start(&redis).await;
    let _follower = open(&late, Via::Http1, &["news"]).await;
    let mut stream = open(&early, Via::Http2, &["news"]).await;
    for number in 0..5 {
        redis.publish("news", format!("before {number}")).await;
        assert_eq!(stream.next_event().await.data, format!("before {number}"));
    }
    let latency = Duration::from_secs(3);
    relay.slow_down(Some(Slowness { latency, bytes_per_second: u32::MAX }));
    for number in 0..5 {
        redis.publish("news", format!("now {number}")).await;
        assert_eq!(stream.next_event().await.data, format!("now {number}"));
    }
    // Both come before the late one has heard what the client has seen.
    let id = stream.last_id().to_owned();
    let (mut first, mut second) = (
        late.resume(Via::Http1, &target(&["news"]), &id).await,
        late.resume(Via::Http2, &target(&["news"]), &id).await,
    );
    redis.publish("news", "next").await;
    redis.publish("news", "last").await;
    for stream in [&mut first, &mut second] {
        assert_eq!(stream.read_until("last").await, ["next", "last"]);
    }
}

#[tokio::test]
async fn no_client_gets_what_gateways_publish_for_each_other_and_none_can_end_it() {
    let redis = Redis::start().await;
    let gateways = [start(&redis).await, start(&redis).await];
    let fleets: Vec<String> = redis.command(&["PUBSUB", "CHANNELS", "ssegate:fleet:*"]).await;
    assert_eq!(fleets.len(), 2);
    for name in ["ssegate:*", "ssegate:mark", &fleets[0]] {
        let response = gateways[0].get(&target(&[name])).await;
        assert_eq!(response.status, 400, "{name}");
    }
    let mut curious = gateways[0].subscribe(&target(&["ne*", "ss*"])).await;
    for _ in 0..3 {
        assert_eq!(moved(&redis, &gateways[0], &gateways[1]).await, ["last"]);
        assert_eq!(moved(&redis, &gateways[1], &gateways[0]).await, ["last"]);
    }
    redis.publish("news", "the end").await;
    let read = curious.read_until("the end").await;
    assert!(read.iter().all(|data| ["first", "last", "the end"].contains(&&**data)), "{read:?}");
    drop(curious);
    let left = async || gateways[0].metrics().await.sum("ssegate_streams", &[]) == 0.0;
    eventually(SOON, "it has left", left).await;
    assert_eq!(redis.listeners("ssegate:mark").await, 2);
    assert_eq!(moved(&redis, &gateways[0], &gateways[1]).await, ["last"]);
}

#[tokio::test]
async fn a_node_of_a_cluster_has_no_fleet() {
    let redis = Redis::cluster_node().await;
    let gateway = start(&redis).await;
    gateway.logs("a Redis Cluster has no one order of messages over its channels").await;
    let mut stream = gateway.subscribe(&target(&["news"])).await;
    redis.publish("news", "still there").await;
    let event = stream.next_event().await;
    assert_eq!((event.data.as_str(), is_named(&event.id)), ("still there", false));
}

#[tokio::test]
async fn a_client_of_the_time_before_an_update_is_told_a_gap() {
    let redis = Redis::start().await;
    let gateway = start(&redis).await;
    let _follower = open(&gateway, Via::Http1, &["news"]).await;
    let (read, _stream) = comes_to((&gateway, Via::Http1), &redis, &["news"], "abcdef-17").await;
    assert_eq!(read, [gap("unknown_id", "news"), "last".to_owned()]);
}

#[tokio::test]
async fn what_another_gateway_no_longer_keeps_has_expired_there() {
    let redis = Redis::start().await;
    let routes = ROUTES.replace("patterns: true", "history: { count: 2 }");
    let one = ready(Gateway::build(&redis).routes(&routes)).await;
    let two = ready(Gateway::build(&redis).routes(&routes)).await;
    let channels = ["news"];
    let mut reader = open(&one, Via::Http1, &channels).await;
    let mut follower = open(&two, Via::Http1, &channels).await;
    redis.publish("news", "0").await;
    let id = reader.next_event().await.id;
    drop(reader);
    for number in 1..=5 {
        redis.publish("news", number.to_string()).await;
    }
    follower.read_until("5").await;
    // The id is one of this fleet, and older than what is kept here.
    let (read, _stream) = comes_to((&two, Via::Http1), &redis, &channels, &id).await;
    assert_eq!(read, [&*gap("expired", "news"), "last"]);
    assert_eq!(clients(&two, "gap").await, 1.0);
}
