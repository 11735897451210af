//! What is wrong is reported at once, in the order of the file, with the fix.

use insta::assert_snapshot;
use proptest::{prop_assert, proptest};
use ssegate_format::Format;

use super::{events, mistakes, with, with_routes};
use crate::config::defaults::REFERENCE;
use crate::config::{load, parse};

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_file() {
    let text = r#"listeners:
  - address: localhost:8080
    tls: { self_signed: yes }
  - adress: 127.0.0.1:8443
admin:
  hosts: [https://ops.example]
redis:
  url: redis://:hunter2@redis/zero
sse:
  keepAlive: 15s
  retry: ${RETRY:?how long clients wait}
  queue: { bytes: 1MB, when_full: drop-oldest }
routes:
  - path: /events/{channel}
    events:
      channels: ["{chanel}"]
      source: streams
      history:
        age: "5 parsecs"
        count: "1000"
      replay: 0
  - path: api
    methods: [get]
    proxy: http://backend
  - path: /news
    proxy: { upstream: "ftp://backend" }
    events: { channels: [] }
shards: 0
drain: 10
"#;
    assert_snapshot!(mistakes(text), @r#"
    listeners[0].address: "localhost:8080" is not an IP address; write 127.0.0.1:8080 or [::1]:8080 (gateway.yaml:2:14)
    listeners[0].tls.self_signed: expected true or false; this is "yes" (gateway.yaml:3:25)
    listeners[1].adress: unknown key; did you mean `address`? (gateway.yaml:4:5)
    admin.hosts[0]: "https://ops.example" is a URL; write only the host name (gateway.yaml:6:11)
    redis.url: the database after the / must be a number (gateway.yaml:8:8)
    sse.keepAlive: unknown key; did you mean `keep_alive`? (gateway.yaml:10:3)
    sse.retry: the variable RETRY is not set: how long clients wait (gateway.yaml:11:10)
    sse.queue.bytes: "1MB" is not a size; did you mean 1MiB? (gateway.yaml:12:19)
    sse.queue.when_full: expected disconnect, drop_oldest or latest; this is "drop-oldest"; did you mean `drop_oldest`? (gateway.yaml:12:35)
    routes[0].events.channels[0]: {chanel} is not a parameter of this route's path; did you mean {channel}? (gateway.yaml:16:18)
    routes[0].events.source: expected pubsub, stream or recorded; this is "streams"; did you mean `stream`? (gateway.yaml:17:15)
    routes[0].events.history.age: "5 parsecs" is not a duration; use forms like 30s or 5m (gateway.yaml:19:14)
    routes[0].events.history.count: expected a whole number of at least 1; this is "1000" in quotes; remove the quotes (gateway.yaml:20:16)
    routes[0].events.replay: expected none, last, all or a number from 1 to 10000; this is "0" (gateway.yaml:21:15)
    routes[1].path: "api" does not start with /; write "/api" (gateway.yaml:22:11)
    routes[1].methods[0]: expected GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT or TRACE; this is "get"; did you mean `GET`? (gateway.yaml:23:15)
    routes[1].proxy: expected a mapping with upstream, http2, tls, host, pass, underscores_in_headers, max_connections, max_waiting, max_response_header, retry_idempotent, retry_buffer, max_body, connect_timeout, response_timeout, idle_timeout, keep_alive, fail_timeout, location, p99_warning and stream_keep_alive; this is "http://backend" (gateway.yaml:24:12)
    routes[2]: has events and proxy; only one of them can be there (gateway.yaml:25:5)
    routes[2].proxy.upstream: "ftp://backend" is not an HTTP URL; use forms like http://127.0.0.1:8000 (gateway.yaml:26:24)
    routes[2].events.channels: the list is empty; set the channels, such as [news], ["{channel}"] or ["{query.channel}"] (gateway.yaml:27:25)
    shards: must be at least 1; this is 0 (gateway.yaml:28:9)
    drain: "10" is not a duration; did you mean 10s? (gateway.yaml:29:8)
    "#);
}

#[test]
fn an_unknown_format_is_answered_with_all_of_them() {
    let report = mistakes(&with_routes("- path: /a\n  events: {channels: [a], format: json}"));
    let names: Vec<&str> = Format::ALL.iter().map(|format| format.as_str()).collect();
    let (last, first) = names.split_last().expect("formats");
    let expected = format!("expected {} or {last}; this is \"json\"", first.join(", "));
    assert!(report.contains(&expected), "{report}");
}

#[test]
fn an_unknown_key_is_an_error_with_a_suggestion() {
    let more = "rout: 1\nrediss: {}\nhttp2: {idle: 3s}\ntimeouts: {idel: 3s}\n";
    assert_snapshot!(mistakes(&with(more)), @"
    rout: unknown key; the valid keys are listeners, trusted_proxies, admin, redis, fleet, recorded, sse, auth, revocation, routes, shards, max_channels, history_memory, history_handover, max_event_bytes, write_timeout, drain, drain_delay, limits, timeouts, http1, http2, sockets and log (gateway.yaml:6:1)
    rediss: unknown key; did you mean `redis`? (gateway.yaml:7:1)
    http2.idle: unknown key; the valid keys are max_concurrent_streams, header_list, stream_window, max_stream_window, connection_window, header_timeout, keep_alive_interval and keep_alive_timeout (gateway.yaml:8:9)
    timeouts.idel: unknown key; did you mean `idle`? (gateway.yaml:9:12)
    ");
}

#[test]
fn a_missing_key_is_reported_once() {
    assert_snapshot!(mistakes("# nothing"), @"
    listeners: missing; add a listener, such as `- address: 127.0.0.1:8080` (gateway.yaml)
    redis: missing; set the source of events, such as redis://127.0.0.1:6379, or embedded://127.0.0.1:6380 for a bus inside the gateway (gateway.yaml)
    routes: missing; add a route, such as `- path: /events/{channel}` (gateway.yaml)
    ");
    assert_snapshot!(mistakes("just text"), @r#"
    expected a mapping with listeners, trusted_proxies, admin, redis, fleet, recorded, sse, auth, revocation, routes, shards, max_channels, history_memory, history_handover, max_event_bytes, write_timeout, drain, drain_delay, limits, timeouts, http1, http2, sockets and log; this is "just text" (gateway.yaml:1:1)
    "#);
    let empty = "listeners: [{}]\nredis:\nroutes:\n- events:\n- proxy: {}\n  path: /\n- path: /a\n";
    assert_snapshot!(mistakes(empty), @r#"
    listeners[0].address: missing; set the address to listen on, such as 127.0.0.1:8080 (gateway.yaml:1:13)
    redis.url: missing; set the source of events, such as redis://127.0.0.1:6379, or embedded://127.0.0.1:6380 for a bus inside the gateway (gateway.yaml:2:6)
    routes[0].path: missing; set which requests the route matches, such as /events/{channel} (gateway.yaml:4:3)
    routes[0].events.channels: missing; set the channels, such as [news], ["{channel}"] or ["{query.channel}"] (gateway.yaml:4:9)
    routes[1].proxy.upstream: missing; set the address of the backend, such as http://127.0.0.1:8000 (gateway.yaml:5:10)
    routes[2]: has none of events, proxy and publish; add one of them (gateway.yaml:7:3)
    "#);
    // An invalid value is not reported as missing, too.
    let wrong = "listeners: [address: {}]\nredis: {url: []}\nroutes: off\n";
    assert_snapshot!(mistakes(wrong), @r#"
    listeners[0].address: expected text; this is a mapping (gateway.yaml:1:22)
    redis.url: expected text; this is a list (gateway.yaml:2:14)
    routes: expected a list; this is "off" (gateway.yaml:3:9)
    "#);
}

#[test]
fn a_missing_variable_is_reported_with_its_location() {
    let text = r#"
listeners: [address: "${ADDRESS:-127.0.0.1:80}"]
redis:
  url: ${REDIS_URL:?where Redis is}
routes:
- path: /${NAME}
  events: { channels: ["${NAME}"], max_channels: "${COUNT}" }
"#;
    assert_snapshot!(mistakes(text), @"
    redis.url: the variable REDIS_URL is not set: where Redis is (gateway.yaml:4:8)
    routes[0].path: the variable NAME is not set; set it, or write ${NAME:-default} (gateway.yaml:6:9)
    routes[0].events.channels[0]: the variable NAME is not set; set it, or write ${NAME:-default} (gateway.yaml:7:24)
    routes[0].events.max_channels: the variable COUNT is not set; set it, or write ${COUNT:-default} (gateway.yaml:7:50)
    ");
    let env = |name: &str| match name {
        "REDIS_URL" => Some("redis://redis".to_owned()),
        "NAME" => Some("news".to_owned()),
        "COUNT" => Some("7".to_owned()),
        _ => None,
    };
    let settings = parse(text, "gateway.yaml", &env).expect("valid");
    assert_eq!(settings.routes[0].path, "/news");
    assert_eq!(events(&settings, 0).max_channels, 7);
}

proptest! {
    /// Parsing ends, with settings or with at least one mistake.
    #[test]
    fn a_damaged_file_is_parsed_or_its_mistakes_are_reported(
        from in 0..REFERENCE.len(),
        length in 0_usize..60,
        with in "[ -~\n]{0,12}",
    ) {
        let boundary = |at| (at..REFERENCE.len()).find(|at| REFERENCE.is_char_boundary(*at));
        let start = boundary(from).unwrap_or(REFERENCE.len());
        let end = boundary(from + length).unwrap_or(REFERENCE.len());
        let text = format!("{}{with}{}", &REFERENCE[..start], &REFERENCE[end..]);
        if let Err(errors) = parse(&text, "gateway.yaml", &|_| None) {
            prop_assert!(!errors.mistakes().is_empty());
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_one_line() {
    assert_eq!(load("none.yaml").expect_err("missing").to_string(), "no such file (none.yaml)");
    assert_eq!(
        load("src").expect_err("a directory").to_string(),
        "a directory; give the file in it, such as src/gateway.yaml (src)"
    );
}

#[test]
fn values_out_of_range_are_rejected() {
    let more = r#"
sse:
  {keep_alive: 0s, retry: 0s, linger: 0s, max_channels: 0, queue: {bytes: 0},
   history: {count: 0, bytes: 0, age: 0s}}
max_channels: 0
max_event_bytes: 0
write_timeout: 400d
drain: 0s
shards: 1025
limits: {connections: 0, handshakes: -1}
timeouts: {first_request: 0s, idle: 0ms}
http1: {header_timeout: 0s, header: 1MiB, header_fields: 0,
  buffer: 8191}
http2:
  {max_concurrent_streams: 5000000000, stream_window: 2GiB, connection_window: 64000,
   keep_alive_interval: 0s}
sockets: {send_buffer: 1}
"#;
    assert_snapshot!(mistakes(&with(more)), @r#"
    sse.keep_alive: must be at least 1ms; this is 0s (gateway.yaml:8:16)
    sse.retry: must be at least 1ms; this is 0s (gateway.yaml:8:27)
    sse.max_channels: must be at least 1; this is 0 (gateway.yaml:8:57)
    sse.queue.bytes: must be at least 1B; this is 0B (gateway.yaml:8:75)
    sse.history.count: must be at least 1; this is 0 (gateway.yaml:9:21)
    sse.history.bytes: must be at least 1B; this is 0B (gateway.yaml:9:31)
    sse.history.age: must be at least 1ms; this is 0s (gateway.yaml:9:39)
    max_channels: must be at least 1; this is 0 (gateway.yaml:10:15)
    max_event_bytes: must be at least 1KiB; this is 0B (gateway.yaml:11:18)
    write_timeout: must be at most 365d; this is 400d (gateway.yaml:12:16)
    shards: must be at most 128; this is 1025 (gateway.yaml:14:9)
    limits.connections: must be at least 1; this is 0 (gateway.yaml:15:23)
    limits.handshakes: expected a whole number of at least 1; this is "-1" (gateway.yaml:15:38)
    timeouts.first_request: must be at least 1ms; this is 0s (gateway.yaml:16:27)
    timeouts.idle: must be at least 1ms; this is 0s (gateway.yaml:16:37)
    http1.header_timeout: must be at least 1ms; this is 0s (gateway.yaml:17:25)
    http1.header: a header of 1MiB does not fit into a buffer of 64KiB (gateway.yaml:17:37)
    http1.header_fields: must be at least 1; this is 0 (gateway.yaml:17:58)
    http1.buffer: must be at least 8KiB; this is 8191B (gateway.yaml:18:11)
    http2.max_concurrent_streams: expected a whole number from 1 to 2147483647; this is "5000000000" (gateway.yaml:20:28)
    http2.stream_window: must be at most 2147483647B; this is 2GiB (gateway.yaml:20:55)
    http2.connection_window: must be at least 65535B; this is 64000B (gateway.yaml:20:80)
    http2.keep_alive_interval: must be at least 1ms; this is 0s (gateway.yaml:21:25)
    sockets.send_buffer: must be at least 4KiB; this is 1B (gateway.yaml:22:24)
    "#);
}

#[test]
fn a_mistake_in_a_route_says_how_to_fix_it() {
    let routes = r#"
- {path: events, events: {channels: news}}
- {path: "/{a}{b}", events: {channels: ["{a"]}}
- path: /a/{b}
  events: {channels: ["{c}", "{query.c}", "x}", ""], strip_prefix: "__keyspace@"}
- {path: /b, methods: [GTE, BREW], host: "a.example:80", proxy: {upstream: "backend:80"}}
- path: /c
  proxy: {upstream: http://b}
  cors: {origins: ["*"], credentials: true}
- path: /d
  proxy: {upstream: http://b, connect_timeout: 0s}
  cors: {origins: [https://a.example/], credentials: true}
- path: /e
  proxy: {upstream: http://b}
  cors: {credentials: true}
  auth: {}
- {path: "/a/{*rest}", proxy: {upstream: http://b}}
- {path: /e, methods: [GTE], proxy: {upstream: http://b}}
- {path: /g, events: {strip_prefix: "\n"}}
- off
"#;
    assert_snapshot!(mistakes(&with_routes(routes)), @r#"
    routes[0].path: "events" does not start with /; write "/events" (gateway.yaml:5:10)
    routes[0].events.channels: expected a list; this is "news" (gateway.yaml:5:37)
    routes[1].path: a path segment can have only one {parameter} (gateway.yaml:6:10)
    routes[2].events.channels[0]: {c} is not a parameter of this route's path; write {query.c} to take it from the query (gateway.yaml:8:23)
    routes[2].events.channels[2]: unbalanced braces; write {name} or {query.name}, and {{ or }} for a brace (gateway.yaml:8:43)
    routes[2].events.channels[3]: a channel name is empty (gateway.yaml:8:49)
    routes[2].events.strip_prefix: not a valid prefix: channel names that start with __keyspace@, __keyevent@ or __sentinel__ are reserved by Redis (gateway.yaml:8:68)
    routes[3].methods[0]: expected GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT or TRACE; this is "GTE"; did you mean `GET`? (gateway.yaml:9:24)
    routes[3].methods[1]: expected GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT or TRACE; this is "BREW" (gateway.yaml:9:29)
    routes[3].host: "a.example:80" has a port; write a.example (gateway.yaml:9:42)
    routes[3].proxy.upstream: "backend:80" is not a URL; write http://backend:80 (gateway.yaml:9:76)
    routes[4].cors.origins[0]: "*" is not allowed with credentials: true; list the origins (gateway.yaml:12:20)
    routes[5].proxy.connect_timeout: must be at least 1ms; this is 0s (gateway.yaml:14:48)
    routes[5].cors.origins[0]: "https://a.example/" has a path; browsers send https://a.example (gateway.yaml:15:20)
    routes[6].cors.credentials: has no effect without origins; list them (gateway.yaml:18:9)
    routes[6].auth: has no method; set one of forward, jwt, signed_url, tokens and basic, or several under any or all (gateway.yaml:19:9)
    routes[7].path: is ambiguous with the path of routes[2]; where one has a {parameter}, the other may have a literal segment, but not {*rest} or a parameter of another form (gateway.yaml:20:10)
    routes[8].methods[0]: expected GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT or TRACE; this is "GTE"; did you mean `GET`? (gateway.yaml:21:24)
    routes[9].events.channels: missing; set the channels, such as [news], ["{channel}"] or ["{query.channel}"] (gateway.yaml:22:22)
    routes[9].events.strip_prefix: not a valid prefix: the channel name contains a control character (gateway.yaml:22:37)
    routes[10]: expected a mapping with path, host, methods, events, proxy, publish, auth, cors, presence, handover, keep and share; this is "off" (gateway.yaml:23:3)
    "#);
}

#[test]
fn a_duplicate_key_is_reported_with_the_place_of_the_first() {
    let more = "shards: 1\nsse:\n  retry: 1s\n  retry: 2s\nshards: 2\n";
    assert_snapshot!(mistakes(&with(more)), @"
    sse.retry: duplicate key; the first one is in line 8, column 3: remove one of them (gateway.yaml:9:3)
    shards: duplicate key; the first one is in line 6, column 1: remove one of them (gateway.yaml:10:1)
    ");
}

#[test]
fn a_tab_or_a_wrong_indentation_is_named() {
    assert_snapshot!(mistakes(&with("sse:\n\tretry: 1s\n")), @"not valid YAML: a tab in the indentation; use spaces, YAML does not allow tabs there (gateway.yaml:7:1)");
    assert_snapshot!(mistakes(&with("sse:\n    retry: 1s\n  linger: 1s\n")), @"not valid YAML: while parsing a block mapping, did not find expected key; check the indentation of this line and of the one before: the keys of one mapping start in the same column, and so do the dashes of one list (gateway.yaml:8:3)");
}

#[test]
fn where_a_number_is_expected_its_range_is_named() {
    let more = "shards: all\nhttp1: {header_fields: many}\nmax_channels: lots\nlimits: {requests_per_address: few}\n";
    assert_snapshot!(mistakes(&with(more)), @r#"
    shards: expected a whole number from 1 to 128; this is "all" (gateway.yaml:6:9)
    http1.header_fields: expected a whole number from 1 to 30000; this is "many" (gateway.yaml:7:24)
    max_channels: expected a whole number of at least 1; this is "lots" (gateway.yaml:8:15)
    limits.requests_per_address: expected a whole number of at least 1, or off; this is "few" (gateway.yaml:9:32)
    "#);
}
