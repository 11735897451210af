//! Sentinels that do not agree, that name a server which cannot be used, or none: events come from the right master,
//! and the operator is told.

use std::time::Duration;

use crate::support::{
    FakeReply, FakeSentinel, Gateway, Pem, Program, Redis, SOON, Sentinel, Via, eventually,
    free_port,
};

/// Sentinels are asked every ten seconds.
const LOOKED: Duration = SOON.saturating_mul(2);

async fn start(redis: &Redis, fakes: &[FakeSentinel]) -> Gateway {
    let gateway = Gateway::build(redis).redis_url(&FakeSentinel::url(fakes, "")).start().await;
    gateway.becomes(200, SOON).await;
    gateway
}

async fn says(gateway: &Gateway, text: &str) {
    let is_told = async || gateway.admin("/readyz?verbose").await.text().await.contains(text);
    eventually(LOOKED, text, is_told).await;
}

const GAP: &str = "gap {\"reason\":\"redis_away\",\"channels\":[\"news\"]}";

/// The old one runs on, and nobody publishes there any more: who stayed would be deaf.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_master_is_left_for_one_that_cannot_be_used_and_the_operator_is_told() {
    let at_once = ["--repl-diskless-sync-delay", "0"];
    let (old, new) = (Redis::with(&at_once).await, Redis::start().await);
    let user = ["ACL", "SETUSER", "gate", "on", ">secret", "~*", "&*", "+@all"];
    old.command::<String>(&user).await;
    let fakes = FakeSentinel::all([0; 3].map(|epoch| FakeReply::port(old.port(), epoch))).await;
    let url = FakeSentinel::url(&fakes, "gate:secret@");
    let routes = "- path: /events\n  events: { channels: [\"{query.channel}\"] }\n\
                  - path: /log\n  events: { channels: [log], source: stream }\n";
    let gateway = Gateway::build(&old).redis_url(&url).routes(routes).start().await;
    gateway.becomes(200, SOON).await;
    let mut stream = gateway.subscribe_via(Via::Http1, "/events?channel=news").await;
    let mut log = gateway.subscribe_via(Via::Http1, "/log").await;
    old.publish("news", "first").await;
    assert_eq!(stream.next_event().await.data, "first");
    old.add("log", "one").await;
    assert_eq!(log.next_event().await.data, "one");
    // It has everything that the old one had, and lacks the user.
    new.command::<String>(&["REPLICAOF", "127.0.0.1", &old.port().to_string()]).await;
    let acknowledged: u64 = old.command(&["WAIT", "1", "5000"]).await;
    assert_eq!(acknowledged, 1);
    new.command::<String>(&["REPLICAOF", "NO", "ONE"]).await;
    for fake in &fakes {
        fake.now(FakeReply::port(new.port(), 1));
    }
    gateway.becomes(503, SOON).await;
    let why = format!("127.0.0.1:{}: Redis refused: WRONGPASS", new.port());
    says(&gateway, &why).await;
    says(&gateway, &format!("[!] sentinels: 127.0.0.1:{}, which they name, cannot", new.port()))
        .await;
    gateway.logs(&why).await;
    assert_eq!(old.listeners("news").await, 0);
    let is_left = async || {
        let clients: String = old.command(&["CLIENT", "LIST"]).await;
        !clients.contains("user=gate")
    };
    eventually(SOON, "nothing of the gateway is left at the old one", is_left).await;

    new.add("log", "two").await;
    new.command::<String>(&user).await;
    gateway.becomes(200, SOON).await;
    assert_eq!(stream.read_until_heard(&new, "news").await, [GAP, "last"]);
    assert_eq!(log.next_event().await.data, "two");
    says(&gateway, &format!("[+] sentinels ok: mymaster is 127.0.0.1:{}; 3 of 3", new.port()))
        .await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_gaps_total", &[]), 1.0);
    assert_eq!(metrics.sum("ssegate_streams_closed_total", &[]), 0.0);
    gateway.counts("ssegate_redis_master_changes_total", &[], 1.0).await;
    gateway.counts("ssegate_redis_sentinels", &["state=\"well\""], 3.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_count_more_than_the_version_of_a_configuration() {
    let [first, second, lie] = [Redis::start().await, Redis::start().await, Redis::start().await];
    // A number that no failover exceeds, said once.
    let fakes =
        FakeSentinel::all([u64::MAX; 3].map(|epoch| FakeReply::port(first.port(), epoch))).await;
    let gateway = start(&first, &fakes).await;
    let mut stream = gateway.subscribe_via(Via::Http1, "/events?channel=news").await;
    // Two are set up anew, and the third is gone for good, but for its connection.
    fakes[0].now(FakeReply::Unknown);
    fakes[1].now(FakeReply::port(second.port(), 0));
    fakes[2].now(FakeReply::port(second.port(), 0));
    assert_eq!(stream.read_until_heard(&second, "news").await, [GAP, "last"]);
    says(&gateway, "[!] sentinels: 1 of 3 name no master; the others are asked: 127.0.0.1:").await;
    // One of them alone names another master, also with the greatest number: nobody follows it.
    fakes[0].now(FakeReply::port(lie.port(), u64::MAX));
    says(&gateway, &format!(
        "[!] sentinels: 1 of 3 name another master than 127.0.0.1:{}: 127.0.0.1:{} names 127.0.0.1:{}",
        second.port(), fakes[0].port(), lie.port()
    ))
    .await;
    second.command::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    assert_eq!(
        stream.read_until_heard(&second, "news").await.last().map(String::as_str),
        Some("last")
    );
    assert_eq!(lie.listeners("news").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_that_names_what_cannot_be_used_keeps_no_gateway_out() {
    let master = Redis::start().await;
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &master.port().to_string()]).await;
    let honest = || FakeReply::port(master.port(), 0);
    let fakes = FakeSentinel::all([honest(), honest(), honest()]).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = free_port();
    let named = |host: &str, port| FakeReply::Master(host.to_owned(), port, 9);
    for (reply, told) in [
        (FakeReply::port(closed, 9), "which cannot be used: cannot connect"),
        (FakeReply::port(replica.port(), 9), "which cannot be used: 127.0.0.1:"),
        (named("redis.invalid", 1), "names redis.invalid:1, which cannot be used: cannot resolve"),
        (named("::1", closed), &format!("names [::1]:{closed}, which cannot be used")),
        (FakeReply::port(silent.local_addr().unwrap().port(), 9), "no reply within 2 seconds"),
        (FakeReply::port(fakes[1].port(), 9), "which cannot be used"),
        (named("a\n[+] redis ok", 1), "it replied with no address of a master"),
        (FakeReply::Raw(b"\x00\xff garbage\r\n"), "RESP protocol error"),
        (FakeReply::Raw(b"*1\r\n:1\r\n"), "it replied with no address of a master"),
        (FakeReply::Silence, "no reply within 1 seconds"),
    ] {
        fakes[0].now(reply.clone());
        // Two of three say where it is; one that is silent is not waited for.
        let gateway = start(&master, &fakes).await;
        if reply != FakeReply::Silence {
            says(&gateway, "[!] sentinels: 1 of 3 name ").await;
        }
        let report = gateway.admin("/readyz?verbose").await.text().await;
        let lines = report.lines().filter(|line| line.starts_with("[+] redis ok")).count();
        assert_eq!(lines, 1, "{report}");
        // One of two; there is no majority.
        let gateway = start(&master, &fakes[..2]).await;
        says(&gateway, told).await;
        assert_eq!(gateway.readiness().await, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_sentinel_knows_the_master_any_more_redis_is_used_where_it_was_and_that_is_told() {
    let master = Redis::start().await;
    let fakes = FakeSentinel::all([0; 3].map(|epoch| FakeReply::port(master.port(), epoch))).await;
    let gateway = start(&master, &fakes).await;
    gateway.logs(&format!("127.0.0.1:{}, mymaster (sentinels 127.0.0.1:", master.port())).await;
    says(
        &gateway,
        &format!(
            "[+] sentinels ok: mymaster is 127.0.0.1:{}; 3 of 3 sentinels are followed\n",
            master.port()
        ),
    )
    .await;
    let mut stream = gateway.subscribe_via(Via::Http1, "/events?channel=news").await;
    for fake in &fakes {
        fake.now(FakeReply::Unknown);
    }
    says(&gateway, "[!] sentinels: 3 of 3 name no master; a failover would go unseen").await;
    master.publish("news", "still here").await;
    assert_eq!(stream.next_event().await.data, "still here");
    gateway.becomes(200, SOON).await;
    gateway.counts("ssegate_redis_sentinels", &["state=\"no_master\""], 3.0).await;
    let warnings = || gateway.said("a sentinel cannot be used; retrying").count();
    eventually(SOON, "each sentinel is logged once", async || warnings() == 3).await;
    // Also what is opened now.
    master.command::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    assert_eq!(stream.read_until_heard(&master, "news").await, [GAP, "last"]);
    says(&gateway, "3 of 3 name no master").await;
    assert_eq!(warnings(), 3);
}

/// `ssegate check --connect` tells what is wrong with each sentinel; without its own words for what the sentinels and
/// Redis say, nobody would know whose password is meant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_tells_each_sentinel_that_is_of_no_use_and_what_to_write() {
    let redis = Redis::start().await;
    let dir = tempfile::TempDir::new().unwrap();
    let certificate = Pem::write(dir.path());
    let locked = Sentinel::start(redis.port(), &["requirepass of-sentinels"]);
    let open =
        Sentinel::start(redis.port(), &["user nosub on nopass +@connection +sentinel|master"]);
    let plain = open.address().await;
    let master = format!("127.0.0.1:{}", redis.port());
    let refused = format!("127.0.0.1:{}", free_port());
    let locked_at = locked.address().await;
    let file = dir.path().join("gateway.yaml");
    for (url, code, told) in [
        (format!("redis+sentinel://{plain}/mymaster"), 0, "the master is 127.0.0.1:"),
        (
            format!("redis+sentinel://{plain},{refused}/mymaster"),
            0,
            "warning: sentinels: 1 of 2 cannot be reached; the others are asked: 127.0.0.1:",
        ),
        (
            format!("redis+sentinel://{plain},sentinel.invalid/mymaster"),
            0,
            "sentinel.invalid:26379: cannot resolve",
        ),
        (
            format!(
                "redis+sentinel://{plain}/mymaster?sentinel_username=nosub&sentinel_password=x"
            ),
            0,
            "SUBSCRIBE to the channel \"+switch-master\": NOPERM",
        ),
        (
            format!("redis+sentinel://{locked_at}/mymaster"),
            1,
            "put the password of the sentinels in redis.url: ?sentinel_password=",
        ),
        (
            format!("redis+sentinel://{locked_at}/mymaster?sentinel_password=wrong"),
            1,
            "check sentinel_username and sentinel_password in redis.url",
        ),
        (
            format!("redis+sentinel://{master}/mymaster"),
            1,
            "this is a Redis server, and no sentinel",
        ),
        (format!("redis://{plain}"), 1, "this is a sentinel; write redis+sentinel://"),
        (format!("redis://{plain}/3"), 1, "this is a sentinel; write redis+sentinel://"),
        (
            format!("rediss+sentinel://{plain}/mymaster"),
            1,
            "no TLS handshake within 1 seconds; does this port speak TLS?",
        ),
    ] {
        let yaml = format!(
            "listeners: [{{ address: 127.0.0.1:0 }}]\nredis: {{ url: \"{url}\" }}\n\
             routes: [{{ path: /events, events: {{ channels: [news] }} }}]\n"
        );
        std::fs::write(&file, yaml).unwrap();
        let program = Program::new(env!("CARGO_BIN_EXE_ssegate"));
        let program = program.env("SSL_CERT_FILE", certificate.authority.to_str().unwrap());
        let output =
            program.args(["check", "--connect", "-c", file.to_str().unwrap()]).output(SOON).await;
        let said = format!("{}{}", output.stdout, output.stderr);
        assert_eq!((output.code(), said.contains(told)), (code, true), "{url}: {said}");
    }
}
