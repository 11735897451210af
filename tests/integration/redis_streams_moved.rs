//! Redis Streams that go on at another server, which lacks something or has something else: a failover to a
//! replica that lagged, a split brain, a server that was restored.

use std::net::SocketAddr;

use crate::support::{Gateway, GatewayBuilder, Redis, Relay, SOON, Via, eventually};

/// Two servers, and a path that leads to one of them.
struct Failover {
    old: Redis,
    new: Redis,
    path: Relay,
}

impl Failover {
    async fn prepare() -> Self {
        let (old, new) = (Redis::start().await, Redis::start().await);
        let path = Relay::to(Self::address(&old)).await;
        Self { old, new, path }
    }

    fn address(redis: &Redis) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], redis.port()))
    }

    fn build(&self) -> GatewayBuilder {
        Gateway::build(&self.old).redis_url(&format!("redis://{}", self.path.address()))
    }

    async fn gateway(&self) -> Gateway {
        let gateway = self.build().streams().start().await;
        gateway.becomes(200, SOON).await;
        gateway
    }

    /// What both servers have of a stream.
    async fn replicated(&self, stream: &str, milliseconds: impl IntoIterator<Item = u64>) {
        for ms in milliseconds {
            add(&self.old, stream, ms, "both").await;
            add(&self.new, stream, ms, "both").await;
        }
    }

    fn fail_over(&self) {
        self.path.move_to(Self::address(&self.new));
    }
}

/// Adds an entry with this id, whose data has it, too.
async fn add(redis: &Redis, stream: &str, ms: u64, by: &str) {
    let data = format!("{by} {ms}");
    redis.command::<String>(&["XADD", stream, &format!("{ms}-0"), "data", &data]).await;
}

fn gap(reason: &str, stream: &str) -> String {
    format!(r#"gap {{"reason":"{reason}","channels":["{stream}"]}}"#)
}

#[tokio::test]
async fn what_the_new_server_lacks_is_told_and_only_what_is_new_there_is_sent() {
    // What only the old one has, and what only the new one has.
    let cases: [(&str, &[u64], &[u64]); 8] = [
        ("lost", &[2000, 2001, 2002], &[]),
        ("above", &[2000, 2001], &[3000, 3001]),
        ("below", &[2001], &[2000]),
        ("around", &[2001], &[2000, 3000]),
        ("between", &[2001, 2003, 2005], &[2000, 2002, 2004]),
        ("equal", &[2000, 2001, 2002], &[2000, 2001, 2002]),
        ("last", &[2001, 2003, 2004], &[2000, 2002, 2004]),
        ("more", &[2000], &[1500, 1501, 1502]),
    ];
    let servers = Failover::prepare().await;
    let gateway = servers.gateway().await;
    let mut streams = Vec::new();
    for (name, lost, new) in cases {
        let target = format!("/events/{name}");
        let mut live = gateway.subscribe(&target).await;
        servers.replicated(name, 1000..1010).await;
        live.read_until("both 1009").await;
        for &ms in lost {
            add(&servers.old, name, ms, "old").await;
        }
        live.read_until(&format!("old {}", lost.last().unwrap())).await;
        for &ms in new {
            add(&servers.new, name, ms, "new").await;
        }
        streams.push(live);
    }
    servers.fail_over();
    for ((name, lost, new), live) in cases.into_iter().zip(&mut streams) {
        let mut expected = vec![gap("rolled_back", name)];
        expected.extend(new.iter().map(|ms| format!("new {ms}")));
        for _ in 0..expected.len() {
            let event = live.next_event().await;
            let told = if event.name == "gap" { format!("gap {}", event.data) } else { event.data };
            assert_eq!(told, expected.remove(0), "{name}");
        }
        add(&servers.new, name, 4000, "new").await;
        assert_eq!(live.read_until("new 4000").await, ["new 4000"], "{name}");

        // Clients that were away: before what was lost, at its end, and behind it. The id of the last one may be
        // that of an entry of the new server.
        let mut expected = vec![gap("rolled_back", name)];
        expected.extend(new.iter().chain([&4000]).map(|ms| format!("new {ms}")));
        let target = format!("/events/{name}");
        let mut from: Vec<(u64, Vec<String>)> = vec![
            (1008, [&["both 1009".to_owned()], &expected[..]].concat()),
            (1009, expected.clone()),
        ];
        from.extend(lost.iter().filter(|ms| !new.contains(ms)).map(|&ms| (ms, expected.clone())));
        for (ms, expected) in from {
            let mut back = gateway.resume(Via::Http1, &target, &format!("{ms}-0")).await;
            let read = back.read_until("new 4000").await;
            assert_eq!(read, expected, "{name} after {ms}");
            back.ready().await;
        }
        // One of the new server.
        let mut back = gateway.resume(Via::Http1, &target, "4000-0").await;
        back.ready().await;
    }
}

#[tokio::test]
async fn a_gateway_that_did_not_follow_the_stream_tells_what_can_be_known() {
    let servers = Failover::prepare().await;
    servers.replicated("s", 1000..1010).await;
    for ms in [2000, 2002] {
        add(&servers.new, "s", ms, "new").await;
    }
    servers.fail_over();
    let gateway = servers.gateway().await;
    for is_followed in [false, true] {
        let follower = match is_followed {
            true => Some(gateway.subscribe("/events/s").await),
            false => None,
        };
        // Another gateway has read 1010 and 2001 from the old server.
        for (id, expected) in [
            ("1010-0", vec![gap("rolled_back", "s"), "new 2000".into(), "new 2002".into()]),
            ("2001-0", vec![gap("rolled_back", "s"), "new 2002".into()]),
            ("1009-0", vec!["new 2000".into(), "new 2002".into()]),
        ] {
            let mut back = gateway.resume(Via::H2c, "/events/s", id).await;
            assert_eq!(back.read_until("new 2002").await, expected, "{id} {is_followed}");
            back.ready().await;
        }
        drop(follower);
    }
    // An entry that was deleted was one of the stream.
    servers.new.command::<u64>(&["XDEL", "s", "2000-0"]).await;
    let mut back = gateway.resume(Via::H2c, "/events/s", "2000-0").await;
    assert_eq!(back.read_until("new 2002").await, ["new 2002"]);
}

#[tokio::test]
async fn later_losses_are_told_after_the_first() {
    let servers = Failover::prepare().await;
    let gateway = servers.gateway().await;
    let names = ["forked", "anew", "same"];
    let mut streams = Vec::new();
    for name in names {
        let mut live = gateway.subscribe(&format!("/events/{name}")).await;
        match name {
            "anew" => add(&servers.old, name, 1009, "both").await,
            _ => servers.replicated(name, 1000..1010).await,
        }
        live.read_until("both 1009").await;
        streams.push(live);
    }
    add(&servers.old, "forked", 2000, "old").await;
    streams[0].read_until("old 2000").await;
    for name in names {
        add(&servers.new, name, 3000, "new").await;
    }
    servers.fail_over();
    for (name, live) in names.into_iter().zip(&mut streams) {
        let mut expected = vec!["new 3000".to_owned()];
        match name {
            "forked" => expected.insert(0, gap("rolled_back", name)),
            "anew" => expected.insert(0, gap("reset", name)),
            _ => {}
        }
        assert_eq!(live.read_until("new 3000").await, expected, "{name}");
    }
    for round in [5000, 6000] {
        for name in names {
            // Trimmed before any gateway can read them.
            let script = "for ms = ARGV[1], ARGV[1] + 49 do redis.call('XADD', KEYS[1], ms .. '-0', \
                'data', ms) end return redis.call('XTRIM', KEYS[1], 'MAXLEN', 2)";
            let words = ["EVAL", script, "1", name, &round.to_string()];
            servers.new.command::<u64>(&words).await;
        }
        for (name, live) in names.into_iter().zip(&mut streams) {
            let trimmed = gap("trimmed", name);
            let read = live.read_until(&trimmed).await;
            assert_eq!(read.len(), 3, "{read:?}");
        }
    }
    // To a third server, which lacks all that was read since.
    let third = Redis::start().await;
    for name in names {
        add(&third, name, 1009, "both").await;
        add(&third, name, 8000, "third").await;
    }
    servers.path.move_to(Failover::address(&third));
    for live in &mut streams {
        let read = live.read_until("third 8000").await;
        assert!(read[0].starts_with("gap"), "{read:?}");
    }
}

#[tokio::test]
async fn clients_of_a_quiet_stream_are_told_what_was_lost_however_late_they_come() {
    let servers = Failover::prepare().await;
    // Nothing is kept in the gateway.
    let routes = "- path: /events/{channel}\n  events: { channels: [\"{channel}\"], source: stream, \
        history: { count: 1 } }\n";
    let gateway = servers.build().routes(routes).start().await;
    gateway.becomes(200, SOON).await;
    let mut live = gateway.subscribe("/events/s").await;
    servers.replicated("s", 1000..1010).await;
    add(&servers.old, "s", 2000, "old").await;
    live.read_until("old 2000").await;
    servers.fail_over();
    let told = gap("rolled_back", "s");
    assert_eq!(live.read_until(&told).await, std::slice::from_ref(&told));
    for quiet in [true, false] {
        if !quiet {
            for ms in 3000..3010 {
                add(&servers.new, "s", ms, "new").await;
            }
            live.read_until("new 3009").await;
        }
        for id in ["1009-0", "2000-0", "1007-0"] {
            let mut back = gateway.resume(Via::Http1, "/events/s", id).await;
            let last = if quiet { told.as_str() } else { "new 3009" };
            let read = back.read_until(last).await;
            assert_eq!(read.iter().filter(|data| **data == told).count(), 1, "{id}: {read:?}");
            let mut events: Vec<_> = read.iter().filter(|data| **data != told).collect();
            events.dedup();
            let before = if id == "1007-0" { 2 } else { 0 };
            assert_eq!(events.len(), before + if quiet { 0 } else { 10 }, "{id}: {read:?}");
            back.ready().await;
        }
    }
}

#[tokio::test]
async fn a_gateway_that_may_not_read_ranges_goes_on_and_says_so() {
    let servers = Failover::prepare().await;
    for redis in [&servers.old, &servers.new] {
        let rights = ["~*", "&*", "+@all", "-xrange", "-xrevrange"];
        let user = [&["ACL", "SETUSER", "default", "on", "nopass"][..], &rights].concat();
        redis.command::<String>(&user).await;
    }
    let gateway = servers.gateway().await;
    let mut live = gateway.subscribe("/events/s").await;
    servers.replicated("s", 1000..1002).await;
    live.read_until("both 1001").await;
    servers.fail_over();
    add(&servers.new, "s", 2000, "new").await;
    assert_eq!(live.read_until("new 2000").await, ["new 2000"]);
    gateway.logs("NOPERM").await;
    let is_counted = async || {
        let metrics = gateway.metrics().await;
        metrics.sum("ssegate_redis_errors_total", &["kind=\"permission\""]) > 0.0
    };
    eventually(SOON, "the refusal is counted", is_counted).await;
}
