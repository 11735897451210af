//! `keep`: what is said of it, and its mistakes.

use std::time::Duration;

use http::Method;
use insta::assert_snapshot;

use super::{mistakes, settings, with_routes};
use crate::route::{KeepSettings, KeepStore, OnLost, OwnerCredential, SameKey, WhenNobody};

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
fn streams_are_kept_for_all_gateways_only_where_others_have_the_redis() {
    let secret = "s".repeat(32);
    let yaml = keep(&format!("public: true, store: redis, secret: {secret}"));
    let store = settings(&yaml).routes[0].keep.as_ref().expect("it keeps").store.clone();
    assert!(matches!(&store, KeepStore::Redis(secret) if secret.bytes() == [b's'; 32]));
    assert!(!format!("{store:?}").contains(&secret));
    let report = mistakes(&yaml.replace("redis://r", "embedded://127.0.0.1:1"));
    assert!(report.contains("keep.store: redis is not supported with embedded://"), "{report}");
}

#[test]
fn its_mistakes_are_explained() {
    let report = mistakes(&keep(""))
        + &mistakes(&with_routes("- {path: /, events: {channels: [a]}, keep: {public: true}}\n"))
        + &mistakes(&keep(
            "owner: [\"jwt:sub\", \"query:t\"], methods: [HEAD], key: [\"body:id\"], store: disk, \
             when_nobody: stop, same_key: one, on_lost: silence, limits: {bytes: 1}",
        ))
        + &mistakes(&keep("public: true, resume_at: \"{path}/{key}/stream\""))
        + &mistakes(&keep("public: true, key: [\"header:x\"], resume_at: \"/{id}\""))
        + &mistakes(&keep("public: true, store: redis"))
        + &mistakes(&keep("public: true, store: redis, secret: short"))
        + &mistakes(&keep("public: true, secret: short"));
    assert_snapshot!(report.replace(")routes", ")\nroutes"), @r#"
    routes[0].keep.owner: missing; list what says whose a stream is, such as [authorization] or ["cookie:session"]; or, if everybody who knows a stream's address may read it, public: true (gateway.yaml:4:50)
    routes[0].keep: needs proxy on the same route, whose backend's event streams are kept (gateway.yaml:4:44)
    routes[0].keep.methods: a response to HEAD is never an event stream to keep (gateway.yaml:4:50)
    routes[0].keep.owner[0]: jwt: needs auth on the route, or for the whole file (gateway.yaml:4:59)
    routes[0].keep.owner[1]: "query:t" is not known here; use the name of a header, cookie:NAME or jwt:CLAIM (gateway.yaml:4:70)
    routes[0].keep.key[0]: "body:id" is not a JSON pointer; use forms like body:/id (gateway.yaml:4:105)
    routes[0].keep.store: expected memory or redis; this is "disk" (gateway.yaml:4:124)
    routes[0].keep.when_nobody: expected continue, cancel or a form like cancel_after 30s; this is "stop" (gateway.yaml:4:143)
    routes[0].keep.same_key: expected parallel, replace or reject; this is "one" (gateway.yaml:4:159)
    routes[0].keep.on_lost: expected cut, openai, anthropic, ai-sdk or gap; this is "silence" (gateway.yaml:4:173)
    routes[0].keep.limits.bytes: must be at least 1KiB; this is 1B (gateway.yaml:4:198)
    routes[0].keep.key: missing; resume_at finds streams by their names, such as ["body:/id"] (gateway.yaml:4:50)
    routes[0].keep.resume_at: write {key} as one segment, behind {path} or a path: {path}/{key}/stream (gateway.yaml:4:95)
    routes[0].keep.secret: missing; set the secret by which all gateways know whose a stream is, the same at each, such as ${KEEP_SECRET:?openssl rand -base64 32} (gateway.yaml:4:50)
    routes[0].keep.secret: has 5 bytes, at least 32 are required; generate one with: openssl rand -base64 32 (gateway.yaml:4:87)
    routes[0].keep.secret: has no effect without store: redis; remove it, or set that (gateway.yaml:4:73)
    "#);
}
