//! `redis.shards`: the channels are divided among servers by their names.

use ssegate::route::ServerList;

use super::{AUTH, gap, heard, open_named};
use crate::support::{EventStream, Gateway, GatewayBuilder, Redis, Request, SOON, Via, eventually};

const ROUTES: &str = "\
- { path: /events, events: { channels: [\"{query.channel}\"], patterns: true, strip_prefix: \"app:\", follow: [\"f*\"] }, auth: off }
- { path: /log, events: { channels: [\"log:{query.channel}\"], source: stream }, auth: off }
- { path: /kept, events: { channels: [\"kept:{query.channel}\"], source: recorded }, auth: off }
- { path: /publish, publish: { channels: [\"{query.channel}\"] } }
";

/// Three servers, and gateways at all of them.
struct Shards {
    servers: Vec<Redis>,
}

impl Shards {
    async fn start() -> Self {
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(Redis::start().await);
        }
        Self { servers }
    }

    fn build(&self) -> GatewayBuilder {
        let all: Vec<&Redis> = self.servers.iter().collect();
        Gateway::build(all[0]).shards(&all).settings(AUTH).routes(ROUTES)
    }

    async fn gateway(&self) -> Gateway {
        let gateway = self.build().start().await;
        gateway.becomes(200, SOON).await;
        gateway
    }

    /// The server of a name in Redis.
    fn of(&self, name: &str) -> &Redis {
        &self.servers[ServerList::shards(self.servers.len()).server_of_unknown(name)]
    }

    async fn publish(&self, channel: &str, data: &str) -> u64 {
        let name = format!("app:{channel}");
        self.of(&name).publish(&name, data).await
    }
}

/// Who has the list in another order is deaf for channels of the others: each says so.
#[tokio::test]
async fn another_order_of_the_list_is_told() {
    let shards = Shards::start().await;
    let gateway = shards.gateway().await;
    let mut other: Vec<&Redis> = shards.servers.iter().collect();
    other.swap(0, 1);
    let other = Gateway::build(other[0]).shards(&other).settings(AUTH).routes(ROUTES).start().await;
    let told = "[!] redis.shards: differs: this server is redis.shards[0] of 3 here and redis.shards[1] of 3 at \
                another gateway";
    for gateway in [&gateway, &other] {
        gateway.logs("another gateway at this Redis is configured differently").await;
        eventually(SOON, "its first server is told of", async || {
            gateway.admin("/readyz?verbose").await.text().await.contains(told)
        })
        .await;
        // The third one has the same place in both lists.
        let metrics = gateway.metrics().await;
        let label = ["setting=\"redis.shards\""];
        assert_eq!(metrics.sum("ssegate_fleet_settings_differ", &label), 2.0);
    }
    drop(other);
    eventually(SOON, "one that has ended differs from nobody", async || {
        let metrics = gateway.metrics().await.sum("ssegate_fleet_settings_differ", &[]);
        let report = gateway.admin("/readyz?verbose").await.text().await;
        metrics == 0.0 && !report.contains("differs")
    })
    .await;
}

/// A name for each of three servers, in their order.
fn names(prefix: &str, begin: &str) -> [String; 3] {
    let servers = ServerList::shards(3);
    [0, 1, 2].map(|server| {
        let mut names = (0..).map(|number| format!("{begin}{number}"));
        names
            .find(|name| servers.server_of_unknown(&format!("{prefix}{name}")) == server)
            .expect("each server has its share")
    })
}

fn target(path: &str, channels: &[String]) -> String {
    let names: Vec<String> = channels.iter().map(|name| format!("channel={name}")).collect();
    format!("{path}?{}", names.join("&"))
}

#[tokio::test]
async fn a_stream_has_its_channels_at_several_servers() {
    let shards = Shards::start().await;
    let gateway = shards.gateway().await;
    let channels = names("app:", "c");
    for via in Via::ALL {
        let mut all = gateway.subscribe_via(via, &target("/events", &channels)).await;
        let mut one = gateway.subscribe_via(via, &target("/events", &channels[1..2])).await;
        let mut pattern = gateway.subscribe_via(via, "/events?channel=c*").await;
        for channel in &channels {
            assert!(shards.publish(channel, channel).await > 0, "{channel}");
            assert_eq!(all.next_event().await.data, *channel);
            assert_eq!(pattern.next_event().await.data, *channel);
        }
        assert_eq!(one.next_event().await.data, channels[1]);
        let large = "x".repeat(100_000);
        shards.publish(&channels[2], &large).await;
        shards.publish(&channels[2], "end").await;
        assert_eq!(heard(&mut all, "end").await, [large, "end".to_owned()]);
    }
    // What nobody has asked for is heard at each server.
    for server in &shards.servers {
        assert!(server.command::<u64>(&["PUBSUB", "NUMPAT"]).await >= 1);
    }
}

#[tokio::test]
async fn one_server_that_is_killed_costs_its_channels_one_gap() {
    let mut shards = Shards::start().await;
    let gateway = shards.gateway().await;
    let channels = names("app:", "c");
    let mut all = gateway.subscribe(&target("/events", &channels)).await;
    let mut first = gateway.subscribe(&target("/events", &channels[..1])).await;
    shards.servers[1].kill();
    gateway.becomes(503, SOON).await;
    let report = gateway.admin("/readyz?verbose").await.text().await;
    assert!(report.contains("[-] redis failed: shard1: "), "{report}");
    gateway.counts("ssegate_redis_server_connected", &["server=\"shard1\""], 0.0).await;
    for channel in [&channels[0], &channels[2]] {
        shards.publish(channel, "meanwhile").await;
        assert_eq!(all.next_event().await.data, "meanwhile");
    }
    shards.servers[1].restart().await;
    gateway.becomes(200, SOON).await;
    for (channel, data) in channels.iter().zip(["a", "b", "c"]) {
        shards.publish(channel, data).await;
    }
    let mut rest = Vec::new();
    while rest.len() < 4 {
        let event = all.next_event().await;
        rest.push(if event.name == "gap" { format!("gap {}", event.data) } else { event.data });
    }
    rest.sort();
    assert_eq!(rest, ["a".to_owned(), "b".to_owned(), "c".to_owned(), gap(&channels[1])]);
    assert_eq!(heard(&mut first, "a").await, ["meanwhile", "a"]);
}

/// Reads events until so many have come; returns gaps and data, sorted.
async fn sorted(stream: &mut EventStream, count: usize) -> Vec<String> {
    let mut read = Vec::new();
    for _ in 0..count {
        let event = stream.next_event().await;
        read.push(if event.name == "gap" { format!("gap {}", event.data) } else { event.data });
    }
    read.sort();
    read
}

#[tokio::test]
async fn a_client_of_several_servers_resumes_at_another_gateway() {
    let shards = Shards::start().await;
    let gateways = [shards.gateway().await, shards.gateway().await];
    for (via, begin) in [(Via::Http1, "c"), (Via::Http2, "d")] {
        let channels = names("app:", begin);
        let target = target("/events", &channels);
        let mut stream = open_named(&gateways[0], via, &target, 3).await;
        let _other = open_named(&gateways[1], via, &target, 3).await;
        for channel in &channels {
            shards.publish(channel, "seen").await;
        }
        assert_eq!(sorted(&mut stream, 3).await, ["seen"; 3]);
        let id = stream.last_id().to_owned();
        drop(stream);
        let mut expected = Vec::new();
        for number in 0..4 {
            for channel in &channels {
                let data = format!("{channel} {number}");
                shards.publish(channel, &data).await;
                expected.push(data);
            }
        }
        expected.sort();
        let mut back = gateways[1].resume(via, &target, &id).await;
        assert_eq!(sorted(&mut back, expected.len()).await, expected);
        // And at the one that gave it.
        let mut home = gateways[0].resume(via, &target, &id).await;
        assert_eq!(sorted(&mut home, expected.len()).await, expected);
        shards.publish(&channels[0], "end").await;
        for stream in [&mut back, &mut home] {
            assert_eq!(heard(stream, "end").await, ["end"], "nothing else came");
        }
    }
}

#[tokio::test]
async fn an_id_of_another_number_of_servers_is_a_gap() {
    let shards = Shards::start().await;
    let gateway = shards.gateway().await;
    let channels = names("app:", "c");
    let mut stream = gateway.subscribe(&target("/events", &channels)).await;
    shards.publish(&channels[0], "seen").await;
    stream.next_event().await;
    let id = stream.last_id().to_owned();
    assert!(id.starts_with("3*"), "{id}");
    let two = id.replacen("3*", "2*", 1);
    let mut back = gateway.resume(Via::Http1, &target("/events", &channels), &two).await;
    let expected: Vec<String> = {
        let mut gaps: Vec<_> = channels.iter().map(|channel| gap(channel)).collect();
        gaps.sort();
        gaps.iter().map(|gap| gap.replace("redis_away", "unknown_id")).collect()
    };
    assert_eq!(sorted(&mut back, 3).await, expected);
    // Of one channel the part of its server counts.
    let mut one = gateway.resume(Via::Http1, &target("/events", &channels[..1]), &id).await;
    shards.publish(&channels[0], "end").await;
    assert_eq!(heard(&mut one, "end").await, ["end"]);
}

#[tokio::test]
async fn streams_and_recorded_channels_are_read_where_their_names_are() {
    let shards = Shards::start().await;
    let gateways = [shards.gateway().await, shards.gateway().await];
    let channels = names("log:", "s");
    let mut logs = gateways[0].subscribe(&target("/log", &channels)).await;
    for channel in &channels {
        let key = format!("log:{channel}");
        shards.of(&key).add(&key, channel).await;
        assert_eq!(logs.next_event().await.data, *channel);
    }
    let id = logs.last_id().to_owned();
    drop(logs);
    let mut expected = Vec::new();
    for number in 0..3 {
        for channel in &channels {
            let (key, data) = (format!("log:{channel}"), format!("{channel} {number}"));
            shards.of(&key).add(&key, &data).await;
            expected.push(data);
        }
    }
    expected.sort();
    let mut back = gateways[1].resume(Via::Http2, &target("/log", &channels), &id).await;
    assert_eq!(sorted(&mut back, expected.len()).await, expected);
    // The same position, and a log instead of another one at its server: that is a gap.
    let servers = ServerList::shards(3);
    let other = (0..)
        .map(|number| format!("other{number}"))
        .find(|name| servers.server_of_unknown(&format!("log:{name}")) == 0)
        .expect("one");
    let mixed = [other.clone(), channels[1].clone()];
    let mut mixed = gateways[1].resume(Via::Http1, &target("/log", &mixed), &id).await;
    let read = sorted(&mut mixed, 4).await;
    assert!(read[0].contains(&format!("\"channels\":[\"log:{other}\"]")), "{read:?}");

    let recorded = names("kept:", "r");
    let mut kept = gateways[0].subscribe(&target("/kept", &recorded)).await;
    for channel in &recorded {
        let name = format!("kept:{channel}");
        assert!(shards.of(&name).publish(&name, channel).await > 0);
        assert_eq!(kept.next_event().await.data, *channel);
    }
}

#[tokio::test]
async fn what_is_published_reaches_the_server_of_its_name() {
    let mut shards = Shards::start().await;
    let gateway = shards.gateway().await;
    let channels = names("app:", "c");
    let mut all = gateway.subscribe(&target("/events", &channels)).await;
    let post = |channels: &[String], body: &str| {
        Request::new("POST", &target("/publish", channels))
            .header("authorization", "Bearer cron-token")
            .header("idempotency-key", body)
            .body(body.as_bytes())
    };
    let response = gateway.send(Via::Http1, post(&channels, "one")).await;
    assert_eq!(response.text().await, "[{\"receivers\":1},{\"receivers\":1},{\"receivers\":1}]\n");
    assert_eq!(sorted(&mut all, 3).await, ["one"; 3]);
    for channel in &channels {
        let file = gateway.dir().join("gateway.yaml");
        let file = file.to_str().expect("a path");
        let output =
            crate::support::run(["pub", "-c", file, &format!("app:{channel}"), "by pub"]).await;
        assert_eq!(output.stdout, "1 receiver", "{output:?}");
        assert_eq!(all.next_event().await.data, "by pub");
    }
    shards.servers[2].kill();
    gateway.becomes(503, SOON).await;
    let status = async |request| gateway.send(Via::Http1, request).await.status;
    assert_eq!(status(post(&channels[2..], "away")).await, 503);
    assert_eq!(status(post(&channels[..1], "there")).await, 200);
    assert_eq!(all.next_event().await.data, "there");
    // A part is published: what became of the whole is not known, and a repetition does not publish it again.
    assert_eq!(status(post(&channels, "two")).await, 502);
    assert_eq!(sorted(&mut all, 2).await, ["two"; 2]);
    shards.servers[2].restart().await;
    gateway.becomes(200, SOON).await;
    // The connection that publishes is another than the one that listens: it may be back a moment later.
    eventually(SOON, "it is published", async || status(post(&channels, "two")).await == 200).await;
    shards.publish(&channels[0], "end").await;
    let rest = sorted(&mut all, 3).await;
    assert_eq!(rest, ["end".to_owned(), gap(&channels[2]), "two".to_owned()]);
}
