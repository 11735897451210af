//! What `ssegate check --print` prints is what was read, with every default, and without a secret.

use proptest::prelude::*;

use super::super::printed::{SecretDisplay, print};
use super::super::text::Text;
use super::{settings, with, with_routes};
use crate::config::defaults::REFERENCE;

fn printed(text: &str, secrets: SecretDisplay) -> String {
    let settings = settings(text);
    print(&Text::new("gateway.yaml", text), &settings, secrets)
        .unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

/// The settings, without the lines at which secrets stand.
fn shown(text: &str) -> String {
    let mut settings = settings(text);
    settings.secrets = Vec::new();
    format!("{settings:#?}")
}

/// A configuration with a secret of every kind, each with `planted` in it.
const SECRETS: &str = r#"
listeners: [{ address: 127.0.0.1:80 }]
redis: { url: "redis://gate:planted-redis@r:6379/3" }
admin: { auth: { tokens: [{ name: ops, sha256: "70b1a7ed0b1a7ed0b1a7ed0b1a7ed0b1a7ed0b1a7ed0b1a7ed0b1a7ed0b1a7ed" }] } }
fleet: { key: "planted-fleet-key-of-at-least-thirty-two-bytes" }
revocation: { control_channel: "ssegate:c", key: "planted-revocation-key-of-thirty-two-bytes" }
auth:
  any:
    - jwt: { keys: [planted-first-jwt-key-of-thirty-two-bytes-or, "planted://jwt-key-of-thirty-two-bytes"], algorithms: HS256 }
    - signed_url: { keys: { k1: planted-url-key-of-at-least-thirty-two-bytes } }
    - tokens: [{ name: cron, sha256: "81b1a7ed0b1a7ed0b1a7ed0b1a7ed0b1a7ed0b1a7ed0b1a7ed0b1a7ed0b1a7ed" }]
routes:
  - path: /events/{channel}
    events: { channels: ["{channel}"] }
  - path: /{*rest}
    proxy:
      upstream: http://127.0.0.1:8000
      pass:
        x-user: "{auth.id}"
        x-api-key: planted-upstream-credential
        x-both: "planted-key-{auth.id}-anted"
    handover: { key: planted-handover-key-of-thirty-two-bytes }
"#;

#[test]
fn what_is_printed_is_read_as_the_same_settings() {
    let texts = [
        REFERENCE.to_owned(),
        SECRETS.to_owned(),
        with(""),
        with("sse: { keep_alive: 3s, history: { age: 1m }, queue: { when_full: latest } }\nshards: 1\n"),
        with("sse: { history: off }\nadmin: off\nfleet: off\nlimits: { body: 1MiB, requests_per_address: 5 }\n"),
        with_routes("- { path: /a, events: { channels: [a], source: stream } }\n"),
        with_routes("- { path: /a, events: { channels: [a], history: off, patterns: true } }\n"),
        with_routes("- { path: /a, proxy: { upstream: \"https://h\", http2: true, tls: { server_name: x } } }\n"),
        with_routes("- { path: /a, proxy: { upstream: [\"unix:/s\", \"http://h\"] }, keep: { owner: [authorization] } }\n"),
        with_routes("- { path: /a, host: h.example, methods: [GET], cors: { origins: [\"*\"] }, events: { channels: [\"$$x\"] } }\n"),
        "listeners: [{ address: \"[::1]:0\", tls: { self_signed: true } }]\nredis: { url: \"embedded://127.0.0.1:1\" }\n\
         routes: [{ path: \"/{a}/{*b}\", events: { channels: [\"{a}:{b}\", \"{query.x}\"] } }]\n"
            .to_owned(),
    ];
    for text in texts {
        let yaml = printed(&text, SecretDisplay::Shown);
        assert_eq!(shown(&yaml), shown(&text), "{yaml}");
        // What is printed once is complete.
        let values = |yaml: &str| yaml.lines().filter(|line| !line.is_empty()).count();
        assert_eq!(values(&printed(&yaml, SecretDisplay::Shown)), values(&yaml), "{yaml}");
    }
}

#[test]
fn every_default_is_filled_in_and_marked() {
    let yaml = printed(&with("sse: { keep_alive: 3s }\n"), SecretDisplay::Hidden);
    for line in [
        "drain: 10s  # default",
        "  connections: 100000  # default",
        "  address: 127.0.0.1:9464  # default",
        "      keep_alive: 3s  # of sse",
        "      retry: 3s  # default",
        "  keep_alive: 3s",
        "  level: info  # default",
    ] {
        assert!(yaml.lines().any(|one| one == line), "{line:?} is not in\n{yaml}");
    }
    let defaults = yaml.lines().filter(|line| line.ends_with("# default")).count();
    assert!(defaults > 80, "only {defaults}:\n{yaml}");
}

#[test]
fn no_secret_is_printed_and_the_rest_is() {
    let yaml = printed(SECRETS, SecretDisplay::Hidden);
    assert!(!yaml.contains("anted"), "{yaml}");
    assert!(!yaml.contains("b1a7ed"), "{yaml}");
    for kept in [
        "url: \"redis://gate:(hidden)@r:6379/3\"",
        "sha256: \"(hidden)\"",
        "k1: \"(hidden)\"",
        "x-api-key: \"(hidden)\"",
        "x-user: \"{auth.id}\"",
        "x-both: \"(hidden){auth.id}(hidden)\"",
        "control_channel: \"ssegate:c\"",
    ] {
        assert!(yaml.contains(kept), "{kept} is not in\n{yaml}");
    }
    assert!(yaml.matches("(hidden)").count() >= 10, "{yaml}");
}

#[test]
fn a_secret_that_stands_in_another_place_is_hidden_there_too() {
    let text =
        with("").replace("redis://r", "redis://:hunter2-x@r").replace("[news]", "[\"hunter2-x\"]");
    let yaml = printed(&text, SecretDisplay::Hidden);
    assert!(!yaml.contains("hunter2"), "{yaml}");
    let socket = "\"redis+unix:///run/r.sock?db=0&user=u&pass=hunter2\"";
    let yaml = printed(&with("").replace("redis://r", socket), SecretDisplay::Hidden);
    let expected = "redis+unix:///run/r.sock?db=0&user=u&pass=(hidden)";
    assert!(yaml.contains(expected) && !yaml.contains("hunter2"), "{yaml}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_names_are_printed_as_they_are(
        channel in "[ -~äöü日\u{7f}]{1,20}",
        agent in "[ -~]{1,20}",
    ) {
        let channel = channel.replace(['{', '}'], "");
        let yaml = |text: &str| serde_json::to_string(&text.replace('$', "$$")).expect("JSON");
        let text = with_routes(&format!(
            "- {{ path: /a, events: {{ channels: [{}] }} }}\n- {{ path: /b, proxy: {{ upstream: \"http://h\", host: {} }} }}\n",
            yaml(&channel),
            yaml(&agent),
        ));
        // Not all of them are valid names.
        if crate::config::parse(&text, "gateway.yaml", &|_| None).is_ok() {
            let printed = printed(&text, SecretDisplay::Shown);
            prop_assert_eq!(shown(&printed), shown(&text));
        }
    }
}
