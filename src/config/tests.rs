//! The whole module, from a text to settings or mistakes.

use std::collections::BTreeSet;
use std::time::Duration;

use insta::assert_snapshot;
use proptest::{prop_assert, proptest};
use ssegate_format::Format;
use ssegate_hub::{HistorySettings, StreamSettings, WhenFull};

use super::{Settings, load, parse, schema};
use crate::route::{EventsSettings, Ready, Target};
use crate::server::TlsSettings;

const REFERENCE: &str = include_str!("../../gateway.yaml");

fn settings(text: &str) -> Settings {
    parse(text, "gateway.yaml", &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

fn mistakes(text: &str) -> String {
    parse(text, "gateway.yaml", &|_| None).expect_err("there are mistakes").to_string()
}

/// A file that is valid if `routes` is.
fn with_routes(routes: &str) -> String {
    format!("redis: {{url: redis://r}}\nlisteners: [address: 127.0.0.1:80]\nroutes:\n{routes}")
}

/// A valid file with `more` at its end.
fn with(more: &str) -> String {
    with_routes(&format!("- path: /\n  events: {{channels: [news]}}\n{more}"))
}

fn events(settings: &Settings, index: usize) -> &EventsSettings {
    match &settings.routes[index].target {
        Target::Events(events) => events,
        other => panic!("{other:?}"),
    }
}

/// The reference with every commented default uncommented.
fn reference_with_defaults() -> String {
    let uncommented = |line: &str| {
        let text = line.trim_start();
        let indent = &line[..line.len() - text.len()];
        match text.strip_prefix('#') {
            Some(rest) if is_default(rest) => format!("{indent}{rest}\n"),
            _ => format!("{line}\n"),
        }
    };
    REFERENCE.lines().map(uncommented).collect()
}

/// Whether the text after a `#` is `key: …` or `  nested_key: …`. Sentences and examples have one more
/// space after the `#`.
fn is_default(text: &str) -> bool {
    let is_sentence = (text.len() - text.trim_start().len()) % 2 == 1;
    let key = text.trim_start().split_once(':').map_or("", |(key, _)| key);
    !is_sentence && !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[test]
fn the_reference_runs_as_it_is() {
    let settings = settings(REFERENCE);
    assert_eq!(settings.listeners[0].tls, Some(TlsSettings::SelfSigned));
    assert_eq!(format!("{:?}", settings.source.location), "embedded://127.0.0.1:6380");
    assert_eq!(settings.routes.len(), 3);
}

#[test]
fn the_defaults_in_the_reference_are_the_defaults() {
    let text = reference_with_defaults();
    assert_eq!(format!("{:#?}", settings(&text)), format!("{:#?}", settings(REFERENCE)));
    let uncommented = text.lines().filter(|line| !REFERENCE.lines().any(|other| other == *line));
    assert!(uncommented.count() > 50, "{text}");
}

#[test]
fn the_reference_names_every_key() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).expect("JSON");
    let mut keys = BTreeSet::new();
    collect_properties(&schema, &mut keys);
    assert!(keys.contains("keep_alive") && keys.contains("self_signed"), "{keys:?}");
    let names = |key: &str, line: &str| {
        let text = line.trim_start_matches([' ', '#', '-']);
        text.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'))
    };
    for key in keys {
        assert!(REFERENCE.lines().any(|line| names(&key, line)), "{key} is not in gateway.yaml");
    }
}

fn collect_properties(schema: &serde_json::Value, keys: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(object) => {
            if let Some(properties) = object.get("properties").and_then(|value| value.as_object()) {
                keys.extend(properties.keys().cloned());
            }
            object.values().for_each(|value| collect_properties(value, keys));
        }
        serde_json::Value::Array(items) => {
            items.iter().for_each(|value| collect_properties(value, keys));
        }
        _ => {}
    }
}

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
fn the_schema_is_draft_07_and_closed() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).expect("JSON");
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn dev_is_the_reference_with_a_demo_page() {
    let dev = format!(
        "{:#?}",
        Settings::dev(Some(super::upstream("http://127.0.0.1:8000").expect("a URL")))
    );
    assert_eq!(dev, format!("{:#?}", settings(REFERENCE)));
    assert!(matches!(Settings::dev(None).routes[2].target, Target::Demo));
}

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
    routes[0].events.source: expected pubsub or stream; this is "streams"; did you mean `stream`? (gateway.yaml:17:15)
    routes[0].events.history.age: "5 parsecs" is not a duration; use forms like 30s or 5m (gateway.yaml:19:14)
    routes[0].events.history.count: expected a whole number; remove the quotes (gateway.yaml:20:16)
    routes[0].events.replay: expected none, last, all or a number from 1 to 10000; this is "0" (gateway.yaml:21:15)
    routes[1].path: "api" does not start with /; write "/api" (gateway.yaml:22:11)
    routes[1].methods[0]: expected GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT or TRACE; this is "get"; did you mean `GET`? (gateway.yaml:23:15)
    routes[1].proxy: expected a mapping with upstream, http2, tls, host, underscores_in_headers, max_connections, max_waiting, max_response_header, retry_idempotent, retry_buffer, max_body, connect_timeout, response_timeout, idle_timeout, keep_alive, fail_timeout, location, p99_warning and stream_keep_alive; this is "http://backend" (gateway.yaml:24:12)
    routes[2]: has both events and proxy; remove one of them (gateway.yaml:25:5)
    routes[2].proxy.upstream: "ftp://backend" is not an HTTP URL; use forms like http://127.0.0.1:8000 (gateway.yaml:26:24)
    routes[2].events.channels: the list is empty; set the channels, such as [news], ["{channel}"] or ["{query.channel}"] (gateway.yaml:27:25)
    shards: must be at least 1; this is 0 (gateway.yaml:28:9)
    drain: "10" is not a duration; use forms like 30s or 5m (gateway.yaml:29:8)
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
    rout: unknown key; the valid keys are listeners, trusted_proxies, admin, redis, sse, routes, shards, max_channels, history_memory, max_event_bytes, write_timeout, drain, drain_delay, limits, timeouts, http1, http2 and sockets (gateway.yaml:6:1)
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
    expected a mapping with listeners, trusted_proxies, admin, redis, sse, routes, shards, max_channels, history_memory, max_event_bytes, write_timeout, drain, drain_delay, limits, timeouts, http1, http2 and sockets; this is "just text" (gateway.yaml:1:1)
    "#);
    let empty = "listeners: [{}]\nredis:\nroutes:\n- events:\n- proxy: {}\n  path: /\n- path: /a\n";
    assert_snapshot!(mistakes(empty), @r#"
    listeners[0].address: missing; set the address to listen on, such as 127.0.0.1:8080 (gateway.yaml:1:13)
    redis.url: missing; set the source of events, such as redis://127.0.0.1:6379, or embedded://127.0.0.1:6380 for a bus inside the gateway (gateway.yaml:2:6)
    routes[0].path: missing; set which requests the route matches, such as /events/{channel} (gateway.yaml:4:3)
    routes[0].events.channels: missing; set the channels, such as [news], ["{channel}"] or ["{query.channel}"] (gateway.yaml:4:9)
    routes[1].proxy.upstream: missing; set the address of the backend, such as http://127.0.0.1:8000 (gateway.yaml:5:10)
    routes[2]: has neither events nor proxy; add one of them (gateway.yaml:7:3)
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

#[test]
fn no_message_contains_a_secret() {
    let text = r#"
listeners: [address: "${URL}"]
redis: {url: "${URL}"}
admin: {hosts: ["${URL}"]}
routes:
- path: ${URL}
  host: ${URL}
  methods: ["${URL}"]
  events: {channels: ["${URL}"], format: "${URL}", source: "${URL}", patterns: "${URL}"}
  cors: {origins: ["${URL}"]}
- path: /b
  proxy: {upstream: "${URL}", connect_timeout: "${URL}"}
max_event_bytes: ${URL}
shards: ${URL}
sse: ${URL}
"#;
    let env = |_: &str| Some("redis://:hunter2@redis:6379/zero".to_owned());
    let report = parse(text, "gateway.yaml", &env).expect_err("nonsense").to_string();
    assert!(report.lines().count() > 10 && !report.contains("hunter2"), "{report}");
}

#[test]
fn the_debug_form_of_settings_contains_no_secret() {
    let text = with_routes(
        "- path: /\n  proxy: {upstream: \"http://b\"}\n  \
         handover: {key: planted-key-of-at-least-32-bytes-in-all}\n",
    );
    let text = text.replace("redis://r", "redis://planted-user:planted-password@r");
    let shown = format!("{:?}", settings(&text));
    assert!(!shown.contains("planted"), "{shown}");
}

/// A file that is valid if the `tls` of its listener is.
fn with_tls(tls: &str) -> String {
    with("").replace("address: 127.0.0.1:80", &format!("{{address: 127.0.0.1:80, tls: {tls}}}"))
}

#[test]
fn tls_has_one_certificate() {
    const NONE: &str = "tls: no certificate; set self_signed: true, or certificate and key";
    for (tls, expected) in [
        ("", NONE),
        ("{}", NONE),
        ("{self_signed: false}", NONE),
        (
            "{self_signed: true, key: Cargo.toml}",
            "tls: self_signed: true excludes certificate and key; use one or the other",
        ),
        (
            "{certificate: Cargo.toml}",
            "tls.key: missing; set the path of this certificate's private key",
        ),
        ("{key: Cargo.toml}", "tls.certificate: missing; set the path of this key's certificate"),
        ("{key: Cargo.toml, certificate: c.pem}", "tls.certificate: no such file: c.pem"),
        ("{key: src, certificate: Cargo.toml}", "tls.key: not a file: src"),
    ] {
        let report = mistakes(&with_tls(tls));
        assert!(report.starts_with(&format!("listeners[0].{expected} (")), "{tls}: {report}");
        assert_eq!(report.lines().count(), 1, "{report}");
    }
}

#[test]
fn relative_paths_start_at_the_directory_of_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.yaml");
    let write = |name, text: &str| std::fs::write(path.with_file_name(name), text);
    write("gateway.yaml", &with_tls("{certificate: c.pem, key: k.pem}")).expect("written");
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).expect("made");
    write("c.pem", &made.cert.pem()).expect("written");

    let report = load(&path).expect_err("the key is missing").to_string();
    let key = path.with_file_name("k.pem");
    let expected = format!("listeners[0].tls.key: no such file: {} (", key.display());
    assert!(report.starts_with(&expected), "{report}");

    write("k.pem", "").expect("written");
    let report = load(&path).expect_err("the key is empty").to_string();
    assert!(report.starts_with("listeners[0].tls.key: no private key found in "), "{report}");

    write("k.pem", &made.signing_key.serialize_pem()).expect("written");
    let certificate = path.with_file_name("c.pem");
    let settings = load(&path).expect("valid");
    assert_eq!(settings.listeners[0].tls, Some(TlsSettings::Files { certificate, key }));
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
    assert!(load("src").expect_err("a directory").to_string().starts_with("cannot be read: "));
}

#[test]
fn an_address_can_be_used_once() {
    let text = r#"
listeners:
- address: 0.0.0.0:80
- address: 127.0.0.1:80
- address: 0.0.0.0:80
- address: 127.0.0.1:9464
- address: 127.0.0.1:0
- address: 127.0.0.1:0
redis: {url: "embedded://127.0.0.1:80"}
routes: [{path: /, proxy: {upstream: http://b}}]
"#;
    assert_snapshot!(mistakes(text), @"
    admin.address: 127.0.0.1:9464 is already in use by listeners[3].address (gateway.yaml)
    listeners[1].address: 127.0.0.1:80 is already in use by listeners[0].address (0.0.0.0:80) (gateway.yaml:4:12)
    listeners[2].address: 0.0.0.0:80 is already in use by listeners[0].address (gateway.yaml:5:12)
    redis.url: 127.0.0.1:80 is already in use by listeners[0].address (0.0.0.0:80) (gateway.yaml:9:14)
    ");
}

#[test]
fn the_admin_listener_is_on_by_default() {
    for (admin, expected) in [
        ("", Some("127.0.0.1:9464")),
        ("admin:", Some("127.0.0.1:9464")),
        ("admin: {hosts: [ssegate]}", Some("127.0.0.1:9464")),
        ("admin: {address: 127.0.0.1:1}", Some("127.0.0.1:1")),
        ("admin: off", None),
        ("admin: false", None),
        ("admin: ${ADMIN:-off}", None),
    ] {
        let admin = settings(&with(admin)).admin;
        assert_eq!(admin.map(|admin| admin.address.to_string()).as_deref(), expected);
    }
    assert_snapshot!(mistakes(&with("admin: on")), @r#"
    admin: expected a mapping or off; this is "on" (gateway.yaml:6:8)
    "#);
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
    limits.handshakes: expected a whole number; this is "-1" (gateway.yaml:15:38)
    timeouts.first_request: must be at least 1ms; this is 0s (gateway.yaml:16:27)
    timeouts.idle: must be at least 1ms; this is 0s (gateway.yaml:16:37)
    http1.header_timeout: must be at least 1ms; this is 0s (gateway.yaml:17:25)
    http1.header: a header of 1MiB does not fit into a buffer of 64KiB (gateway.yaml:17:37)
    http1.header_fields: must be at least 1; this is 0 (gateway.yaml:17:58)
    http1.buffer: must be at least 8KiB; this is 8191B (gateway.yaml:18:11)
    http2.max_concurrent_streams: expected a whole number up to 4294967295; this is "5000000000" (gateway.yaml:20:28)
    http2.stream_window: must be at most 2147483647B; this is 2GiB (gateway.yaml:20:55)
    http2.connection_window: must be at least 65535B; this is 64000B (gateway.yaml:20:80)
    http2.keep_alive_interval: must be at least 1ms; this is 0s (gateway.yaml:21:25)
    sockets.send_buffer: must be at least 4KiB; this is 1B (gateway.yaml:22:24)
    "#);
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
    routes[1].handover.channels: unknown key; the valid keys are key, issuer, source, format, strip_prefix, keep_alive, retry, history, replay, gap_events, linger, ready, max_channels, max_stream_age and queue (gateway.yaml:6:80)
    routes[2].handover: needs proxy on the same route, whose backend hands streams over (gateway.yaml:7:49)
    routes[2].handover.key: the text after base64: is not valid base64 (gateway.yaml:7:55)
    routes[3].handover: expected a mapping with key, issuer, source, format, strip_prefix, keep_alive, retry, history, replay, gap_events, linger, ready, max_channels, max_stream_age and queue; this is "on" (gateway.yaml:8:53)
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
    routes[2].events.channels[2]: unbalanced braces; write {name} or {query.name} (gateway.yaml:8:43)
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
    routes[6].auth: unknown key; the valid keys are path, host, methods, events, proxy, cors and handover (gateway.yaml:19:3)
    routes[7].path: is ambiguous with the path of routes[2]; where one has a {parameter}, the other may have a literal segment, but not {*rest} or a parameter of another form (gateway.yaml:20:10)
    routes[8].methods[0]: expected GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT or TRACE; this is "GTE"; did you mean `GET`? (gateway.yaml:21:24)
    routes[9].events.channels: missing; set the channels, such as [news], ["{channel}"] or ["{query.channel}"] (gateway.yaml:22:22)
    routes[9].events.strip_prefix: not a valid prefix: the channel name contains a control character (gateway.yaml:22:37)
    routes[10]: expected a mapping with path, host, methods, events, proxy, cors and handover; this is "off" (gateway.yaml:23:3)
    "#);
}
