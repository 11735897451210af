//! `share`: what is said of it, and its mistakes.

use std::time::Duration;

use http::HeaderName;
use insta::assert_snapshot;
use ssegate_hub::Replay;

use super::{mistakes, settings, with_routes};
use crate::config::defaults::REFERENCE;
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
    assert_snapshot!(report.replace(")routes", ")\nroutes"), @r#"
    routes[0].share: needs proxy on the same route, whose backend's event streams are shared (gateway.yaml:4:45)
    routes[0].share: cannot be on a route with keep: it has its own way to serve the backend's streams; make a second route, for the paths of one of them (gateway.yaml:4:51)
    routes[0].share: cannot be on a route with handover: it has its own way to serve the backend's streams; make a second route, for the paths of one of them (gateway.yaml:4:51)
    routes[0].share: needs GET among methods of the route; requests with other methods are never shared (gateway.yaml:4:51)
    routes[0].share.key[1]: header:a is in the key already; remove one of them (gateway.yaml:4:70)
    routes[0].share.key[3]: cookie:s is in the key already; remove one of them (gateway.yaml:4:94)
    routes[0].share.key[4]: header:cookie is every cookie, also those that are named; remove it, or cookie:NAME (gateway.yaml:4:106)
    routes[0].share.key[5]: "x_user" has a character that backends read as a hyphen; use a name of letters, digits and hyphens (gateway.yaml:4:123)
    routes[0].share.key[0]: "Via" is what the gateway tells the backend; remove it (gateway.yaml:4:58)
    routes[0].share.key[1]: "X-Forwarded-For" is what the gateway tells the backend; remove it (gateway.yaml:4:72)
    routes[0].share.key[2]: "host" is part of every key; remove it (gateway.yaml:4:98)
    routes[0].share.key[3]: "te" concerns one connection or a body, and not what is asked for; remove it (gateway.yaml:4:113)
    routes[0].share.key[4]: "last-event-id" says where a reader is, which readers of one stream do not have in common; remove it (gateway.yaml:4:126)
    routes[0].share.key[5]: "jwt:sub" is not known here; send the claim to the backend in a field (proxy.pass), and name that one: header:NAME (gateway.yaml:4:150)
    routes[0].share.key[6]: "x-user" is not known here; use header:NAME or cookie:NAME (gateway.yaml:4:161)
    routes[0].share.key[7]: "a b" is not the name of a cookie (gateway.yaml:4:171)
    routes[0].share.replay: expected none, last, all or a number from 1 to 10000; this is "first" (gateway.yaml:4:60)
    routes[0].share.leave: "never" is not a duration; use forms like 30s or 5m (gateway.yaml:4:74)
    routes[0].share.limits.upstreams: must be at least 1; this is 0 (gateway.yaml:4:101)
    routes[0].share.limits.events: must be at least 1; this is 0 (gateway.yaml:4:112)
    routes[0].share.limits.bytes: must be at least 1KiB; this is 1B (gateway.yaml:4:122)
    "#);
}
