//! Routes, and the streams of `sse`, `events` and `handover`.

use std::time::Duration;

use insta::assert_snapshot;
use ssegate_format::Format;
use ssegate_hub::{HistorySettings, StreamSettings, WhenFull};

use super::{events, mistakes, settings, with_routes};
use crate::route::Ready;

#[test]
fn a_position_must_fit_into_the_header_of_a_request() {
    let with = |more: &str, events: &str| {
        with_routes(&format!(
            "- path: /\n  events: {{channels: [\"{{query.a}}\"], source: stream{events}}}\n{more}"
        ))
    };
    for (more, channels) in [
        ("", ", max_channels: 250"),
        ("http2: {header_list: 6KiB}", ""),
        ("http2: {header_list: 1KiB}", ", max_channels: 15"),
        ("sse: {max_channels: 1000}", ", max_channels: 250"),
    ] {
        assert_eq!(settings(&with(more, channels)).routes.len(), 1, "{more}{channels}");
    }
    let report = mistakes(&with("", ", max_channels: 1300"))
        + &mistakes(&with("sse: {max_channels: 1300}", ""))
        + &mistakes(&with("http2: {header_list: 4KiB}", ""))
        + &mistakes(&with("http1: {header: 1KiB}", ", max_channels: 16"));
    let report = report.replace(")routes", ")\nroutes");
    assert_snapshot!(report, @r"
    routes[0].events.max_channels: with source: stream, the id of an event has a part for each channel, so that a stream can have at most 250; set max_channels to 250 or less; this is 1300 (gateway.yaml:5:67)
    routes[0].events.source: with source: stream, the id of an event has a part for each channel, so that a stream can have at most 250; set max_channels to 250 or less; this is 1300 (gateway.yaml:5:45)
    routes[0].events.source: with source: stream, the id of an event has a part for each channel, so that a stream can have at most 63, since the id must fit into a header of 4KiB (http1.header, http2.header_list); set max_channels to 63 or less; this is 100 (gateway.yaml:5:45)
    routes[0].events.max_channels: with source: stream, the id of an event has a part for each channel, so that a stream can have at most 15, since the id must fit into a header of 1KiB (http1.header, http2.header_list); set max_channels to 15 or less; this is 16 (gateway.yaml:5:67)
    ");
    // Ids of pub/sub events are short, and so is the entry id of a single stream.
    for events in ["channels: [a, b]", "channels: [\"x:{query.a}\"], source: pubsub"] {
        let many = format!("- path: /\n  events: {{{events}, max_channels: 1300}}\n");
        assert_eq!(settings(&with_routes(&many)).routes.len(), 1);
    }
    let one =
        "- path: /{id}\n  events: {channels: [\"{id}\"], source: stream}\nhttp1: {header: 1KiB}";
    assert_eq!(settings(&with_routes(one)).routes.len(), 1);
}

#[test]
fn a_route_inherits_the_keys_of_sse_that_it_does_not_set() {
    let settings = settings(
        "listeners: [address: 127.0.0.1:80]
redis: {url: redis://r}
sse:
  keep_alive: 1s
  history: {count: 5, age: 1m}
  queue: {when_full: latest}
  ready: line
routes:
- {path: /a, events: {channels: [a]}}
- {path: /b, events: {channels: [a], history: {age: 2m}, queue: {bytes: 1KiB}, retry: 9s, ready: block}}
- {path: /c, events: {channels: [a], history: off, max_channels: 3, gap_events: false}}
- {path: /d, events: {channels: [a], linger: 0s}}
",
    );
    let default = HistorySettings::default();
    let seconds = Duration::from_secs;
    let history = |age| Some(HistorySettings { count: 5, age: seconds(age), ..default });
    let stream = StreamSettings {
        keep_alive: seconds(1),
        linger: seconds(60),
        when_full: WhenFull::Latest,
        ..StreamSettings::default()
    };
    let [a, b, c, d] = [0, 1, 2, 3].map(|index| events(&settings, index));
    assert_eq!((a.history, &a.stream), (history(60), &stream));
    assert_eq!([a.ready, b.ready, c.ready], [Ready::Line, Ready::Block, Ready::Line]);
    assert_eq!(b.history, history(120));
    let of_b = StreamSettings {
        linger: seconds(120),
        retry: seconds(9),
        max_queue_bytes: 1024,
        ..stream.clone()
    };
    assert_eq!(b.stream, of_b);
    assert_eq!((c.history, c.max_channels), (None, 3));
    assert_eq!(
        c.stream,
        StreamSettings { linger: seconds(30), gap_events: false, ..stream.clone() }
    );
    assert_eq!(d.stream, StreamSettings { linger: seconds(0), ..stream });
}

#[test]
fn a_path_may_be_used_again_with_another_host_or_method() {
    let routes = r#"
- {path: "/a/{x}", events: {channels: ["{x}"]}}
- {path: "/a/{y}", host: A.example, events: {channels: ["{y}"]}}
- {path: "/a/{x}", methods: [POST, PUT], proxy: {upstream: http://b}}
- {path: "/a/{x}", methods: [DELETE], proxy: {upstream: http://b}}
"#;
    let valid = settings(&with_routes(routes));
    assert_eq!(valid.routes[1].host.as_deref(), Some("a.example"));
    assert_eq!(valid.routes[2].methods, [http::Method::POST, http::Method::PUT]);
    let twice = r#"- {path: "/a/{z}", methods: [PATCH, PUT], proxy: {upstream: http://b}}
- {path: "/a/{z}", host: a.example, proxy: {upstream: http://b}}
"#;
    assert_snapshot!(mistakes(&with_routes(&format!("{routes}{twice}"))), @"
    routes[4].path: matches the same requests as routes[2]; give it another path, host or methods (gateway.yaml:9:10)
    routes[5].path: matches the same requests as routes[1]; give it another path, host or methods (gateway.yaml:10:10)
    ");
}

#[test]
fn a_backend_may_hand_streams_over_where_the_route_has_handover() {
    let key = "0123456789abcdef0123456789abcdef";
    let settings = settings(&format!(
        "sse: {{retry: 5s, history: off}}\n{}",
        with_routes(&format!(
            "- {{path: /a, proxy: {{upstream: http://b}}, handover: {{key: {key}}}}}
- {{path: /b, proxy: {{upstream: http://b}},
   handover: {{key: {key}, issuer: me, format: envelope, strip_prefix: \"app:\",
   history: {{count: 5}}, max_stream_age: 1h, ready: line}}}}
- {{path: /c, proxy: {{upstream: http://b}}}}
"
        ))
    ));
    let handover = |index: usize| settings.routes[index].handover.as_ref();
    let (a, b) = (handover(0).expect("one"), handover(1).expect("another"));
    assert_eq!((a.issuer.as_str(), a.events.history), ("ssegate", None));
    assert_eq!((a.events.stream.retry, a.events.format), (Duration::from_secs(5), Format::Raw));
    assert_eq!((b.issuer.as_str(), b.events.format), ("me", Format::Envelope));
    assert_eq!((b.events.strip_prefix.as_str(), &a.key), ("app:", &b.key));
    assert_eq!(b.events.history, Some(HistorySettings { count: 5, ..HistorySettings::default() }));
    assert_eq!(b.events.stream.max_age, Some(Duration::from_secs(3600)));
    assert_eq!((a.events.ready, b.events.ready), (Ready::Auto, Ready::Line));
    assert!(handover(2).is_none());
    assert!(!format!("{settings:?}").contains("0123456789"), "a secret");

    let wrong = r#"
- {path: /a, proxy: {upstream: http://b}, handover: {}}
- {path: /b, proxy: {upstream: http://b}, handover: {key: hunter2, issuer: "", channels: [a]}}
- {path: /c, events: {channels: [a]}, handover: {key: "base64:hunter2"}}
- {path: /d, proxy: {upstream: http://b}, handover: on}
"#;
    assert_snapshot!(mistakes(&with_routes(wrong)), @r#"
    routes[0].handover.key: missing; set the secret that the backend verifies Grip-Sig with, such as ${HANDOVER_KEY:?openssl rand -base64 32} (gateway.yaml:5:53)
    routes[1].handover.key: has 7 bytes, at least 32 are required; generate one with: openssl rand -base64 32 (gateway.yaml:6:59)
    routes[1].handover.issuer: is empty; remove it, or set the issuer (gateway.yaml:6:76)
    routes[1].handover.channels: unknown key; the valid keys are key, issuer, source, redis, format, strip_prefix, keep_alive, retry, history, replay, gap_events, linger, ready, max_channels, max_stream_age and queue (gateway.yaml:6:80)
    routes[2].handover: needs proxy on the same route, whose backend hands streams over (gateway.yaml:7:49)
    routes[2].handover.key: the text after base64: is not valid base64 (gateway.yaml:7:55)
    routes[3].handover: expected a mapping with key, issuer, source, redis, format, strip_prefix, keep_alive, retry, history, replay, gap_events, linger, ready, max_channels, max_stream_age and queue; this is "on" (gateway.yaml:8:53)
    "#);
}

#[test]
fn followed_patterns_stay_within_the_channels_of_their_route() {
    let route = |events: &str| with_routes(&format!("- path: /{{id}}\n  events: {{{events}}}\n"));
    let valid = settings(&route(
        "channels: [news, \"orders:{id}\"], strip_prefix: \"a*:\", follow: [\"orders:*\", news]",
    ));
    let follow: Vec<_> = events(&valid, 0).follow.iter().map(|name| name.as_str()).collect();
    assert_eq!(follow, ["a\\*:orders:*", "a\\*:news"]);
    let report =
        mistakes(&route("channels: [news, \"orders:{id}\"], follow: [\"*\", \"order:*\"]"))
            + "\n"
            + &mistakes(&route("channels: [\"{id}\"], follow: []"))
            + "\n"
            + &mistakes(&route("channels: [\"{id}\"], follow: [\"*\"], history: off"))
            + "\n"
            + &mistakes(&route("channels: [\"{id}\"], follow: [\"*\"], source: stream"))
            + "\n"
            + &mistakes(&route(
                "channels: [\"{id}\"], follow: [\"__keyspace@*\", \"ssegate:*\", \"\"]",
            ));
    assert_snapshot!(report, @r#"
    routes[0].events.follow[0]: "*" matches channels that this route does not have; write one that stays within "news" or "orders:{id}" (gateway.yaml:5:54)
    routes[0].events.follow[1]: "order:*" matches channels that this route does not have; write one that stays within "news" or "orders:{id}" (gateway.yaml:5:59)
    routes[0].events.follow: the list is empty; name patterns of its channels, such as ["orders:*"], or remove it (gateway.yaml:5:40)
    routes[0].events.follow: needs a history to keep what comes; remove history: off (gateway.yaml:5:40)
    routes[0].events.follow: is not needed with source: stream: Redis keeps the entries (gateway.yaml:5:40)
    routes[0].events.follow[0]: not a valid pattern: channel names that start with __keyspace@, __keyevent@ or __sentinel__ are reserved by Redis (gateway.yaml:5:41)
    routes[0].events.follow[1]: channels that begin with ssegate: are for gateways; nothing of them is kept (gateway.yaml:5:57)
    routes[0].events.follow[2]: not a valid pattern: the channel name is empty (gateway.yaml:5:70)
    "#);
}
