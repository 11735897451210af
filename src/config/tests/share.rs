//! `share`: what is said of it, and its mistakes.

use std::time::Duration;

use http::HeaderName;
use insta::assert_snapshot;
use ssegate_hub::Replay;

use super::{REFERENCE, mistakes, settings, with_routes};
use crate::config::schema;
use crate::route::{ShareKeyPart, ShareLimits, ShareSettings};

fn share(text: &str) -> String {
    with_routes(&format!("- {{path: /, proxy: {{upstream: \"http://b\"}}, share: {{{text}}}}}\n"))
}

fn settings_of(text: &str) -> ShareSettings {
    let settings = settings(text);
    let share = ShareSettings::clone(settings.routes[0].share.as_ref().expect("it shares"));
    // The settings of the streams have what `sse` and these settings say.
    assert_eq!(share.stream.replay, share.replay);
    assert!(share.stream.linger > share.leave, "a channel is there as long as its stream");
    ShareSettings { stream: ShareSettings::default().stream, ..share }
}

#[test]
fn what_is_not_said_has_its_default() {
    assert_eq!(settings_of(&share("")), ShareSettings::default());
    let changed = settings_of(&share(
        "key: [\"header:Accept-Language\", \"cookie:region\"], anonymous: true, replay: 20, leave: 0s, \
         limits: {upstreams: 3, events: 5, bytes: 1KiB}",
    ));
    let language = ShareKeyPart::Header(HeaderName::from_static("accept-language"));
    assert_eq!(
        changed,
        ShareSettings {
            key: vec![language, ShareKeyPart::Cookie("region".into())],
            is_anonymous: true,
            replay: Replay::Newest(20),
            leave: Duration::ZERO,
            limits: ShareLimits { upstreams: 3, events: 5, bytes: 1024 },
            ..ShareSettings::default()
        }
    );
    for (replay, expected) in
        [("none", Replay::None), ("last", Replay::Newest(1)), ("all", Replay::All)]
    {
        assert_eq!(settings_of(&share(&format!("replay: {replay}"))).replay, expected);
    }
}

#[test]
fn the_defaults_that_are_documented_are_the_defaults() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).expect("JSON");
    let documented = |name: &str| {
        let keys = schema["definitions"][name]["properties"].as_object().expect("a mapping");
        let defaults = keys.iter().filter_map(|(key, node)| {
            let (_, after) = node["description"].as_str()?.split_once("Default: `")?;
            Some(format!("{key}: {}", after.split_once('`')?.0))
        });
        defaults.collect::<Vec<_>>()
    };
    let (keys, limits) = (documented("Share"), documented("ShareLimits"));
    assert_eq!((keys.len(), limits.len()), (4, 3), "{keys:?} {limits:?}");
    let text = format!("{}, limits: {{{}}}", keys.join(", "), limits.join(", "));
    assert_eq!(settings_of(&share(&text)), ShareSettings::default());

    let block = REFERENCE.split_once("    # share:\n").expect("share is in gateway.yaml").1;
    let block = block.lines().map_while(|line| line.strip_prefix("    # "));
    let block: String = block.map(|line| format!("    {line}\n")).collect();
    let route = "  - path: /\n    proxy: { upstream: \"http://b\" }\n    share:\n";
    let written = settings_of(&with_routes(&format!("{route}{block}")));
    let key = vec![ShareKeyPart::Header(HeaderName::from_static("accept-language"))];
    assert_eq!(written, ShareSettings { key, ..ShareSettings::default() });
}

#[test]
fn its_mistakes_are_explained() {
    let beside = |more: &str| {
        let route =
            format!("- {{path: /, proxy: {{upstream: \"http://b\"}}, share: {{}}, {more}}}\n");
        mistakes(&with_routes(&route))
    };
    let report = mistakes(&with_routes("- {path: /, events: {channels: [a]}, share: {}}\n"))
        + &beside("keep: {public: true}")
        + &beside("handover: {key: 0123456789abcdef0123456789abcdef}")
        + &beside("methods: [POST]")
        + &mistakes(&share(
            "key: [\"header:a\", \"header:A\", \"cookie:s\", \"cookie:s\", \"header:cookie\", \"header:x_user\"]",
        ))
        + &mistakes(&share(
            "key: [\"header:Via\", \"header:X-Forwarded-For\", \"header:host\", \"header:te\", \
             \"header:last-event-id\", \"jwt:sub\", \"x-user\", \"cookie:a b\"]",
        ))
        + &mistakes(&share(
            "replay: first, leave: never, limits: {upstreams: 0, events: 0, bytes: 1}",
        ));
    assert_snapshot!(report.replace(")routes", ")\nroutes"), @"");
}
