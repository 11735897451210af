//! `publish`: what it is without a key, and its mistakes.

use http::Method;

use super::{mistakes, settings, with_routes};
use crate::route::{PublishSettings, Target};

const AUTH: &str = "auth: { tokens: [{ name: cron, sha256: 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b }] }";

fn routes(routes: &str) -> String {
    format!("{AUTH}\n{}", with_routes(routes))
}

#[test]
fn the_channel_is_the_only_parameter_of_the_path_or_what_the_claim_lists() {
    let settings = settings(&routes(
        "- {path: \"/publish/{channel}\", publish: {}}\n\
         - {path: /publish, publish: {claim: publish}}\n\
         - {path: \"/orders/{id}\", methods: [POST], publish: {channels: [\"orders:{id}\", all], claim: p, max_body: 2KiB, max_stream_entries: 50}}\n",
    ));
    let publish = |index: usize| match &settings.routes[index].target {
        Target::Publish(publish) => publish.clone(),
        other => panic!("{other:?}"),
    };
    let channels = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let claim = Some("publish".to_owned());
    let defaults = PublishSettings::default();
    assert_eq!(
        publish(0),
        PublishSettings { channels: channels(&["{channel}"]), ..defaults.clone() }
    );
    assert_eq!(publish(1), PublishSettings { claim, ..defaults });
    let third = PublishSettings {
        channels: channels(&["orders:{id}", "all"]),
        claim: Some("p".to_owned()),
        max_body: 2 << 10,
        max_stream_entries: Some(50),
    };
    assert_eq!(publish(2), third);
    assert!(settings.routes.iter().all(|route| route.methods == [Method::POST]));
}

#[test]
fn a_mistake_says_how_to_fix_it() {
    for (route, expected) in [
        ("{path: \"/{a}\", publish: {}, auth: off}", "routes[0].publish: needs auth on the route"),
        ("{path: /, publish: {}}", "routes[0].publish.channels: missing; set the channels"),
        (
            "{path: \"/{a}/{b}\", publish: {}}",
            "routes[0].publish.channels: missing; set the channels",
        ),
        (
            "{path: /, publish: {channels: [\"{x}\"]}}",
            "{x} is not a parameter of this route's path",
        ),
        (
            "{path: \"/{a}\", publish: {}, methods: [POST, PUT]}",
            "routes[0].methods: a publish route has only POST",
        ),
        (
            "{path: \"/{a}\", publish: {max_body: 0}}",
            "routes[0].publish.max_body: must be at least 1",
        ),
        ("{path: \"/{a}\", publish: {claim: \"\"}}", "routes[0].publish.claim: is empty"),
        (
            "{path: \"/{a}\", publish: {}, events: {channels: [x]}}",
            "routes[0]: has events and publish; only one of them can be there",
        ),
    ] {
        let report = mistakes(&routes(&format!("- {route}\n")));
        assert!(report.contains(expected), "{route}: {report}");
        assert_eq!(report.lines().count(), 1, "one mistake is one line: {report}");
    }
    let open = mistakes(&with_routes("- {path: \"/{a}\", publish: {}}\n"));
    assert!(open.contains("needs auth"), "{open}");
}
