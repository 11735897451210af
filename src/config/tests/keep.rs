//! `keep`: what is said of it, and its mistakes.

use std::time::Duration;

use http::Method;
use insta::assert_snapshot;

use super::{mistakes, settings, with_routes};
use crate::route::{KeepSettings, OnLost, OwnerCredential, SameKey, WhenNobody};

fn keep(text: &str) -> String {
    with_routes(&format!("- {{path: /, proxy: {{upstream: \"http://b\"}}, keep: {{{text}}}}}\n"))
}

#[test]
fn what_is_not_said_has_its_default() {
    let settings_of = |text: &str| {
        let settings = settings(&keep(text));
        KeepSettings::clone(settings.routes[0].keep.as_ref().expect("it keeps"))
    };
    let owner = vec![OwnerCredential::Cookie("session".into())];
    let defaults = KeepSettings { owner, ..KeepSettings::default() };
    assert_eq!(settings_of("owner: [\"cookie:session\"]"), defaults);
    let changed = settings_of(
        "owner: [\"cookie:session\"], methods: [PUT], key: [\"body:/id\"], when_nobody: cancel_after 1m, \
         same_key: replace, resume_at: \"{path}/{key}\", after_end: 0s, on_lost: ai-sdk, store: memory, \
         limits: {age: 1h, bytes: 1MiB, events: 10, per_owner: 3, total: 2MiB}",
    );
    assert_eq!(changed.methods, [Method::PUT]);
    assert_eq!(changed.when_nobody, WhenNobody::CancelAfter(Duration::from_secs(60)));
    assert_eq!((changed.same_key, changed.on_lost), (SameKey::Replace, OnLost::AiSdk));
    assert_eq!((changed.key.len(), changed.resume_at.is_some()), (1, true));
    assert_eq!((changed.limits.per_owner, changed.limits.total), (3, 2 << 20));
    assert!(settings(&keep("public: true")).routes[0].keep.as_ref().expect("it keeps").is_public);
}

#[test]
fn its_mistakes_are_explained() {
    let report = mistakes(&keep(""))
        + &mistakes(&with_routes("- {path: /, events: {channels: [a]}, keep: {public: true}}\n"))
        + &mistakes(&keep(
            "owner: [\"jwt:sub\", \"query:t\"], methods: [HEAD], key: [\"body:id\"], store: redis, \
             when_nobody: stop, same_key: one, on_lost: silence, limits: {bytes: 1}",
        ))
        + &mistakes(&keep("public: true, resume_at: \"{path}/{key}/stream\""))
        + &mistakes(&keep("public: true, key: [\"header:x\"], resume_at: \"/{id}\""));
    assert_snapshot!(report.replace(")routes", ")\nroutes"), @"");
}
