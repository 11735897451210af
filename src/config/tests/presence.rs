//! `presence`: what is said of it, and its mistakes.

use std::time::Duration;

use super::{mistakes, settings, with_routes};
use crate::config::defaults::REFERENCE;
use crate::route::PresenceSettings;

const AUTH: &str = "auth: {jwt: {keys: 0123456789abcdef0123456789abcdef, algorithms: HS256}}";

fn route(presence: &str) -> String {
    with_routes(&format!(
        "- {{path: /, events: {{channels: [a]}}, {AUTH}, presence: {{{presence}}}}}\n"
    ))
}

fn settings_of(text: &str) -> PresenceSettings {
    let settings = settings(text);
    PresenceSettings::clone(settings.routes[0].presence.as_ref().expect("it has presence"))
}

#[test]
fn what_is_not_said_has_its_default() {
    let identify = "{auth.id}".to_owned();
    let default = PresenceSettings { identify, ..PresenceSettings::default() };
    assert_eq!(settings_of(&route("identify: \"{auth.id}\"")), default);
    let changed = settings_of(&route(
        "identify: \"u:{claim.name}\", events: true, grace: 1m, max_members: 3, \
         on_vacated: \"https://a.example/v?token=x\", key: 0123456789abcdef0123456789abcdef",
    ));
    assert_eq!((&*changed.identify, changed.has_events), ("u:{claim.name}", true));
    assert_eq!((changed.grace, changed.max_members), (Duration::from_secs(60), 3));
    let webhook = changed.on_vacated.expect("it is told");
    assert_eq!(webhook.to_string(), "https://a.example/v", "the query may be a secret");
    assert_eq!(changed.on_occupied, None);

    let block = REFERENCE.split_once("    # presence:\n").expect("it is in gateway.yaml").1;
    let block = block.lines().map_while(|line| line.strip_prefix("    #   "));
    let block: String = block
        .filter(|line| !line.starts_with("on_") && !line.starts_with("key"))
        .map(|line| format!("      {line}\n"))
        .collect();
    let written =
        format!("  - path: /\n    events: {{channels: [a]}}\n    {AUTH}\n    presence:\n{block}");
    assert_eq!(settings_of(&with_routes(&written)), default);
}

#[test]
fn its_mistakes_are_explained() {
    const WHO: &str = "identify: \"{auth.id}\"";
    let events = |events: &str, presence: &str| {
        with_routes(&format!(
            "- {{path: /, events: {{channels: [\"{{query.a}}\"], {events}}}, {AUTH}, presence: {{{WHO}, {presence}}}}}\n"
        ))
    };
    for (text, expected) in [
        (route(""), "presence.identify: missing; set what a member is called"),
        (route("identify: \"{query.name}\""), "could be anybody"),
        (route("identify: everybody"), "is the same for everybody"),
        (route("identify: \"{id}\""), "is not of the credential; use {auth.id} or {claim.name}"),
        (route("identify: \"{auth.id}-{id}\""), "{id} is not a parameter of this route's path"),
        (route(&format!("{WHO}, max_members: 0")), "max_members: must be at least 1"),
        (route(&format!("{WHO}, grace: 11m")), "grace: is longer than 10m"),
        (route(&format!("{WHO}, events: perhaps")), "presence.events: "),
        (
            route(&format!("{WHO}, key: 0123456789abcdef0123456789abcdef")),
            "set on_occupied or on_vacated, too",
        ),
        (
            route(&format!("{WHO}, on_occupied: \"http://a/\"")),
            "presence.key: missing; set the secret",
        ),
        (
            route(&format!("{WHO}, on_occupied: \"http://a/\", key: short")),
            "at least 32 are required",
        ),
        (
            route(&format!("{WHO}, on_vacated: /hooks, key: 0123456789abcdef0123456789abcdef")),
            "\"/hooks\" is not a URL; use a form like https://app.example/hooks/presence",
        ),
        (events("patterns: true", ""), "remove patterns: true of events"),
        (events("sharded: true", ""), "presence: is not supported with sharded: true"),
        (events("source: stream", "events: true"), "can send events only with source: pubsub"),
        (
            with_routes(&format!(
                "- {{path: /, events: {{channels: [a]}}, presence: {{{WHO}}}}}\n"
            )),
            "presence: needs auth on the route, which says who listens",
        ),
        (
            with_routes(&format!(
                "- {{path: /, proxy: {{upstream: \"http://b\"}}, {AUTH}, presence: {{{WHO}}}}}\n"
            )),
            "presence: needs events on the same route",
        ),
    ] {
        let report = mistakes(&text);
        assert!(report.contains(expected), "{text}\n{report}");
    }
    assert!(
        !mistakes(&route(&format!("{WHO}, on_occupied: \"http://a/\", key: hunter2")))
            .contains("hunter2")
    );
    let clustered = settings(&route(WHO).replace("redis://r", "redis+cluster://r"));
    assert!(clustered.routes[0].presence.is_some());
    // A log has no joins, and all the rest.
    let log = settings(&events("source: stream", ""));
    assert!(log.routes[0].presence.is_some());
}
