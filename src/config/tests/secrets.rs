//! Neither messages nor the debug form of settings contain a secret.

use super::{settings, with_routes};
use crate::config::parse;

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
revocation: {control_channel: c, key: "${URL}", remember: "${URL}"}
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
    let text = format!(
        "{text}revocation: {{control_channel: c, key: planted-key-of-at-least-32-bytes-in-all}}\n"
    );
    let text = text.replace("redis://r", "redis://planted-user:planted-password@r");
    let shown = format!("{:?}", settings(&text));
    assert!(!shown.contains("planted"), "{shown}");
}
