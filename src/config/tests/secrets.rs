//! Neither messages nor the debug form of settings contain a secret.

use super::{settings, with_routes};
use crate::config::parse;

#[test]
fn no_message_contains_a_secret() {
    let text = r#"
listeners: [address: "${URL}", {address: "127.0.0.1:1", tls: "${URL}"}, {address: "127.0.0.1:2", tls: {certificate: "${URL}", key: "${URL}"}}]
redis: {url: "${URL}"}
trusted_proxies: ["${URL}"]
admin: {hosts: ["${URL}"]}
routes:
- path: ${URL}
  host: ${URL}
  methods: ["${URL}"]
  events: {channels: ["${URL}"], format: "${URL}", source: "${URL}", patterns: "${URL}"}
  cors: {origins: ["${URL}"]}
- path: /b
  proxy: {upstream: "${URL}", connect_timeout: "${URL}", host: "${URL}", tls: {ca: "${URL}", server_name: "${URL}"}}
  handover: "${URL}"
- path: /c
  proxy: {upstream: ["https://x", "${URL}"], tls: "${URL}", http2: "${URL}"}
  handover: {key: "${URL}", prefix: "${URL}"}
- path: /d/{x}
  events: {channels: ["{${URL}}"], history: "${URL}", replay: "${URL}", max_channels: "${URL}", retry: "${URL}"}
max_event_bytes: ${URL}
shards: ${URL}
sse: ${URL}
revocation: {control_channel: "ssegate:c", key: "${URL}", remember: "${URL}"}
fleet: {key: "${URL}"}
"#;
    for secret in [
        "redis://:hunter2@redis:6379/zero",
        "redis+unix:///run/redis.sock?pass=hunter2",
        "http://redis/hunter2",
        "hunter2",
        "/hunter2/*",
        "hunter2.example:99999",
        "{hunter2}",
        "/run/hunter2.pem",
        "/hunter2 {",
        "a: \"hunter2\"; b",
    ] {
        let report = report_of(text, secret);
        assert!(report.lines().count() > 10 && !report.contains("unter2"), "{secret}: {report}");
    }
    // Numbers are as secret.
    let report = report_of(text, "718281828459");
    assert!(report.lines().count() > 10 && !report.contains("7182"), "{report}");
}

fn report_of(text: &str, value: &str) -> String {
    let env = |_: &str| Some(value.to_owned());
    parse(text, "gateway.yaml", &env).expect_err("nonsense").to_string()
}

#[test]
fn a_message_about_the_value_of_a_variable_says_what_is_wrong_with_it() {
    for (value, text, expected) in [
        (
            "70000",
            "listeners: [address: \"127.0.0.1:${V}\"]",
            "a value with ${V} is not a valid port; the highest is 65535",
        ),
        ("soon", "drain: ${V}", "drain: the value of ${V} is not a duration; use forms like"),
        ("4711", "shards: ${V}", "shards: must be at most 128; this is the value of ${V}"),
        ("1.5", "shards: ${V}", "from 1 to 128; this is the value of ${V}"),
        ("x:1", "redis: {url: \"${V}\"}", "not a URL; use forms like redis://127.0.0.1:6379"),
        (
            "x",
            "redis: \"${V}\"",
            "expected a mapping with url, named and shards; this is the value of ${V}",
        ),
        // A default stands in the file.
        ("", "drain: ${V:-soon}", "drain: \"soon\" is not a duration"),
        ("", "drain: soon", "drain: \"soon\" is not a duration"),
    ] {
        let report = report_of(text, value);
        assert!(report.contains(expected), "{text}: {report}");
    }
}

#[test]
fn a_password_in_a_url_is_not_repeated() {
    let routes = "- path: /{x}\n  events: {channels: [\"{redis://:hunter2@redis}\"]}\n\
                  - path: /b\n  proxy: {upstream: \"https://b\", tls: {ca: \"redis://:hunter2@redis\"}}\n";
    let report = report_of(&with_routes(routes), "");
    assert!(report.contains("no such file: redis://…@redis"), "{report}");
    assert!(report.lines().count() == 2 && !report.contains("hunter2"), "{report}");
}

#[test]
fn a_key_that_is_a_url_is_named_without_its_password() {
    for text in [
        "redis: {\"redis://:hunter2@redis:6379\": }",
        "redis: {\"redis://:hunter2@redis:6379\": {url: x}}",
        "redis://:hunter2@redis:6379: x",
        "{redis://:hunter2@redis: 1, redis://:hunter2@redis: 2}",
    ] {
        let report = report_of(text, "x");
        assert!(report.contains("redis://…@redis"), "{text}: {report}");
        assert!(!report.contains("hunter2"), "{text}: {report}");
    }
}

#[test]
fn the_debug_form_of_settings_contains_no_secret() {
    let text = with_routes(
        "- path: /\n  proxy: {upstream: \"http://b\"}\n  \
         handover: {key: planted-key-of-at-least-32-bytes-in-all}\n",
    );
    let text = format!(
        "{text}revocation: {{control_channel: \"ssegate:c\", key: planted-key-of-at-least-32-bytes-in-all}}\n\
         fleet: {{key: planted-key-of-at-least-32-bytes-in-all}}\n"
    );
    let text = text.replace("redis://r", "redis://planted-user:planted-password@r");
    let shown = format!("{:?}", settings(&text));
    assert!(!shown.contains("planted"), "{shown}");
}
