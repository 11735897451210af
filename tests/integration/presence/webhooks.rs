//! Webhooks: the first listener of a channel has come, the last one has left.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use super::{becomes, listen};
use crate::auth::jwt;
use crate::support::{Call, Gateway, Program, Redis, SOON, Upstream, eventually, within};

const KEY: &str = "presence-presence-presence-presence";

/// A gateway that tells `receiver`.
pub(super) async fn gateway(redis: &Redis, url: &str, receiver: &Upstream) -> Gateway {
    let receiver = receiver.address();
    let presence = format!(
        "{{ identify: \"{{auth.id}}\", grace: 1s, on_occupied: \"http://{receiver}/occupied?x=1\", \
         on_vacated: \"http://{receiver}/vacated\", key: {KEY} }}"
    );
    let routes = format!(
        "- {{ path: \"/events/{{channel}}\", events: {{ channels: [\"{{channel}}\"], strip_prefix: \"app:\" }}, \
         presence: {presence} }}\n"
    );
    let gateway = Gateway::build(redis).redis_url(url).settings(&jwt("")).routes(&routes);
    gateway.start().await
}

fn body(call: &Call) -> Value {
    serde_json::from_slice(&call.body).expect("JSON")
}

/// What a call tells.
fn told(call: &Call) -> String {
    let body = body(call);
    let path = call.line().split(' ').nth(1).expect("a target");
    format!("{path} {} {}", body["event"].as_str().unwrap(), body["channel"].as_str().unwrap())
}

pub(super) const OCCUPIED: &str = "/occupied?x=1 channel_occupied news";
pub(super) const VACATED: &str = "/vacated channel_vacated news";

/// The next call, which is taken.
pub(super) async fn taken(receiver: &Upstream) -> String {
    let call = within(2 * SOON, "a webhook", receiver.next_call()).await;
    let said = told(&call);
    call.answer("204 No Content", "", "").await;
    said
}

#[tokio::test]
async fn a_fleet_tells_once_that_a_channel_is_occupied_and_once_that_it_is_vacated() {
    let redis = Redis::start().await;
    let receiver = Upstream::start().await;
    let one = gateway(&redis, &redis.url(), &receiver).await;
    let two = gateway(&redis, &redis.url(), &receiver).await;
    for _ in 0..2 {
        let ann = listen(&one, "ann", "/events/news").await;
        assert_eq!(taken(&receiver).await, OCCUPIED);
        let bob = listen(&two, "bob", "/events/news").await;
        becomes(&two, "/events/news/presence", &[("ann", 1), ("bob", 1)]).await;
        drop(ann);
        becomes(&two, "/events/news/presence", &[("bob", 1)]).await;
        drop(bob);
        // Anything told of the second listener would have come first.
        assert_eq!(taken(&receiver).await, VACATED);
    }
    let delivered = async |gateway: &Gateway| {
        gateway.metrics().await.sum("ssegate_webhooks_total", &["result=\"delivered\""])
    };
    let all = async || delivered(&one).await + delivered(&two).await == 4.0;
    eventually(SOON, "four were delivered", all).await;
}

#[tokio::test]
async fn a_gateway_alone_tells_it_too() {
    let receiver = Upstream::start().await;
    let gateway = gateway(&Redis::stopped(&[]), "embedded://127.0.0.1:0", &receiver).await;
    let tabs = [
        listen(&gateway, "ann", "/events/news").await,
        listen(&gateway, "ann", "/events/news").await,
    ];
    assert_eq!(taken(&receiver).await, OCCUPIED);
    drop(tabs);
    assert_eq!(taken(&receiver).await, VACATED);
}

#[tokio::test]
async fn a_webhook_is_tried_again_in_its_order_and_with_the_same_id() {
    let redis = Redis::start().await;
    let receiver = Upstream::start().await;
    let gateway = gateway(&redis, &redis.url(), &receiver).await;
    let ann = listen(&gateway, "ann", "/events/news").await;
    let mut ids = Vec::new();
    // A status, a connection that breaks off, and a redirect, which is not followed.
    for number in 0..3 {
        let call = receiver.call().await;
        assert_eq!(told(&call), OCCUPIED);
        ids.push(body(&call)["id"].as_str().expect("text").to_owned());
        match number {
            0 => call.answer("503 Service Unavailable", "", "").await,
            1 => call.reset(),
            _ => call.answer("302 Found", "location: /elsewhere\r\n", "").await,
        }
    }
    gateway.logs("a webhook failed; trying again").await;
    let problem = || format!("webhook http://{}/occupied: ", receiver.address());
    let shows_problem = async |shows: bool| {
        let ready = async || gateway.admin("/readyz?verbose").await.text().await;
        eventually(SOON, "its problem", async || ready().await.contains(&problem()) == shows).await;
    };
    shows_problem(true).await;
    drop(ann);
    becomes(&gateway, "/events/news/presence", &[]).await;
    let other = listen(&gateway, "ann", "/events/other").await;
    let mut order = Vec::new();
    for _ in 0..3 {
        let call = within(2 * SOON, "a webhook", receiver.next_call()).await;
        order.push(told(&call));
        if told(&call) == OCCUPIED {
            ids.push(body(&call)["id"].as_str().expect("text").to_owned());
        }
        call.answer("200 OK", "", "fine").await;
    }
    order.retain(|told| told.ends_with("news"));
    assert_eq!(order, [OCCUPIED, VACATED]);
    ids.dedup();
    assert_eq!(ids.len(), 1, "one transition");
    gateway.counts("ssegate_webhooks_total", &["result=\"retried\""], 3.0).await;
    shows_problem(false).await;
    gateway.logs("webhooks are taken again").await;
    drop(other);
}

#[tokio::test]
async fn a_receiver_that_does_not_respond_holds_nothing_up() {
    let redis = Redis::start().await;
    let receiver = Upstream::start().await;
    let gateway = gateway(&redis, &redis.url(), &receiver).await;
    let mut streams = Vec::new();
    for number in 0..40 {
        streams.push(listen(&gateway, "ann", &format!("/events/{number}")).await);
    }
    // It accepts, and says nothing.
    let _calls = [receiver.call().await, receiver.call().await];
    let waiting = async || gateway.metrics().await.sum("ssegate_webhooks_waiting", &[]) >= 20.0;
    eventually(SOON, "the others wait", waiting).await;
    let began = Instant::now();
    redis.publish("app:0", "hello").await;
    assert_eq!(streams[0].next_event().await.data, "hello");
    becomes(&gateway, "/events/0/presence", &[("ann", 1)]).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// The functions of the guide that verify a signature.
#[tokio::test]
#[ignore = "needs php, python3 and node: run by tests/run"]
async fn the_code_of_the_guide_verifies_what_is_sent() {
    let redis = Redis::start().await;
    let receiver = Upstream::start().await;
    let gateway = gateway(&redis, &redis.url(), &receiver).await;
    let _ann = listen(&gateway, "ann", "/events/news").await;
    let call = receiver.call().await;
    let header = call.header("ssegate-signature").to_owned();
    let sent = String::from_utf8(call.body.clone()).unwrap();
    call.answer("204 No Content", "", "").await;
    let (time, signature) = header.strip_prefix("t=").unwrap().split_once(',').unwrap();
    let old = format!("t={},{signature}", time.parse::<u64>().unwrap() - 1000);
    let other = format!("{sent} ");
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PRESENCE.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let dir = TempDir::new().unwrap();
    for (language, program, file, harness) in [
        (
            "php",
            "/usr/bin/php",
            "verify.php",
            "exit(verify($argv[1], $argv[2], $argv[3]) ? 0 : 1);",
        ),
        (
            "python",
            "/usr/bin/env",
            "verify.py",
            "import sys\nsys.exit(0 if verify(sys.argv[1], sys.argv[2].encode(), sys.argv[3].encode()) else 1)",
        ),
        (
            "js",
            "/usr/bin/env",
            "verify.mjs",
            "const [header, body, key] = process.argv.slice(2);\nprocess.exit(verify(header, body, key) ? 0 : 1);",
        ),
    ] {
        let begin = format!("```{language}\n");
        let mut blocks = guide.split(&begin).skip(1).map(|rest| rest.split("```").next().unwrap());
        let block = blocks.find(|block| block.contains("verify(")).expect(language);
        assert!(block.lines().count() <= 10, "ten lines of {language}");
        let head = if language == "php" { "<?php\n" } else { "" };
        let path = dir.path().join(file);
        std::fs::write(&path, format!("{head}{block}\n{harness}\n")).unwrap();
        for (header, body, key, expected) in [
            (&*header, &*sent, KEY, 0),
            (&header, &other, KEY, 1),
            (&header, &sent, "another key", 1),
            (&old, &sent, KEY, 1),
            ("", &sent, KEY, 1),
            ("t=1,v1=", &sent, KEY, 1),
        ] {
            let command = match language {
                "php" => vec![],
                "python" => vec!["python3"],
                _ => vec!["node"],
            };
            let output = Program::new(program).args(command).arg(&path).args([header, body, key]);
            let output = output.output(2 * SOON).await;
            assert_eq!(output.code(), expected, "{language} {header} {body} {}", output.stderr);
        }
    }
}

#[tokio::test]
async fn the_channels_of_gateways_that_have_all_died_are_vacated_by_the_next_one() {
    let redis = Redis::start().await;
    let receiver = Upstream::start().await;
    let mut first = gateway(&redis, &redis.url(), &receiver).await;
    let ann = listen(&first, "ann", "/events/news").await;
    assert_eq!(taken(&receiver).await, OCCUPIED);
    first.signal(Signal::KILL);
    first.exit_within(SOON).await;
    let (one, two) = (
        gateway(&redis, &redis.url(), &receiver).await,
        gateway(&redis, &redis.url(), &receiver).await,
    );
    let call = within(4 * SOON, "a webhook", receiver.next_call()).await;
    assert_eq!(told(&call), VACATED);
    call.answer("200 OK", "", "").await;
    // Once, and then the next one.
    let _bob = listen(&two, "bob", "/events/news").await;
    assert_eq!(taken(&receiver).await, OCCUPIED);
    drop((ann, one));
}

#[tokio::test]
async fn a_channel_that_is_due_for_another_webhook_keeps_the_members_of_this_gateway() {
    let redis = Redis::start().await;
    let receiver = Upstream::start().await;
    let route = |path: &str| {
        let url = format!("http://{}{path}", receiver.address());
        format!(
            "- {{ path: \"{path}/{{channel}}\", events: {{ channels: [\"{{channel}}\"] }}, \
             presence: {{ identify: \"{{auth.id}}\", on_vacated: \"{url}\", key: {KEY} }} }}\n"
        )
    };
    let routes = format!("{}{}", route("/one"), route("/two"));
    let gateway = Gateway::build(&redis).settings(&jwt("")).routes(&routes).start().await;
    let of = async || redis.command::<Vec<String>>(&["KEYS", "ssegate:presence:due:*"]).await;
    let _ann = listen(&gateway, "ann", "/one/news").await;
    eventually(SOON, "the channel is noted for one", async || of().await.len() == 1).await;
    let first = of().await.remove(0);
    // The same member, so that only the webhook of the channel changes.
    let _again = listen(&gateway, "ann", "/two/news").await;
    eventually(SOON, "the channel is noted for two", async || of().await.len() == 2).await;
    redis.command::<i64>(&["ZADD", &first, "0", "news"]).await;
    let is_due_over = async || redis.command::<i64>(&["ZCARD", &first]).await == 0;
    eventually(4 * SOON, "what was due is over", is_due_over).await;
    let leases = redis.command::<String>(&["HGET", "ssegate:presence:{news}", "g"]).await;
    assert!(leases.contains('='), "this gateway still has its lease: {leases:?}");
    becomes(&gateway, "/one/news/presence", &[("ann", 2)]).await;
}

#[tokio::test]
async fn a_reload_counts_for_who_is_there_already() {
    let redis = Redis::start().await;
    let receiver = Upstream::start().await;
    let gateway = gateway(&redis, &redis.url(), &receiver).await;
    let ann = listen(&gateway, "ann", "/events/news").await;
    assert_eq!(taken(&receiver).await, OCCUPIED);
    gateway.rewrite(|yaml| yaml.replace("/vacated", "/left"));
    assert!(gateway.reload().await);
    drop(ann);
    assert_eq!(taken(&receiver).await, "/left channel_vacated news");
}
