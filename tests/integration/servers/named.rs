//! `redis.named`: a route has its channels at one server, and the others at others.

use super::{AUTH, gap, heard, open_named};
use crate::support::{Gateway, GatewayBuilder, Redis, Request, SOON, Via, eventually};

const ROUTES: &str = "\
- { path: \"/events/{channel}\", events: { channels: [\"{channel}\"] }, auth: off }
- { path: \"/orders/{channel}\", events: { channels: [\"order:{channel}\"], redis: orders, patterns: true }, auth: off }
- { path: \"/log/{channel}\", events: { channels: [\"log:{channel}\"], redis: orders, source: stream }, auth: off }
- { path: \"/kept/{channel}\", events: { channels: [\"kept:{channel}\"], redis: orders, source: recorded }, auth: off }
- { path: /publish, publish: { channels: [\"{query.channel}\"] } }
";

/// Two servers and gateways at both.
struct NamedServers {
    first: Redis,
    orders: Redis,
}

impl NamedServers {
    async fn start() -> Self {
        Self { first: Redis::start().await, orders: Redis::start().await }
    }

    fn build(&self) -> GatewayBuilder {
        Gateway::build(&self.first).named(&[("orders", &self.orders)]).settings(AUTH).routes(ROUTES)
    }

    async fn gateway(&self) -> Gateway {
        let gateway = self.build().start().await;
        gateway.becomes(200, SOON).await;
        gateway
    }
}

async fn verbose(gateway: &Gateway) -> String {
    gateway.admin("/readyz?verbose").await.text().await
}

#[tokio::test]
async fn a_route_hears_its_own_server_alone() {
    let servers = NamedServers::start().await;
    let gateway = servers.gateway().await;
    let mut news = gateway.subscribe("/events/order:1").await;
    let mut orders = gateway.subscribe_via(Via::Http2, "/orders/1").await;
    let mut all = gateway.subscribe("/orders/*").await;
    servers.first.publish("order:1", "at the first").await;
    servers.orders.publish("order:1", "at orders").await;
    assert_eq!(news.next_event().await.data, "at the first");
    assert_eq!(orders.next_event().await.data, "at orders");
    assert_eq!(all.next_event().await.data, "at orders");
    assert_eq!(servers.first.publish("order:1", "more").await, 1);
    assert_eq!(servers.orders.publish("order:1", "more").await, 2, "a channel, and a pattern");
    assert_eq!(heard(&mut all, "more").await, ["more"]);
}

#[tokio::test]
async fn the_outage_of_one_is_a_gap_for_its_channels_alone() {
    let mut servers = NamedServers::start().await;
    let gateway = servers.gateway().await;
    let mut news = gateway.subscribe("/events/news").await;
    let mut orders = gateway.subscribe("/orders/1").await;
    servers.orders.kill();
    gateway.becomes(503, SOON).await;
    let report = verbose(&gateway).await;
    assert!(report.contains("[-] redis failed: orders: "), "{report}");
    gateway.counts("ssegate_redis_server_connected", &["server=\"orders\""], 0.0).await;
    gateway.counts("ssegate_redis_server_connected", &["server=\"url\""], 1.0).await;
    gateway.counts("ssegate_redis_connected", &[], 0.0).await;
    gateway.logs("orders, 127.0.0.1:").await;
    servers.first.publish("news", "meanwhile").await;
    assert_eq!(news.next_event().await.data, "meanwhile");

    servers.orders.restart().await;
    gateway.becomes(200, SOON).await;
    servers.orders.publish("order:1", "back").await;
    servers.first.publish("news", "last").await;
    assert_eq!(heard(&mut orders, "back").await, [gap("order:1"), "back".to_owned()]);
    assert_eq!(heard(&mut news, "last").await, ["last"], "it was connected all the time");
    gateway.counts("ssegate_redis_server_connected", &["server=\"orders\""], 1.0).await;
}

#[tokio::test]
async fn a_client_resumes_at_another_gateway_whichever_server_it_is() {
    let servers = NamedServers::start().await;
    let gateways = [servers.gateway().await, servers.gateway().await];
    for (target, channel, redis) in
        [("/events/news", "news", &servers.first), ("/orders/1", "order:1", &servers.orders)]
    {
        let mut one = open_named(&gateways[0], Via::Http1, target, 1).await;
        let _other = open_named(&gateways[1], Via::Http1, target, 1).await;
        redis.publish(channel, "seen").await;
        assert_eq!(heard(&mut one, "seen").await, ["seen"]);
        let id = one.last_id().to_owned();
        drop(one);
        for number in 0..5 {
            redis.publish(channel, format!("missed {number}")).await;
        }
        let mut back = gateways[1].resume(Via::Http1, target, &id).await;
        let expected: Vec<_> = (0..5).map(|number| format!("missed {number}")).collect();
        assert_eq!(heard(&mut back, "missed 4").await, expected, "{target}");
    }
    let report = verbose(&gateways[0]).await;
    assert!(report.contains("[+] fleet ok: clients can resume at another gateway"), "{report}");
}

/// A takeover hands over the histories of all servers, not those of the first alone.
#[tokio::test]
async fn a_successor_has_what_was_missed_at_each_server() {
    tokio::join!(takes_over("drain: 1s", false), takes_over("drain: 1s\nfleet: off", true));
}

/// Names and URLs may change at a takeover: what was of another server is not taken, and the log says why.
#[tokio::test]
async fn a_successor_takes_no_histories_of_another_server() {
    tokio::join!(
        takes_over_from_another("drain: 1s"),
        takes_over_from_another("drain: 1s\nfleet: off")
    );
}

async fn takes_over_from_another(settings: &str) {
    let (servers, third) = (NamedServers::start().await, Redis::start().await);
    let mut old = servers.build().settings(settings).start().await;
    old.becomes(200, SOON).await;
    let mut one = old.subscribe("/orders/1").await;
    servers.orders.publish("order:1", "1").await;
    assert_eq!(heard(&mut one, "1").await, ["1"]);
    // What was called orders is called shop, and orders is elsewhere.
    let (before, after) = (servers.orders.url(), third.url());
    old.rewrite(|yaml| {
        let yaml = yaml.replace(
            &format!("orders: \"{before}\""),
            &format!("orders: \"{after}\", shop: \"{before}\""),
        );
        assert!(yaml.contains("shop: "), "{yaml}");
        yaml
    });
    let new = old.successor().await;
    assert_eq!(old.exit_within(SOON).await.code(), Some(0), "{}", old.log());
    let (of_orders, of_shop) = ("redis.named.orders", "redis.named.shop");
    eventually(SOON, "both are told of", async || {
        let without: Vec<_> = new.said("takeover: goes on without the histories").collect();
        without.iter().any(|fields| {
            let error = fields["error"].as_str().unwrap_or_default();
            fields["key"] == of_orders
                && error.contains("its URL is another one than at the old gateway")
        })
    })
    .await;
    let with =
        ["takeover: goes on with the histories", "takeover: goes on with the histories, and a gap"];
    let taken: Vec<_> = with.iter().flat_map(|message| new.said(message)).collect();
    assert!(taken.iter().any(|fields| fields["key"] == of_shop), "{}", new.log());
    assert!(taken.iter().all(|fields| fields["key"] != of_orders), "{}", new.log());
}

async fn takes_over(settings: &str, has_gap: bool) {
    let servers = NamedServers::start().await;
    let mut old = servers.build().settings(settings).start().await;
    old.becomes(200, SOON).await;
    let places =
        [("/events/news", "news", &servers.first), ("/orders/1", "order:1", &servers.orders)];
    let mut ids = Vec::new();
    for (target, channel, redis) in places {
        let mut one = old.subscribe(target).await;
        let mut witness = old.subscribe(target).await;
        redis.publish(channel, "1").await;
        assert_eq!(heard(&mut one, "1").await, ["1"]);
        ids.push(one.last_id().to_owned());
        drop(one);
        redis.publish(channel, "2").await;
        redis.publish(channel, "3").await;
        heard(&mut witness, "3").await;
    }
    let new = old.successor().await;
    assert_eq!(old.exit_within(SOON).await.code(), Some(0), "{}", old.log());
    for ((target, channel, redis), id) in places.into_iter().zip(ids) {
        let mut back = new.resume(Via::Http1, target, &id).await;
        assert_eq!(heard(&mut back, "3").await, ["2", "3"], "{target}, {settings}");
        if has_gap {
            assert_eq!(back.next_event().await.name, "gap");
        }
        back.ready().await;
        redis.publish(channel, "last").await;
        assert_eq!(heard(&mut back, "last").await, ["last"], "{target}, {settings}");
    }
}

#[tokio::test]
async fn streams_and_recorded_channels_are_at_the_server_of_their_route() {
    let servers = NamedServers::start().await;
    let gateway = servers.gateway().await;
    servers.orders.add("log:1", "before").await;
    let mut log = gateway.subscribe("/log/1").await;
    let id = servers.orders.add("log:1", "entry").await;
    assert_eq!(log.next_event().await.data, "entry");
    assert_eq!(log.last_id(), id);
    let mut kept = gateway.subscribe("/kept/1").await;
    servers.orders.publish("kept:1", "recorded").await;
    assert_eq!(kept.next_event().await.data, "recorded");
    let logs = async || servers.orders.command::<Vec<String>>(&["KEYS", "*kept:1*"]).await.len();
    eventually(SOON, "it is recorded where it was published", async || logs().await > 0).await;
    assert_eq!(servers.first.command::<Vec<String>>(&["KEYS", "*kept:1*"]).await, [""; 0]);
}

fn post(target: &str, body: &str) -> Request {
    Request::new("POST", target).header("authorization", "Bearer cron-token").body(body.as_bytes())
}

#[tokio::test]
async fn what_is_published_goes_to_the_server_of_its_route() {
    let mut servers = NamedServers::start().await;
    let gateway = servers.gateway().await;
    let mut news = gateway.subscribe("/events/news").await;
    let mut orders = gateway.subscribe("/orders/1").await;
    let mut log = gateway.subscribe("/log/1").await;
    let target = "/publish?channel=news&channel=order:1&channel=log:1";
    let request = || post(target, "one").header("idempotency-key", "k1");
    let text = gateway.send(Via::Http1, request()).await.text().await;
    assert!(text.contains("{\"receivers\":1},{\"receivers\":1},{\"id\":"), "{text}");
    for stream in [&mut news, &mut orders, &mut log] {
        assert_eq!(stream.next_event().await.data, "one");
    }
    let again = gateway.send(Via::Http1, request()).await.text().await;
    assert_eq!(again, text, "it is the result of the first request");
    let pub_ = async |channel: &str, data: &str| {
        let file = gateway.dir().join("gateway.yaml");
        let file = file.to_str().expect("a path");
        crate::support::run(["pub", "-c", file, channel, data]).await
    };
    for (channel, stream) in [("news", &mut news), ("order:1", &mut orders)] {
        let output = pub_(channel, "by pub").await;
        assert_eq!(output.stdout, "1 receiver", "{output:?}");
        assert_eq!(stream.next_event().await.data, "by pub");
    }
    servers.orders.kill();
    gateway.becomes(503, SOON).await;
    let response = gateway.send(Via::Http1, post("/publish?channel=order:1", "x")).await;
    assert_eq!(response.status, 503);
    let text = response.text().await;
    assert!(text.contains("nothing was published (server orders)"), "{text}");
    let response = gateway.send(Via::Http1, post("/publish?channel=news", "still")).await;
    assert_eq!(response.status, 200);
    assert_eq!(
        heard(&mut news, "still").await,
        ["still"],
        "the repeated request published nothing"
    );
}

#[tokio::test]
async fn a_reload_moves_a_route_to_another_server_and_refuses_one_that_is_new() {
    let servers = NamedServers::start().await;
    let gateway = servers.gateway().await;
    let mut old = gateway.subscribe("/events/order:1").await;
    gateway.rewrite(|text| {
        text.replace("[\"{channel}\"] }, auth", "[\"{channel}\"], redis: orders }, auth")
    });
    assert!(gateway.reload().await);
    let mut new = gateway.subscribe("/events/order:1").await;
    servers.orders.publish("order:1", "at orders").await;
    servers.first.publish("order:1", "at the first").await;
    assert_eq!(new.next_event().await.data, "at orders");
    assert_eq!(old.next_event().await.data, "at the first", "an open stream stays where it is");

    let third = Redis::start().await;
    gateway.rewrite(|text| {
        text.replace("named: {", &format!("named: {{ third: \"{}\",", third.url()))
            .replace("redis: orders, patterns", "redis: third, patterns")
    });
    assert!(!gateway.reload().await);
    gateway.logs("at a server with which this gateway was not started").await;
}

#[tokio::test]
async fn pub_names_the_server_that_does_not_reply() {
    let servers = NamedServers::start().await;
    servers.orders.signal(rustix::process::Signal::STOP);
    let dir = tempfile::TempDir::new().unwrap();
    let program = servers.build().program(dir.path(), "pub").args(["order:7", "hello"]);
    let output = program.output(4 * SOON).await;
    let text = output.stderr.clone();
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(text.contains("cannot connect to orders, 127.0.0.1:"), "{text}");
    assert!(text.contains("no reply within 2 seconds"), "{text}");
}

#[tokio::test]
async fn check_and_doctor_name_the_server_that_fails() {
    let mut servers = NamedServers::start().await;
    let dir = tempfile::TempDir::new().unwrap();
    let output = servers.build().program(dir.path(), "check").arg("--connect").output(SOON).await;
    let text = output.stdout.clone();
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("redis: ok: url, 127.0.0.1:"), "{text}");
    assert!(text.contains("redis: ok: orders, 127.0.0.1:"), "{text}");
    assert!(text.contains("fleet: orders: clients can resume at another gateway: yes"), "{text}");
    assert!(text.contains("events from url, 127.0.0.1:"), "{text}");
    assert!(text.contains(" and orders, 127.0.0.1:"), "{text}");
    servers.orders.kill();
    let output = servers.build().program(dir.path(), "check").arg("--connect").output(SOON).await;
    let text = output.stderr.clone();
    assert!(!output.status.success(), "{output:?}");
    assert!(text.contains("redis.named.orders: cannot use Redis at orders, 127.0.0.1:"), "{text}");
    assert!(text.contains("is redis.named.orders right, is Redis running"), "{text}");
    assert!(text.contains("redis.named.orders cannot be used; see above"), "{text}");
    let output = servers.build().program(dir.path(), "doctor").output(4 * SOON).await;
    let text = output.stdout;
    assert!(text.contains("orders, 127.0.0.1:"), "{text}");
    assert!(text.contains("is redis.named.orders right, is Redis running"), "{text}");
    assert!(!text.contains("redis.url"), "{text}");
    assert!(text.contains("url: clients can resume at another gateway"), "{text}");
}
