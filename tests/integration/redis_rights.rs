//! What Redis does not let the gateway do: named where an operator looks.

use std::collections::HashSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{Gateway, Program, Redis, SOON, Via, eventually, within};

/// A user who may do what is needed with what begins with `news`, and nothing else.
async fn limited(redis: &Redis) -> String {
    let rights = "on >secret resetkeys resetchannels &news* &ssegate:* %R~news* -@all +ping \
                  +subscribe +unsubscribe +psubscribe +punsubscribe +xread +xrange +xrevrange \
                  +xinfo|stream +client|unblock +pubsub|numsub +pubsub|numpat +publish";
    let user: Vec<&str> = ["ACL", "SETUSER", "gate"].into_iter().chain(rights.split(' ')).collect();
    redis
        .command::<String>(&user.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>())
        .await;
    redis.url().replace("redis://", "redis://gate:secret@")
}

const ROUTES: &str = "\
- path: /events
  events: { channels: [\"{query.channel}\"], patterns: true }
- path: /streams
  events: { channels: [\"{query.channel}\"], source: stream }
";

#[tokio::test]
async fn a_channel_or_key_that_is_refused_is_named_in_the_log() {
    let redis = Redis::start().await;
    let url = limited(&redis).await;
    redis.command::<String>(&["SET", "news-text", "no stream"]).await;
    for (target, named) in [
        ("/events?channel=secret", "SUBSCRIBE to the channel \\\"secret\\\": NOPERM"),
        ("/events?channel=news&channel=secret", "SUBSCRIBE to the channel \\\"secret\\\": NOPERM"),
        ("/events?channel=secret.*", "PSUBSCRIBE to the pattern \\\"secret.*\\\": NOPERM"),
        ("/streams?channel=news-text", "XINFO of the stream \\\"news-text\\\": WRONGTYPE"),
        ("/streams?channel=secret", "XINFO of the stream \\\"secret\\\": NOPERM"),
    ] {
        let gateway = Gateway::build(&redis).redis_url(&url).routes(ROUTES).start().await;
        let _stream = gateway.open(target).await;
        gateway.logs(named).await;
    }
    // However many there are, the log does not fill with them.
    let gateway = Gateway::build(&redis).redis_url(&url).routes(ROUTES).start().await;
    let names: Vec<String> = (0..80).map(|number| format!("channel=secret{number}")).collect();
    let _stream = gateway.open(&format!("/events?{}", names.join("&"))).await;
    gateway.counts("ssegate_redis_errors_total", &["kind=\"permission\""], 200.0).await;
    let lines = gateway.log().matches("NOPERM").count();
    assert!((1..=3).contains(&lines), "{lines} lines");
    gateway.logs("more: NOPERM").await;
}

#[tokio::test]
async fn streams_that_are_refused_in_several_ways_do_not_fill_the_log() {
    let redis = Redis::start().await;
    let url = limited(&redis).await;
    redis.command::<String>(&["SET", "news-text", "no stream"]).await;
    let gateway = Gateway::build(&redis).redis_url(&url).routes(ROUTES).start().await;
    let names = "channel=news-text&channel=secret1&channel=secret2&channel=secret3";
    let _stream = gateway.open(&format!("/streams?{names}")).await;
    for kind in ["permission", "refused"] {
        let kind = format!("kind=\"{kind}\"");
        gateway.counts("ssegate_redis_errors_total", &[&kind], 5.0).await;
    }
    let log = gateway.log();
    for kind in ["NOPERM", "WRONGTYPE"] {
        let lines = log.matches(kind).count();
        assert!((1..=3).contains(&lines), "{lines} lines of {kind}");
    }
    gateway.logs(", and 3 more: ").await;
}

#[tokio::test]
async fn streams_that_are_allowed_later_are_read_however_many_stay_refused() {
    let redis = Redis::start().await;
    let url = limited(&redis).await;
    let gateway = Gateway::build(&redis).redis_url(&url).routes(ROUTES).start().await;
    let names: Vec<String> = (0..100).map(|number| format!("channel=secret{number}")).collect();
    let mut stream = gateway.open(&format!("/streams?{}", names.join("&"))).await;
    gateway.counts("ssegate_redis_errors_total", &["kind=\"permission\""], 64.0).await;
    // secret1, and secret10 to secret19.
    redis.command::<String>(&["ACL", "SETUSER", "gate", "%R~secret1*"]).await;
    let mut missing: HashSet<String> = (10..20).map(|number| format!("secret{number}")).collect();
    let mut add = tokio::time::interval(Duration::from_millis(500));
    let all = async {
        while !missing.is_empty() {
            tokio::select! {
                event = stream.event() => drop(missing.remove(&event.unwrap().data)),
                _ = add.tick() => {
                    for number in 10..20 {
                        let name = format!("secret{number}");
                        redis.add(&name, &name).await;
                    }
                }
            }
        }
    };
    // Some of them are tried each second.
    within(4 * SOON, "every stream that is allowed", all).await;
}

#[tokio::test]
async fn a_user_who_may_ask_about_a_stream_and_not_read_it_is_no_busy_loop() {
    let redis = Redis::start().await;
    let url = limited(&redis).await;
    let gateway = Gateway::build(&redis).redis_url(&url).routes(ROUTES).start().await;
    redis.command::<String>(&["ACL", "SETUSER", "gate", "-xread"]).await;
    let mut stream = gateway.subscribe("/streams?channel=news").await;
    gateway.logs("XREAD of the stream \\\"news\\\": NOPERM").await;
    gateway.counts("ssegate_redis_errors_total", &["kind=\"permission\""], 4.0).await;
    // Once by its group, and then once a second.
    let stats = redis.command::<String>(&["INFO", "commandstats"]).await;
    let refused = stats.lines().find_map(|line| {
        let (_, rest) = line.strip_prefix("cmdstat_xread:")?.split_once("rejected_calls=")?;
        rest.split(',').next()?.parse::<u64>().ok()
    });
    assert!(refused.is_some_and(|refused| refused < 30), "{stats}");
    gateway.becomes(503, SOON).await;
    // What comes meanwhile waits until it is allowed.
    redis.add("news", "added meanwhile").await;
    redis.command::<String>(&["ACL", "SETUSER", "gate", "+xread"]).await;
    let event = stream.next_event().await;
    assert_eq!(event.data, "added meanwhile");
    gateway.becomes(200, SOON).await;

    // A past that may not be read is named, and comes when it may be.
    redis.add("news", "missed").await;
    redis.command::<String>(&["ACL", "SETUSER", "gate", "-xrange"]).await;
    assert_eq!(stream.next_event().await.data, "missed");
    drop(stream);
    let gateway = Gateway::build(&redis).redis_url(&url).routes(ROUTES).start().await;
    let mut back = gateway.resume(Via::Http1, "/streams?channel=news", &event.id).await;
    gateway.logs("XRANGE of the stream \\\"news\\\": NOPERM").await;
    redis.command::<String>(&["ACL", "SETUSER", "gate", "+xrange"]).await;
    assert_eq!(back.next_event().await.data, "missed");
}

#[tokio::test]
async fn a_stream_that_was_refused_and_is_left_is_not_asked_for_any_more() {
    let redis = Redis::start().await;
    let url = limited(&redis).await;
    let routes = "\
- path: /streams
  events: { channels: [\"{query.channel}\"], source: stream, linger: 0s }
";
    let gateway = Gateway::build(&redis).redis_url(&url).routes(routes).start().await;
    // Many, so that some are left while the answer is on its way.
    for part in 0..20 {
        let names: Vec<_> = (0..50).map(|n| format!("channel=secret{}", part * 50 + n)).collect();
        drop(gateway.open(&format!("/streams?{}", names.join("&"))).await);
    }
    let nobody = async || gateway.metrics().await.sum("ssegate_streams", &[]) == 0.0;
    eventually(SOON, "all have left", nobody).await;
    let kind = "kind=\"permission\"";
    let mut known = -1.0;
    let is_quiet = async || {
        let errors = gateway.metrics().await.sum("ssegate_redis_errors_total", &[kind]);
        // Longer than until it would be asked again.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        std::mem::replace(&mut known, errors) == errors
    };
    eventually(4 * SOON, "no more errors", is_quiet).await;
    gateway.becomes(200, SOON).await;
}

/// `ssegate check --connect` of these routes, with its exit code.
async fn check(url: &str, routes: &str) -> (i32, String) {
    let dir = TempDir::new().unwrap();
    let yaml = format!(
        "listeners: [{{ address: 127.0.0.1:0 }}]\nadmin: off\nredis: {{ url: \"{url}\" }}\nroutes:\n{routes}"
    );
    let file = dir.path().join("gateway.yaml");
    std::fs::write(&file, yaml).unwrap();
    // The password in the URL is for nobody else to read.
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let program = Program::new(env!("CARGO_BIN_EXE_ssegate"));
    let output = program.args(["check", "--connect"]).dir(dir.path()).output(SOON).await;
    (output.code(), format!("{}{}", output.stdout, output.stderr))
}

fn events(channel: &str, more: &str) -> String {
    format!("- path: /{{id}}\n  events: {{ channels: [\"{channel}\"]{more} }}\n")
}

#[tokio::test]
async fn check_connects_and_names_what_the_routes_may_not_read() {
    let redis = Redis::start().await;
    let limited = limited(&redis).await;
    redis.command::<String>(&["SET", "news-text", "no stream"]).await;
    let (stream, patterns) = (", source: stream", ", patterns: true");
    for (url, routes, code, told) in [
        (redis.url(), events("x:{id}", ""), 0, "redis: ok: 127.0.0.1"),
        (redis.url(), events("x:{id}", ""), 0, "Redis 7"),
        (
            redis.url(),
            events("x:{id}", patterns),
            0,
            "it permits what the routes read (1 channel, 1 pattern tested)",
        ),
        (
            redis.url(),
            events("x:{id}", stream),
            0,
            "RESP3; it permits what the routes read (1 stream tested)",
        ),
        (limited.clone(), events("news:{id}", ""), 0, "redis: ok"),
        (limited.clone(), events("news:{id}", stream), 0, "redis: ok"),
        (
            limited.clone(),
            events("x:{id}", ""),
            1,
            "refused SUBSCRIBE to the channel \"x:ssegate-check\": NOPERM",
        ),
        (
            limited.clone(),
            events("x:{id}", patterns),
            1,
            "refused PSUBSCRIBE to the pattern \"x:*\": NOPERM",
        ),
        (
            limited.clone(),
            events("x:{id}", stream),
            1,
            "XINFO of the stream \"x:ssegate-check\": NOPERM",
        ),
        (
            redis.url(),
            events("news-text", stream),
            1,
            "XINFO of the stream \"news-text\": WRONGTYPE",
        ),
        (limited.replace("secret", "wrong"), events("{id}", ""), 1, "WRONGPASS"),
        (
            "redis://127.0.0.1:1".into(),
            events("{id}", ""),
            1,
            "Redis at 127.0.0.1:1: cannot connect",
        ),
        ("embedded://127.0.0.1:0".into(), events("{id}", ""), 0, "nothing to connect to"),
    ] {
        let (exit, said) = check(&url, &routes).await;
        assert_eq!(exit, code, "{routes} {said}");
        assert!(said.contains(told), "{routes} {told}: {said}");
        assert!(!said.contains("secret@"), "{said}");
    }
    // It leaves nothing behind.
    let keys: Vec<String> = redis.command(&["KEYS", "*"]).await;
    assert_eq!(keys, ["news-text"]);
}

#[tokio::test]
async fn check_tries_what_recorded_channels_need() {
    let redis = Redis::start().await;
    let routes = events("x:{id}", ", source: recorded");
    for (name, rights, told) in [
        ("all", &[][..], "(1 channel, 1 recording tested)"),
        ("sha", &["-evalsha"], "refused EVALSHA, with which channels are recorded: NOPERM"),
        ("eval", &["-eval"], "refused EVAL, with which channels are recorded: NOPERM"),
        ("set", &["-set"], "refused SET, with which channels are recorded: ERR"),
        ("append", &["-xadd"], "refused XADD, with which channels are recorded: ERR"),
        (
            "keys",
            &["resetkeys", "~news"],
            "refused EVALSHA, with which channels are recorded: NOPERM",
        ),
        (
            "marks",
            &["resetchannels", "&x:*", "&ssegate:check:*"],
            "refused SUBSCRIBE to the channel \"ssegate:recorded\": NOPERM",
        ),
    ] {
        let user = ["ACL", "SETUSER", name, "on", ">secret", "~*", "&*", "+@all"];
        redis.command::<String>(&[&user[..], rights].concat()).await;
        let url = redis.url().replace("redis://", &format!("redis://{name}:secret@"));
        let (exit, said) = check(&url, &routes).await;
        assert_eq!(exit, i32::from(name != "all"), "{name}: {said}");
        assert!(said.contains(told), "{name} {told}: {said}");
    }
    let keys: Vec<String> = redis.command(&["KEYS", "*"]).await;
    assert!(keys.is_empty(), "it leaves nothing behind: {keys:?}");
}

#[tokio::test]
async fn check_tries_what_kept_streams_need() {
    let redis = Redis::start().await;
    let routes = "\
- path: /{*rest}
  proxy: { upstream: \"http://127.0.0.1:1\" }
  keep: { owner: [authorization], store: redis, secret: a-secret-that-all-gateways-have- }
";
    let mine = ["resetchannels", "&ssegate:check:*"];
    let publishes = "(+publish resetchannels &ssegate:kept:*)";
    for (name, rights, told) in [
        ("all", &[][..], "redis: ok"),
        (
            "deaf",
            &[mine[0], mine[1], publishes][..],
            "refused SUBSCRIBE to the channel \"ssegate:kept:check\": NOPERM",
        ),
        ("mute", &["-publish"], "refused PUBLISH, with which streams are kept"),
        ("hash", &["-hset"], "with which streams are kept for all gateways"),
    ] {
        let user = ["ACL", "SETUSER", name, "on", ">secret", "~*", "&*", "+@all"];
        redis.command::<String>(&[&user[..], rights].concat()).await;
        let url = redis.url().replace("redis://", &format!("redis://{name}:secret@"));
        let (exit, said) = check(&url, routes).await;
        assert_eq!(exit, i32::from(name != "all"), "{name}: {said}");
        assert!(said.contains(told), "{name} {told}: {said}");
    }
}

#[tokio::test]
async fn check_names_what_is_refused_while_messages_arrive_on_what_is_allowed() {
    let redis = Redis::start().await;
    let url = limited(&redis).await;
    let routes: String = ["news", "secret1", "news2", "secret2"]
        .map(|name| format!("- path: /{name}\n  events: {{ channels: [{name}] }}\n"))
        .concat();
    let publishing = async {
        loop {
            redis.publish_all("news", (0..1000).map(|number| number.to_string())).await;
        }
    };
    let checking = async {
        for _ in 0..5 {
            let (exit, said) = check(&url, &routes).await;
            assert_eq!(exit, 1, "{said}");
            for (name, is_refused) in
                [("news", false), ("secret1", true), ("news2", false), ("secret2", true)]
            {
                let told = format!("refused SUBSCRIBE to the channel \"{name}\": NOPERM");
                assert_eq!(said.contains(&told), is_refused, "{name}: {said}");
            }
        }
    };
    tokio::select! {
        () = publishing => {}
        () = checking => {}
    }
}

#[tokio::test]
async fn the_rights_that_are_shipped_suffice() {
    let redis = Redis::start().await;
    let shipped = include_str!("../../deploy/redis-users.acl");
    let user = shipped.lines().find(|line| line.starts_with("user ssegate ")).unwrap();
    let words: Vec<&str> = user.split(' ').skip(1).collect();
    redis.command::<String>(&[&["ACL", "SETUSER"][..], &words].concat()).await;
    let url = redis.url().replace("redis://", "redis://ssegate:listens@");
    let routes = events("x:{id}", "")
        + "- path: /s/{id}\n  events: { channels: [\"{id}\"], source: stream }\n"
        + "- path: /r/{id}\n  events: { channels: [\"r:{id}\"], source: recorded }\n";
    let (exit, said) = check(&url, &routes).await;
    assert_eq!((exit, said.contains("warning")), (0, false), "{said}");
    assert!(said.contains("fleet: clients can resume at another gateway: yes"), "{said}");
    // Nothing else may be published by this user.
    for channel in ["news", "ssegate:marks", "ssegate:fleet"] {
        let client = redis::Client::open(url.as_str()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel).arg("x");
        let refused = publish.query_async::<u64>(&mut connection).await.unwrap_err();
        assert_eq!(refused.code(), Some("NOPERM"), "{channel}: {refused}");
    }
}

#[tokio::test]
async fn check_says_whether_clients_can_resume_at_another_gateway() {
    let redis = Redis::start().await;
    let routes = events("news", "");
    let gateway = Gateway::build(&redis).start().await;
    for (name, code, more, told) in [
        ("all", 0, &["&*"][..], "fleet: clients can resume at another gateway: yes"),
        (
            "mute",
            0,
            &["&*", "-publish"],
            "gateway: no, because Redis refused PUBLISH to ssegate:mark: NOPERM",
        ),
        (
            "deaf",
            0,
            &["&news"],
            "gateway: no, because Redis refused SUBSCRIBE to ssegate:mark: NOPERM",
        ),
        ("blind", 0, &["&*", "-info"], "warning: Redis refused INFO"),
        // Also beside what keeps a route from working.
        (
            "poor",
            1,
            &["&other"],
            "gateway: no, because Redis refused SUBSCRIBE to ssegate:mark: NOPERM",
        ),
    ] {
        let user = ["ACL", "SETUSER", name, "on", ">secret", "resetchannels", "+@all"];
        redis.command::<String>(&[&user[..], more].concat()).await;
        let (exit, said) =
            check(&redis.url().replace("//", &format!("//{name}:secret@")), &routes).await;
        assert_eq!((exit, said.contains(told)), (code, true), "{name}: {said}");
    }
    let node = Redis::cluster_node().await;
    let (exit, said) = check(&node.url(), &routes).await;
    assert!(exit == 0 && said.contains("no, because a Redis Cluster"), "{said}");
    // A running gateway is not told anything by it.
    assert!(!gateway.log().contains("ignored a message"), "{}", gateway.log());
}
