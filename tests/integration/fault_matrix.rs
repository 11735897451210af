//! The fault matrix of Redis: each row is a fault, put upon a real redis-server, and what a user sees
//! of it. Open streams stay, keep-alives go on, Redis Streams lose nothing, what is published gets one
//! `gap`, and `/readyz` says at every moment what is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::support::{EventStream, Gateway, Redis, Relay, SOON, Slowness, Via, eventually, within};

/// One stream of each source, and keep-alives that are soon to be seen.
struct Pair {
    gateway: Gateway,
    published: EventStream,
    added: EventStream,
}

const ROUTES: &str = "\
- path: /published/{channel}
  events: { channels: [\"{channel}\"], keep_alive: 1s }
- path: /added/{channel}
  events: { channels: [\"{channel}\"], source: stream, keep_alive: 1s }
";

impl Pair {
    async fn open(redis: &Redis, url: &str) -> Self {
        Self::built(Gateway::build(redis).redis_url(url).routes(ROUTES)).await
    }

    async fn built(builder: crate::support::GatewayBuilder) -> Self {
        let gateway = builder.start().await;
        let published = gateway.subscribe_via(Via::Http2, "/published/p").await;
        let added = gateway.subscribe_via(Via::Http2, "/added/s").await;
        gateway.counts("ssegate_redis_stream_connections", &[], 1.0).await;
        Self { gateway, published, added }
    }

    /// Both hear what comes now, and nothing before it.
    async fn hears(&mut self, redis: &Redis, text: &str) {
        redis.publish("p", text).await;
        redis.add("s", text).await;
        self.heard(text).await;
    }

    async fn heard(&mut self, text: &str) {
        assert_eq!(self.published.next_event().await.data, text);
        assert_eq!(self.added.next_event().await.data, text);
    }

    /// What was published may be gone, and its stream is told so once.
    async fn is_told_of_the_gap(&mut self) {
        let gap = self.published.next_event().await;
        assert_eq!((gap.name.as_str(), gap.data.contains("redis_away")), ("gap", true), "{gap:?}");
    }

    /// One gap is told, and from then on all is as before.
    async fn goes_on_after_the_gap(&mut self, redis: &Redis) {
        self.is_told_of_the_gap().await;
        self.hears(redis, "after").await;
        self.ends_well(1.0).await;
    }

    /// Both streams live.
    async fn is_kept_alive(&mut self) {
        self.published.next_comment().await;
        self.added.next_comment().await;
    }

    async fn becomes(&self, status: u16) {
        self.gateway.becomes(status, SOON).await;
    }

    async fn errors(&self, kind: &str) -> f64 {
        let label = format!("kind=\"{kind}\"");
        self.gateway.metrics().await.sum("ssegate_redis_errors_total", &[&label])
    }

    /// Nobody was cut off, and no gap was told but of these.
    async fn ends_well(&self, gaps: f64) {
        let metrics = self.gateway.metrics().await;
        assert_eq!(metrics.sum("ssegate_gaps_total", &[]), gaps);
        assert_eq!(metrics.sum("ssegate_streams_closed_total", &[]), 0.0);
        assert_eq!(metrics.sum("ssegate_redis_connected", &[]), 1.0);
        assert_eq!(metrics.sum("ssegate_redis_stream_connections", &[]), 1.0);
        self.gateway.becomes(200, SOON).await;
    }
}

const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

async fn away_for(down: Duration) {
    let mut redis = Redis::with(&DURABLE).await;
    let mut pair = Pair::open(&redis, &redis.url()).await;
    pair.hears(&redis, "before").await;

    redis.kill();
    pair.becomes(503).await;
    // Each connection finds out by itself.
    for name in ["ssegate_redis_connected", "ssegate_redis_stream_connections"] {
        let is_away = async || pair.gateway.metrics().await.sum(name, &[]) == 0.0;
        eventually(SOON, &format!("{name} is 0"), is_away).await;
    }
    let back = Instant::now() + down;
    while Instant::now() < back {
        pair.is_kept_alive().await;
    }
    redis.restart().await;
    // Before anybody listens again: gone where it is published, kept where it is added.
    redis.add("s", "meanwhile").await;
    pair.becomes(200).await;
    assert_eq!(pair.added.next_event().await.data, "meanwhile");
    pair.goes_on_after_the_gap(&redis).await;
}

#[tokio::test]
async fn row_1_redis_restarts_and_is_down_for_two_seconds() {
    away_for(Duration::from_secs(2)).await;
}

#[tokio::test]
#[ignore = "long: run by tests/run --full"]
async fn long_row_2_redis_is_down_for_a_minute() {
    away_for(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn row_3_connections_are_killed_twenty_times() {
    let redis = Redis::start().await;
    let mut pair = Pair::open(&redis, &redis.url()).await;
    for cut in 0..20 {
        let _killed: u64 = redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        // Those that read streams are ordinary clients; this one stays.
        let _killed: u64 =
            redis.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        redis.add("s", &cut.to_string()).await;
        pair.is_told_of_the_gap().await;
        redis.publish("p", cut.to_string()).await;
        pair.heard(&cut.to_string()).await;
    }
    pair.becomes(200).await;
    pair.ends_well(20.0).await;
}

#[tokio::test]
async fn row_4_a_path_that_carries_nothing_is_found() {
    let redis = Redis::start().await;
    let relay = Relay::to(SocketAddr::from(([127, 0, 0, 1], redis.port()))).await;
    let mut pair = Pair::open(&redis, &format!("redis://{}", relay.address())).await;
    pair.hears(&redis, "before").await;

    let start = Instant::now();
    relay.stall();
    redis.add("s", "meanwhile").await;
    // The gateway sends a PING after five seconds of silence, and waits five more for the reply. That is most
    // of the time that a test waits for one event, so this one waits longer.
    let found = within(4 * SOON, "it is found", pair.added.event()).await;
    assert_eq!(found.expect("the stream goes on").data, "meanwhile");
    pair.is_told_of_the_gap().await;
    assert!(start.elapsed() > Duration::from_secs(4), "it was asked twice before it was given up");
    pair.hears(&redis, "after").await;
    pair.ends_well(1.0).await;
}

#[tokio::test]
async fn row_5_a_slow_path_delays_and_nothing_more() {
    let redis = Redis::start().await;
    let relay = Relay::to(SocketAddr::from(([127, 0, 0, 1], redis.port()))).await;
    let mut pair = Pair::open(&redis, &format!("redis://{}", relay.address())).await;
    let latency = Duration::from_millis(500);
    relay.slow_down(Some(Slowness { latency, bytes_per_second: 100_000 }));
    // Three seconds of it.
    let payload = |number: usize| format!("{number}:{}", "x".repeat(1000));
    for number in 0..150 {
        redis.publish("p", payload(number)).await;
        redis.add("s", &payload(number)).await;
    }
    for number in 0..150 {
        pair.heard(&payload(number)).await;
    }
    relay.slow_down(None);
    pair.hears(&redis, "after").await;
    let metrics = pair.gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_redis_reconnects_total", &[]), 0.0);
    assert_eq!(pair.gateway.said("lost the connection to Redis while reading streams").count(), 0);
    let empty = async || pair.gateway.metrics().await.sum("ssegate_queue_bytes", &[]) == 0.0;
    eventually(SOON, "nothing waits", empty).await;
    pair.ends_well(0.0).await;
}

#[tokio::test]
async fn row_6_a_gateway_that_stands_still_is_cut_off_and_recovers() {
    let limit = ["--client-output-buffer-limit", "pubsub", "8mb", "2mb", "5"];
    let redis = Redis::with(&limit).await;
    let builder = Gateway::build(&redis)
        .settings("sse: { queue: { bytes: 64MiB } }")
        .routes(&ROUTES.replace("keep_alive: 1s", "keep_alive: 60s"));
    let mut pair = Pair::built(builder).await;
    let before = pair.gateway.resident_bytes();

    pair.gateway.signal(Signal::STOP);
    let stopped = Instant::now();
    let payload = "x".repeat(1024);
    for _ in 0..40 {
        redis.publish_all("p", (0..500).map(|_| &payload)).await;
        redis.add_all("s", (0..50).map(|_| &payload)).await;
    }
    let cut = async || redis.listeners("p").await == 0;
    eventually(SOON, "redis-server has cut it off", cut).await;
    tokio::time::sleep_until(stopped + Duration::from_secs(5)).await;
    pair.gateway.signal(Signal::CONT);
    let back = async || redis.listeners("p").await == 1;
    eventually(SOON, "it listens again", back).await;
    // It has seen the end of the connection, and has not waited for an answer on it.
    assert_eq!(pair.errors("timeout").await, 0.0);

    // All that was added, and the gap of what was published.
    for _ in 0..2000 {
        assert!(pair.added.next_event().await.data == payload);
    }
    let mut heard = 0;
    let gap = loop {
        let event = pair.published.next_event().await;
        if event.name == "gap" {
            break event;
        }
        heard += 1;
    };
    assert!(gap.data.contains("redis_away") && heard < 20_000, "{heard} heard");
    pair.becomes(200).await;
    pair.hears(&redis, "after").await;
    let grown = pair.gateway.resident_bytes().saturating_sub(before);
    assert!(grown <= 64 << 20, "{} MiB more", grown >> 20);
    pair.ends_well(1.0).await;
}

#[tokio::test]
async fn row_17_a_stream_that_was_trimmed_past_the_id_is_told() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).streams().start().await;
    let mut ids = Vec::new();
    for number in 0..30 {
        let (id, number) = (format!("{}-0", number + 1), number.to_string());
        ids.push(redis.command::<String>(&["XADD", "s", &id, "data", &number]).await);
    }
    redis.command::<u64>(&["XTRIM", "s", "MAXLEN", "20"]).await;
    for (at, id) in ids.iter().enumerate() {
        let mut back = gateway.resume(Via::Http1, "/events/s", id).await;
        let mut first = at + 1;
        // The one before the first that is left may have been the last that is gone; nobody knows.
        if at < 10 {
            let gap = back.next_event().await;
            assert_eq!((gap.name.as_str(), gap.data.contains("trimmed")), ("gap", true), "{gap:?}");
            first = 10;
        }
        for number in first..30 {
            assert_eq!(back.next_event().await.data, number.to_string(), "after {at}");
        }
        back.ready().await;
        let last = back.last_id().to_owned();
        drop(back);
        let mut again = gateway.resume(Via::Http1, "/events/s", &last).await;
        again.ready().await;
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_gaps_total", &["reason=\"trimmed\""]), 10.0);

    // Trimmed before it was read: an entry that nobody could see.
    let mut live = gateway.subscribe("/events/s").await;
    let both = "redis.call('XADD', KEYS[1], '*', 'data', 'lost')
        redis.call('XADD', KEYS[1], 'MAXLEN', '1', '*', 'data', 'seen')";
    redis.command::<()>(&["EVAL", both, "1", "s"]).await;
    assert_eq!(live.next_event().await.data, "seen");
    let gap = live.next_event().await;
    assert_eq!((gap.name.as_str(), gap.data.contains("trimmed")), ("gap", true), "{gap:?}");
}

#[tokio::test]
async fn row_18_a_stream_that_is_begun_anew_with_lower_ids_is_told() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).streams().start().await;
    let mut live = gateway.subscribe("/events/s").await;
    let mut other = gateway.subscribe("/events?channel=s&channel=t").await;
    redis.add("s", "old").await;
    for stream in [&mut live, &mut other] {
        assert_eq!(stream.next_event().await.data, "old");
    }
    let old = live.last_id().to_owned();
    redis.command::<String>(&["FLUSHALL"]).await;
    redis.command::<String>(&["XADD", "s", "1-1", "data", "new"]).await;
    // Although nothing more is added to it.
    for stream in [&mut live, &mut other] {
        let gap = stream.next_event().await;
        assert_eq!((gap.name.as_str(), gap.data.contains("reset")), ("gap", true), "{gap:?}");
        assert_eq!(stream.next_event().await.data, "new");
    }
    assert_eq!(live.last_id(), "1-1");
    let mut back = gateway.resume(Via::Http2, "/events/s", &old).await;
    let gap = back.next_event().await;
    assert!(gap.data.contains("reset"), "{gap:?}");
    assert_eq!(back.next_event().await.data, "new");
    redis.command::<String>(&["XADD", "s", "1-2", "data", "next"]).await;
    for stream in [&mut live, &mut other, &mut back] {
        assert_eq!(stream.next_event().await.data, "next");
    }
}

/// A user of the gateway's own, who may do anything.
async fn with_user(redis: &Redis) -> Pair {
    redis.command::<()>(&["ACL", "SETUSER", "gateway", "on", ">secret", "~*", "&*", "+@all"]).await;
    let url = redis.url().replace("redis://", "redis://gateway:secret@");
    Pair::open(redis, &url).await
}

#[tokio::test]
async fn row_19_permissions_that_are_taken_away_and_given_back() {
    let redis = Redis::start().await;
    let mut pair = with_user(&redis).await;
    pair.hears(&redis, "before").await;
    redis.command::<()>(&["ACL", "SETUSER", "gateway", "resetchannels", "resetkeys"]).await;
    pair.becomes(503).await;
    pair.is_kept_alive().await;
    redis.add("s", "meanwhile").await;
    let is_counted = async || pair.errors("permission").await >= 2.0;
    eventually(SOON, "it is counted", is_counted).await;
    // A rate has a time; where that is longer than was meant, there may be more.
    let (lines, begun) = (pair.gateway.log().lines().count(), Instant::now());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let lines = (pair.gateway.log().lines().count() - lines) as f64;
    let took = begun.elapsed().as_secs_f64();
    assert!(lines <= 2.0 * took, "{lines} lines in {took} s");

    redis.command::<()>(&["ACL", "SETUSER", "gateway", "allchannels", "allkeys"]).await;
    pair.becomes(200).await;
    // What it was allowed to hear no longer it may have missed.
    assert_eq!(pair.added.next_event().await.data, "meanwhile");
    pair.is_told_of_the_gap().await;
    pair.hears(&redis, "after").await;
}

#[tokio::test]
async fn row_19_a_password_that_is_changed_and_changed_back() {
    let redis = Redis::start().await;
    let mut pair = with_user(&redis).await;
    redis.command::<()>(&["ACL", "SETUSER", "gateway", "resetpass", ">other"]).await;
    redis.command::<u64>(&["CLIENT", "KILL", "USER", "gateway"]).await;
    pair.becomes(503).await;
    let is_counted = async || pair.errors("auth").await >= 2.0;
    eventually(SOON, "it is counted", is_counted).await;
    redis.add("s", "meanwhile").await;
    pair.is_kept_alive().await;
    let log = pair.gateway.log();
    assert!(!log.contains("secret"), "{log}");

    redis.command::<()>(&["ACL", "SETUSER", "gateway", ">secret"]).await;
    pair.becomes(200).await;
    assert_eq!(pair.added.next_event().await.data, "meanwhile");
    pair.goes_on_after_the_gap(&redis).await;
}

#[tokio::test]
async fn row_19_a_redis_that_is_loading_its_data() {
    let mut redis = Redis::with(&["--appendonly", "yes", "--aof-use-rdb-preamble", "no"]).await;
    redis.add_all("s", (0..3000).map(|number| number.to_string())).await;
    let mut pair = Pair::open(&redis, &redis.url()).await;
    pair.hears(&redis, "before").await;
    redis.kill();
    // Nine seconds of it, in which it is asked once a second.
    redis.restart_with(&["--key-load-delay", "3000"]).await;
    let is_counted = async || pair.errors("busy").await >= 1.0;
    eventually(SOON, "it was loading when it was asked", is_counted).await;
    pair.becomes(200).await;
    pair.goes_on_after_the_gap(&redis).await;
}

#[tokio::test]
async fn row_19_a_redis_that_has_too_many_clients() {
    let redis = Redis::start().await;
    let mut pair = Pair::open(&redis, &redis.url()).await;
    pair.hears(&redis, "before").await;
    redis.command::<()>(&["CONFIG", "SET", "maxclients", "1"]).await;
    redis.command::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    redis.command::<u64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    pair.becomes(503).await;
    let is_counted = async || pair.errors("busy").await >= 2.0;
    eventually(SOON, "it is counted", is_counted).await;
    redis.add("s", "meanwhile").await;
    redis.command::<()>(&["CONFIG", "SET", "maxclients", "1000"]).await;
    pair.becomes(200).await;
    assert_eq!(pair.added.next_event().await.data, "meanwhile");
    pair.goes_on_after_the_gap(&redis).await;
}

#[tokio::test]
async fn row_19_a_replica_that_may_only_be_read() {
    let master = Redis::start().await;
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &master.port().to_string()]).await;
    let synced = async || {
        let role: String = replica.command(&["INFO", "replication"]).await;
        role.contains("master_link_status:up")
    };
    eventually(SOON, "the replica has what the master has", synced).await;
    let mut pair = Pair::open(&replica, &replica.url()).await;
    pair.hears(&master, "through the replica").await;
    pair.ends_well(0.0).await;
}

#[tokio::test]
async fn row_19_a_redis_that_is_out_of_memory() {
    let redis = Redis::start().await;
    let mut pair = Pair::open(&redis, &redis.url()).await;
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert!(!redis.try_add(&[("s".to_owned(), "refused".to_owned())]).await);
    redis.publish("p", "heard").await;
    assert_eq!(pair.published.next_event().await.data, "heard");
    let mut late = pair.gateway.subscribe("/added/other").await;
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    redis.add("other", "late").await;
    assert_eq!(late.next_event().await.data, "late");
    pair.hears(&redis, "after").await;
    drop(late);
    pair.is_kept_alive().await;
    pair.gateway.becomes(200, SOON).await;
}

#[tokio::test]
#[ignore = "needs a view of the file system of its own (unshare -m): run by tests/run"]
async fn a_name_that_leads_elsewhere_is_looked_up_again() {
    // A file of names of the gateway's own, in its own view of the file system.
    let dir = tempfile::TempDir::new().unwrap();
    let hosts = dir.path().join("hosts");
    let lead_to = |address: &str| {
        std::fs::write(&hosts, format!("127.0.0.1 localhost\n{address} redis.test\n")).unwrap();
    };
    // An administrator may, and others where the kernel lets them be one in a namespace of their own.
    let may = |flag: &&str| {
        let private = std::process::Command::new("unshare").args([flag, "true"]).output();
        private.is_ok_and(|output| output.status.success())
    };
    let flag = ["-m", "-rm"].into_iter().find(may).expect(
        "missing: the right to mount: run as root (in a container: docker run --cap-add SYS_ADMIN), \
         or sysctl -w kernel.unprivileged_userns_clone=1",
    );
    lead_to("127.0.0.1");
    let mut redis = Redis::with(&DURABLE).await;
    let url = format!("redis://redis.test:{}", redis.port());
    let script = r#"mount --bind "$1" /etc/hosts && shift && exec "$@""#;
    let own_view =
        ["/usr/bin/unshare", flag, "--", "sh", "-c", script, "sh", hosts.to_str().unwrap()];
    let builder = Gateway::build(&redis).redis_url(&url).routes(ROUTES).under(&own_view);
    let mut pair = Pair::built(builder).await;
    pair.hears(&redis, "before").await;
    redis.kill();
    pair.becomes(503).await;
    redis.move_to("127.0.0.2").await;
    lead_to("127.0.0.2");
    pair.becomes(200).await;
    pair.goes_on_after_the_gap(&redis).await;
}

/// Clients come and go, on channels of their own.
async fn churn(gateway: &Arc<Gateway>, path: &str, count: usize) {
    const AT_ONCE: usize = 40;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..AT_ONCE {
        let (gateway, path) = (Arc::clone(gateway), path.to_owned());
        tasks.spawn(async move {
            for number in 0..count / AT_ONCE {
                drop(gateway.subscribe(&format!("/{path}/{task}-{number}")).await);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

async fn churn_leaves_nothing(count: usize) {
    let redis = Redis::start().await;
    let routes = ROUTES.replace("keep_alive: 1s", "linger: 1s");
    let gateway = Arc::new(Gateway::build(&redis).routes(&routes).start().await);
    let empty = async || {
        let channels: Vec<String> = redis.command(&["PUBSUB", "CHANNELS", "[0-9]*"]).await;
        let metrics = gateway.metrics().await;
        channels.is_empty()
            && metrics.sum("ssegate_channels", &[]) == 0.0
            && metrics.sum("ssegate_streams", &[]) == 0.0
    };
    let (mut files, mut bytes) = (0, 0);
    // How much lingers at once differs, and the allocator keeps what that took: the third round is
    // compared with the larger of two as large.
    for round in 0..3 {
        for path in ["published", "added"] {
            churn(&gateway, path, count).await;
        }
        eventually(SOON, "everything is left", empty).await;
        let now = (gateway.open_files(), gateway.resident_bytes());
        if round == 2 {
            assert!(now.0 <= files + 5, "{} files, {files} before", now.0);
            assert!(now.1 <= bytes + (bytes / 10).max(4 << 20), "{} bytes, {bytes} before", now.1);
        }
        (files, bytes) = (files.max(now.0), bytes.max(now.1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_36_clients_that_come_and_go_leave_nothing() {
    churn_leaves_nothing(1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_row_36_a_hundred_thousand_that_come_and_go_leave_nothing() {
    churn_leaves_nothing(50_000).await;
}

/// Comes back so many times while something is published all the time.
async fn race(target: &str, add: bool, times: usize) {
    let redis = Arc::new(Redis::start().await);
    let gateway = Gateway::build(&redis)
        .settings("sse: { history: { count: 100000, bytes: 64MiB } }")
        .routes(ROUTES)
        .start()
        .await;
    let mut stream = gateway.subscribe(target).await;
    let publisher = Arc::clone(&redis);
    let publishing = tokio::spawn(async move {
        for number in 0.. {
            match add {
                true => drop(publisher.add("s", &number.to_string()).await),
                false => drop(publisher.publish("p", number.to_string()).await),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut expected = 0;
    for _ in 0..times {
        for _ in 0..fastrand::usize(1..20) {
            let event = stream.next_event().await;
            assert_eq!((event.name.as_str(), event.data), ("message", expected.to_string()));
            expected += 1;
        }
        let last = stream.last_id().to_owned();
        stream = gateway.resume(Via::Http1, target, &last).await;
    }
    publishing.abort();
    assert_eq!(gateway.metrics().await.sum("ssegate_gaps_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_37_who_comes_back_while_something_is_published_misses_nothing() {
    race("/published/p", false, 100).await;
    race("/added/s", true, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_row_37_who_comes_back_ten_thousand_times_misses_nothing() {
    race("/published/p", false, 10_000).await;
    race("/added/s", true, 10_000).await;
}

#[tokio::test]
#[ignore = "needs libfaketime of the package faketime: run by tests/run"]
async fn row_38_a_clock_that_steps_by_an_hour_changes_nothing() {
    let redis = Redis::start().await;
    let dir = tempfile::TempDir::new().unwrap();
    let clock = dir.path().join("clock");
    std::fs::write(&clock, "+0s").unwrap();
    let builder = Gateway::build(&redis).routes(ROUTES).with_clock(&clock);
    let mut pair = Pair::built(builder).await;
    for step in ["+3600s", "-3600s", "+0s"] {
        std::fs::write(&clock, step).unwrap();
        pair.hears(&redis, step).await;
        pair.is_kept_alive().await;
        let last = pair.added.last_id().to_owned();
        let mut back = pair.gateway.resume(Via::Http1, "/added/s", &last).await;
        back.ready().await;
    }
    let metrics = pair.gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_gaps_total", &[]), 0.0);
    assert_eq!(metrics.sum("ssegate_redis_reconnects_total", &[]), 0.0);
    pair.gateway.logs(r#""timestamp""#).await;
}
