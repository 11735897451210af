//! Redis whose master is named by sentinels: a failover is one gap, and closes no stream.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{
    EventStream, Gateway, GatewayBuilder, Pem, Program, Redis, SOON, Sentinel, SentinelSet, Via,
    eventually, free_port,
};

/// Sentinels notice within a second that a master is down; then they vote, and each copy of Redis takes its role.
const FAILOVER: Duration = SOON.saturating_mul(4);

fn build(set: &SentinelSet, url: &str) -> GatewayBuilder {
    Gateway::build(&set.servers[0]).redis_url(url)
}

async fn start(set: &SentinelSet) -> Gateway {
    let gateway = build(set, &set.url("", "")).start().await;
    gateway.becomes(200, SOON).await;
    gateway
}

fn gap(channel: &str) -> String {
    format!("gap {{\"reason\":\"redis_away\",\"channels\":[\"{channel}\"]}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_of_a_master_that_lives_on_is_one_gap_and_closes_nothing() {
    let set = SentinelSet::start(&[]).await;
    let gateway = start(&set).await;
    let mut stream = gateway.subscribe_via(Via::H2c, "/events?channel=news").await;
    let before = set.master().await;
    set.servers[before].publish("news", "first").await;
    assert_eq!(stream.next_event().await.data, "first");
    set.fail_over().await;
    let after = set.has_moved_from(before).await;
    let read = stream.read_until_heard(&set.servers[after], "news").await;
    assert_eq!(read, [gap("news"), "last".to_owned()]);
    // Nobody is left at the server that was the master, which goes on as a replica.
    let is_left = async || set.servers[before].listeners("news").await == 0;
    eventually(SOON, "no connection is left behind", is_left).await;
    gateway.becomes(200, SOON).await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_gaps_total", &["reason=\"redis_away\""]), 1.0);
    assert_eq!(metrics.sum("ssegate_streams_closed_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_killed_is_left_for_its_replica() {
    let mut set = SentinelSet::start(&[]).await;
    let gateway = start(&set).await;
    let mut stream = gateway.subscribe_via(Via::Http1, "/events?channel=news").await;
    let before = set.master().await;
    set.servers[before].kill();
    let after = set.has_moved_from(before).await;
    let read = stream.read_until_heard(&set.servers[after], "news").await;
    assert_eq!(read, [gap("news"), "last".to_owned()]);
    gateway.becomes(200, SOON).await;
}

/// The demoted master still takes commands for a while: a connection to it must not be kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_hangs_is_left_for_its_replica() {
    let set = SentinelSet::start(&[]).await;
    let gateway = start(&set).await;
    let mut stream = gateway.subscribe_via(Via::Http1, "/events?channel=news").await;
    let before = set.master().await;
    set.servers[before].signal(Signal::STOP);
    let after = set.has_moved_from(before).await;
    let read = stream.read_until_heard(&set.servers[after], "news").await;
    assert_eq!(read, [gap("news"), "last".to_owned()]);
    // Its connections were left, and not given up one after the other because they were silent.
    let metrics = gateway.metrics().await;
    assert!(metrics.sum("ssegate_redis_errors_total", &["kind=\"failover\""]) >= 1.0);
    set.servers[before].signal(Signal::CONT);
    let is_replica = async || set.servers[before].role().await.as_deref() == Some("slave");
    eventually(FAILOVER, "the old master becomes a replica", is_replica).await;
    let read = stream.read_until_heard(&set.servers[after], "news").await;
    assert_eq!(read.last().map(String::as_str), Some("last"));
    assert!(read.iter().all(|data| data == "last"), "nothing was missed: {read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_loses_nothing_of_streams() {
    let set = SentinelSet::start(&[]).await;
    let gateway = build(&set, &set.url("", "")).streams().start().await;
    gateway.becomes(200, SOON).await;
    let before = set.master().await;
    let mut stream = gateway.subscribe_via(Via::H2c, "/events?channel=log").await;
    set.servers[before].add("log", "one").await;
    assert_eq!(stream.next_event().await.data, "one");
    // The replica has it, too.
    let acknowledged: u64 = set.servers[before].command(&["WAIT", "1", "5000"]).await;
    assert_eq!(acknowledged, 1);
    set.fail_over().await;
    let after = set.has_moved_from(before).await;
    for data in ["two", "three"] {
        set.servers[after].add("log", data).await;
        let event = tokio::time::timeout(FAILOVER, stream.next_event()).await.expect("an event");
        assert_eq!((event.name.as_str(), event.data.as_str()), ("message", data));
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_gaps_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_sentinels_events_come_and_the_operator_is_told() {
    let mut set = SentinelSet::start(&[]).await;
    let gateway = start(&set).await;
    let mut stream = gateway.subscribe_via(Via::Http1, "/events?channel=news").await;
    let master = set.master().await;
    let says = async |text: &str| {
        let report = async || gateway.admin("/readyz?verbose").await.text().await.contains(text);
        eventually(FAILOVER, text, report).await;
    };
    set.kill_sentinel(0);
    says("[!] sentinels: 1 of 3 cannot be reached; the others are asked: 127.0.0.1:").await;
    set.kill_sentinel(1);
    set.kill_sentinel(2);
    says("[!] sentinels: 3 of 3 cannot be reached; a failover would go unseen").await;
    set.servers[master].publish("news", "still here").await;
    assert_eq!(stream.next_event().await.data, "still here");
    // A connection that is lost now is opened where Redis was.
    set.servers[master].command::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    let read = stream.read_until_heard(&set.servers[master], "news").await;
    assert_eq!(read, [gap("news"), "last".to_owned()]);
    gateway.becomes(200, SOON).await;
    for at in 0..3 {
        set.restart_sentinel(at);
    }
    let is_well = async || {
        let report = gateway.admin("/readyz?verbose").await.text().await;
        !report.contains("sentinels:")
    };
    eventually(FAILOVER, "all are followed again", is_well).await;
}

/// Sentinels with a password of their own, and a master with another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_kinds_of_passwords_and_every_command_are_taken() {
    let set =
        SentinelSet::start(&["requirepass of-sentinels", "sentinel sentinel-pass of-sentinels"])
            .await;
    let master = set.master().await;
    let user = ["ACL", "SETUSER", "gate", "on", ">secret", "~*", "&*", "+@all"];
    set.servers[master].command::<String>(&user).await;
    let url = set.url("gate:secret@", "/0?sentinel_password=of-sentinels");
    let gateway = build(&set, &url).start().await;
    gateway.becomes(200, SOON).await;
    let mut stream = gateway.subscribe_via(Via::Http1, "/events?channel=news").await;
    let run = async |words: &[&str]| {
        let program = Program::new(env!("CARGO_BIN_EXE_ssegate"));
        let output = program.args(words.iter().copied()).output(SOON).await;
        (output.code(), format!("{}{}", output.stdout, output.stderr))
    };
    let (code, said) = run(&["pub", "--redis", &url, "news", "hello"]).await;
    assert_eq!((code, said.as_str()), (0, "1 receiver"));
    assert_eq!(stream.next_event().await.data, "hello");
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("gateway.yaml");
    let yaml = format!(
        "listeners: [{{ address: 127.0.0.1:0 }}]\nredis: {{ url: \"{url}\" }}\n\
         routes: [{{ path: /events, events: {{ channels: [news] }} }}]\n"
    );
    std::fs::write(&file, yaml).unwrap();
    let (code, said) = run(&["check", "--connect", "-c", file.to_str().unwrap()]).await;
    let told = format!("the master is 127.0.0.1:{}", set.servers[master].port());
    assert_eq!((code, said.contains(&told)), (0, true), "{said}");
    for (url, told) in [
        (set.url("gate:secret@", ""), "NOAUTH"),
        (set.url("gate:wrong@", "/0?sentinel_password=of-sentinels"), "invalid"),
        (
            url.replace("/mymaster", "/other"),
            "no sentinel knows a master \"other\"; check the name in redis.url",
        ),
    ] {
        let (code, said) = run(&["pub", "--redis", &url, "news", "hello"]).await;
        assert_eq!((code, said.contains(told)), (1, true), "{told}: {said}");
        assert!(!said.contains("secret@") && !said.contains("of-sentinels"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_that_is_behind_misleads_nobody() {
    let set = SentinelSet::start(&[]).await;
    let before = set.master().await;
    // It watches the replica as if it were the master, and knows no other sentinel.
    let port = set.servers[1 - before].port();
    set.misled(0, port).await;
    let gateway = start(&set).await;
    let mut stream = gateway.subscribe_via(Via::Http1, "/events?channel=news").await;
    set.servers[before].publish("news", "from the master").await;
    assert_eq!(stream.next_event().await.data, "from the master");
    assert_eq!(set.servers[1 - before].listeners("news").await, 0);
}

/// Two gateways: a failover is a gap, also for who comes back to the other one; then clients move as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_resume_at_another_gateway_behind_a_failover() {
    let set = SentinelSet::start(&[]).await;
    let gateways = [start(&set).await, start(&set).await];
    let before = set.master().await;
    let mut stream = gateways[0].subscribe_via(Via::Http1, "/events?channel=news").await;
    let mut follower = gateways[1].subscribe_via(Via::Http1, "/events?channel=news").await;
    set.servers[before].publish("news", "first").await;
    assert_eq!(stream.next_event().await.data, "first");
    assert_eq!(follower.next_event().await.data, "first");
    set.fail_over().await;
    let after = set.has_moved_from(before).await;
    for stream in [&mut stream, &mut follower] {
        let read = stream.read_until_heard(&set.servers[after], "news").await;
        assert_eq!(read.first(), Some(&gap("news")));
        assert!(read[1..].iter().all(|data| data == "last"), "{read:?}");
    }
    for gateway in &gateways {
        gateway.becomes(200, SOON).await;
    }
    // With a name of the new server, as soon as both have heard a mark there since they are subscribed.
    let name = |stream: &EventStream| stream.last_id().splitn(3, '-').nth(2).map(str::to_owned);
    let mut number = 0;
    // Once at least: of what was published until both had their gap, one may have read more.
    while number == 0 || name(&stream).is_none() || name(&stream) != name(&follower) {
        number += 1;
        set.servers[after].publish("news", number.to_string()).await;
        for stream in [&mut stream, &mut follower] {
            while stream.next_event().await.data != number.to_string() {}
        }
    }
    let id = stream.last_id().to_owned();
    drop(stream);
    set.servers[after].publish("news", "missed").await;
    let mut stream = gateways[1].resume(Via::H2c, "/events?channel=news", &id).await;
    assert_eq!(stream.next_event().await.data, "missed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_and_master_are_reached_over_tls() {
    let dir = tempfile::TempDir::new().unwrap();
    let pem = Pem::write(dir.path());
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let options = |port: u16| {
        vec![
            format!("tls-port {port}"),
            format!("tls-cert-file {}", path(&pem.certificate)),
            format!("tls-key-file {}", path(&pem.key)),
            format!("tls-ca-cert-file {}", path(&pem.authority)),
            "tls-auth-clients no".to_owned(),
            "tls-replication yes".to_owned(),
        ]
    };
    let [of_redis, of_sentinel] = [free_port(), free_port()];
    let arguments: Vec<String> = options(of_redis)
        .iter()
        .flat_map(|line| {
            let (key, value) = line.split_once(' ').unwrap();
            [format!("--{key}"), value.to_owned()]
        })
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let redis = Redis::with(&arguments).await;
    let lines = options(of_sentinel);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let _sentinel = Sentinel::start(of_redis, &lines);
    let url = format!("rediss+sentinel://localhost:{of_sentinel}/mymaster");
    let trusting = Gateway::build(&redis).redis_url(&url);
    let trusting = trusting.env("SSL_CERT_FILE", &path(&pem.authority)).start().await;
    let insecure = Gateway::build(&redis).redis_url(&format!("{url}#insecure")).start().await;
    for gateway in [trusting, insecure] {
        gateway.becomes(200, SOON).await;
        let mut stream = gateway.subscribe_via(Via::Http1, "/events?channel=news").await;
        redis.publish("news", "hello").await;
        assert_eq!(stream.next_event().await.data, "hello");
    }
    let other = tempfile::TempDir::new().unwrap();
    let other = Pem::write(other.path());
    let distrusting = Gateway::build(&redis).redis_url(&url);
    let distrusting = distrusting.env("SSL_CERT_FILE", &path(&other.authority)).start().await;
    distrusting.logs("no sentinel can be used: localhost:").await;
    assert_eq!(distrusting.readiness().await, 503);
}
