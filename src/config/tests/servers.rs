//! `redis.named`, `redis.shards` and `redis` of a route.

use super::{events, mistakes, settings};
use crate::route::ServerChoice;

fn config(redis: &str, events: &str) -> String {
    format!(
        "redis: {{{redis}}}\nlisteners: [address: 127.0.0.1:80]\nroutes:\n- {{path: /, events: {{channels: [a]{events}}}}}\n"
    )
}

const NAMED: &str = "url: redis://a, named: {orders: redis://b, chat: \"redis+cluster://c\"}";
const SHARDS: &str = "shards: [redis://a, rediss://b, redis+sentinel://s/m]";

#[test]
fn a_server_beside_the_path_is_told_where_it_belongs() {
    let report = mistakes(
        "redis: {url: redis://a, named: {orders: redis://b}}\nlisteners: [address: 127.0.0.1:80]\n\
         routes: [{path: /a, redis: orders, sharded: true, events: {channels: [a]}}]\n",
    );
    let at =
        "routes[0].redis: unknown key of this mapping; it belongs under events, or under handover";
    assert!(report.contains(at), "{report}");
    let at = "routes[0].sharded: unknown key of this mapping; it belongs under events (";
    assert!(report.contains(at), "{report}");
}

#[test]
fn a_route_has_the_server_that_it_names() {
    for (redis, events_say, choice, names) in [
        (NAMED, "", ServerChoice::First, &["url", "chat", "orders"][..]),
        (
            NAMED,
            ", redis: orders",
            ServerChoice::Named("orders".into()),
            &["url", "chat", "orders"],
        ),
        (SHARDS, "", ServerChoice::ByName, &["shard0", "shard1", "shard2"]),
        ("url: redis://a", "", ServerChoice::First, &["url"]),
    ] {
        let settings = settings(&config(redis, events_say));
        assert_eq!(events(&settings, 0).server, choice, "{redis} {events_say}");
        let found: Vec<_> = settings.source.servers.names().iter().map(|name| &**name).collect();
        assert_eq!(found, names, "{redis}");
        assert_eq!(settings.source.redis_servers().len(), names.len());
    }
    let settings = settings(&config(NAMED, ""));
    let fleets: Vec<_> = settings.source.further.iter().map(|one| one.fleet.is_some()).collect();
    assert_eq!(fleets, [false, true], "a Cluster has no one order");
}

#[test]
fn what_cannot_work_is_explained() {
    for (redis, events, expected) in [
        (NAMED, ", redis: order", "redis: there is no server \"order\"; did you mean orders?"),
        ("url: redis://a", ", redis: x", "there is no server \"x\"; add it under redis.named"),
        (NAMED, ", redis: chat, source: recorded", "is not supported with redis+cluster://"),
        (
            "url: \"embedded://127.0.0.1:1\", named: {a: redis://b}",
            "",
            "named: is not supported with embedded://",
        ),
        ("url: redis://a, named: {}", "", "named: names no server"),
        (
            "url: redis://a, named: {url: redis://b}",
            "",
            "url is what the server of redis.url is called",
        ),
        ("url: redis://a, named: {\"a b\": redis://b}", "", "\"a b\" is no name of a server"),
        (
            "url: redis://a, named: {b: \"embedded://127.0.0.1:1\"}",
            "",
            "the embedded bus is the only server",
        ),
        ("shards: [redis://a]", "", "shards: has less than two servers"),
        ("shards: [redis://a, redis://a]", "", "shards[1]: is there twice"),
        ("shards: [redis://a, \"redis+cluster://b\"]", "", "shards[1]: is a Cluster"),
        ("url: redis://a, shards: [redis://b, redis://c]", "", "url and shards exclude each other"),
        (
            "named: {a: redis://a}, shards: [redis://b, redis://c]",
            "",
            "named and shards exclude each other",
        ),
        (SHARDS, ", redis: a", "redis: is not supported with redis.shards"),
        (SHARDS, ", sharded: true", "sharded: is not supported with redis.shards"),
        ("named: {a: redis://a}", "", "url: missing"),
    ] {
        let report = mistakes(&config(redis, events));
        assert!(report.contains(expected), "{redis} {events}\n{report}");
    }
    let many: Vec<_> = (0..33).map(|number| format!("redis://h{number}")).collect();
    let report = mistakes(&config(&format!("shards: [{}]", many.join(", ")), ""));
    assert!(report.contains("makes 33 servers; a gateway has at most 32"), "{report}");
}

#[test]
fn presence_stays_at_the_first_server() {
    let presence = |redis: &str, events: &str, presence: &str| {
        let auth = "auth: {basic: {users: /nonexistent}}";
        format!(
            "redis: {{{redis}}}\nlisteners: [address: 127.0.0.1:80]\nroutes:\n- {{path: /, {auth}, events: {{channels: \
             [a]{events}}}, presence: {{identify: \"{{auth.id}}\"{presence}}}}}\n"
        )
    };
    let report = mistakes(&presence(NAMED, ", redis: orders", ""));
    assert!(report.contains("presence: is kept at the server of redis.url"), "{report}");
    let report = mistakes(&presence(SHARDS, "", ", events: true"));
    assert!(report.contains("presence.events: is not supported with redis.shards"), "{report}");
    let report = mistakes(&presence(SHARDS, "", ""));
    assert!(!report.contains("presence"), "{report}");
}

#[test]
fn no_message_and_no_print_has_a_password() {
    for redis in [
        "url: redis://a, named: {b: \"redis://:hunter2@b:99999\"}",
        "shards: [\"redis://:hunter2@b:99999\", redis://a]",
    ] {
        let report = mistakes(&config(redis, ""));
        assert!(!report.contains("hunter2"), "{report}");
    }
    for redis in [
        "url: redis://a, named: {b: \"redis://u:hunter2@b\"}",
        "shards: [\"redis://u:hunter2@b\", redis://a]",
    ] {
        let text = config(redis, "");
        let settings = settings(&text);
        assert_eq!(settings.secrets.len(), 1, "{redis}");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
