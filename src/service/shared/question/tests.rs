use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderName, HeaderValue, Request};

use super::SharedQuestion;
use crate::route::{ShareKeyPart, ShareSettings};
use crate::service::shared::alone::Alone;
use crate::service::shared::origin::RequestOrigin;

const DIRECT: RequestOrigin<'static> = RequestOrigin {
    scope: "route",
    is_tls: false,
    is_trusted: false,
    has_body: false,
    identity: &[],
};
const BEHIND: RequestOrigin<'static> = RequestOrigin { is_trusted: true, ..DIRECT };

fn settings(key: &[&str]) -> ShareSettings {
    let part = |text: &&str| match text.split_once(':').expect("a part") {
        ("cookie", name) => ShareKeyPart::Cookie(name.to_owned()),
        (_, name) => ShareKeyPart::Header(name.parse().expect("a name")),
    };
    ShareSettings { key: key.iter().map(part).collect(), ..ShareSettings::default() }
}

fn anonymous(key: &[&str]) -> ShareSettings {
    ShareSettings { is_anonymous: true, ..settings(key) }
}

/// A GET for a stream. Its first lines are fields; `target` is a path, or more of a URL.
fn get(target: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::get(target).header("accept", "text/event-stream");
    if !fields.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "app.example");
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

fn asked(
    request: &Request<()>,
    origin: RequestOrigin<'_>,
    settings: &ShareSettings,
) -> SharedQuestion {
    let question = SharedQuestion::of(request, origin, settings);
    question.unwrap_or_else(|why| panic!("{why:?}: {request:?}"))
}

/// What is sent, a line for each field.
fn sent(question: &SharedQuestion) -> String {
    let request = question.request(None);
    let mut lines: Vec<String> = request
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .filter(|line| !line.starts_with("accept: ") && !line.starts_with("accept-encoding: "))
        .collect();
    lines.insert(0, format!("{} {}", request.method(), request.uri()));
    lines.join("\n")
}

#[test]
fn requests_that_are_alone() {
    let with =
        |fields: &[(&str, &str)]| SharedQuestion::of(&get("/a", fields), DIRECT, &settings(&[]));
    for (fields, expected) in [
        (&[][..], None),
        (&[("user-agent", "a"), ("accept-language", "de"), ("x-request-id", "1")], None),
        (&[("if-none-match", "\"a\""), ("cache-control", "no-cache")], None),
        (&[("last-event-id", "7")], None),
        (
            &[("x-forwarded-user", "alice"), ("x-forwarded-for", "1.2.3.4"), ("forwarded", "a")],
            None,
        ),
        (&[("upgrade", "h2c"), ("connection", "upgrade, http2-settings")], None),
        (&[("cookie", "")], None),
        (&[("cookie", " ; ")], None),
        (&[("authorization", "Bearer a")], Some(Alone::Credential)),
        (&[("authorization", "")], Some(Alone::Credential)),
        (&[("proxy-authorization", "Basic a")], Some(Alone::Credential)),
        (&[("cookie", "a=1")], Some(Alone::Credential)),
        (&[("cookie", "nameless")], Some(Alone::Credential)),
        (&[("x-api-key", "a")], Some(Alone::Credential)),
        (&[("upgrade", "websocket")], Some(Alone::Upgrade)),
        (&[("mcp-protocol-version", "2025-06-18")], Some(Alone::Mcp)),
        (&[("mcp-session-id", "1")], Some(Alone::Mcp)),
        (&[("range", "bytes=0-")], Some(Alone::Conditional)),
        (&[("if-match", "*")], Some(Alone::Conditional)),
        (&[("if-unmodified-since", "now")], Some(Alone::Conditional)),
        (&[("expect", "100-continue")], Some(Alone::Body)),
        (&[("x-http-method-override", "DELETE")], Some(Alone::Method)),
        (&[("x-original-url", "/admin")], Some(Alone::Method)),
    ] {
        assert_eq!(with(fields).err(), expected, "{fields:?}");
    }
    for method in ["HEAD", "POST", "OPTIONS", "PUT", "DELETE"] {
        let mut request = get("/a", &[]);
        *request.method_mut() = method.parse().expect("a method");
        let question = SharedQuestion::of(&request, DIRECT, &settings(&[]));
        assert_eq!(question.err(), Some(Alone::Method), "{method}");
    }
    let with_body = RequestOrigin { has_body: true, ..DIRECT };
    let question = SharedQuestion::of(&get("/a", &[]), with_body, &settings(&[]));
    assert_eq!(question.err(), Some(Alone::Body));
    let mut without_host = get("/a", &[]);
    without_host.headers_mut().remove("host");
    let question = SharedQuestion::of(&without_host, DIRECT, &settings(&[]));
    assert_eq!(question.err(), Some(Alone::Host));
}

#[test]
fn accept_has_to_name_event_streams() {
    for (accept, expected) in [
        ("text/event-stream", true),
        ("application/json, Text/Event-Stream; charset=utf-8", true),
        ("text/event-stream;q=0.5", true),
        ("text/event-stream; q=0", false),
        ("text/event-stream;Q=0.000", false),
        ("*/*", false),
        ("text/*", false),
        ("text/event-streams", false),
        ("", false),
    ] {
        let mut request = get("/a", &[]);
        request.headers_mut().insert("accept", HeaderValue::from_static(accept));
        let question = SharedQuestion::of(&request, DIRECT, &settings(&[]));
        assert_eq!(question.is_ok(), expected, "{accept}");
    }
    let mut request = get("/a", &[]);
    request.headers_mut().remove("accept");
    assert!(SharedQuestion::of(&request, DIRECT, &settings(&[])).is_err());
}

#[test]
fn the_backend_is_sent_what_is_in_the_key_and_nothing_else() {
    let fields = [
        ("host", "App.Example:8080"),
        ("accept-language", "de"),
        ("accept-language", "en, fr"),
        ("user-agent", "secret"),
        ("referer", "secret"),
        ("origin", "https://secret.example"),
        ("sec-fetch-site", "secret"),
        ("accept", "application/secret"),
        ("accept-encoding", "gzip"),
        ("last-event-id", "secret"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "secret.example"),
        ("x-forwarded-user", "secret"),
        ("forwarded", "for=secret"),
        ("via", "1.1 secret"),
        ("x-empty", ""),
        ("cookie", "b=2; a=\"1\""),
    ];
    let request = get("/A%2f?x=1&last_event_id=secret&Y", &fields);
    let key = [
        "header:accept-language",
        "header:x-empty",
        "header:x-none",
        "cookie:a",
        "cookie:b",
        "cookie:c",
    ];
    let question = asked(&request, DIRECT, &settings(&key));
    let expected = "GET /A%2f?x=1&Y\nhost: app.example:8080\nx-forwarded-host: app.example:8080\n\
                    x-forwarded-proto: http\naccept-language: de\naccept-language: en, fr\nx-empty: \n\
                    cookie: a=\"1\"; b=2";
    assert_eq!(sent(&question), expected);
    let fixed = question.request(Some(&HeaderValue::from_static("ours")));
    assert_eq!(fixed.headers()["accept"], "text/event-stream");
    assert_eq!(fixed.headers()["accept-encoding"], "identity");
    assert_eq!(fixed.headers()["last-event-id"], "ours");
    assert!(!format!("{question:?} {:?}", question.key()).contains("de"), "it has secrets");
}

#[test]
fn credentials_outside_the_key_are_stripped_where_everybody_is_nobody() {
    let fields = [
        ("authorization", "Bearer secret"),
        ("cookie", "session=secret; region=eu"),
        ("x-api-key", "secret"),
    ];
    let identity = [(HeaderName::from_static("x-user"), HeaderValue::from_static("secret"))];
    let origin = RequestOrigin { identity: &identity, ..DIRECT };
    let question = asked(&get("/a", &fields), origin, &anonymous(&["cookie:region"]));
    let expected = "GET /a\nhost: app.example\nx-forwarded-host: app.example\n\
                    x-forwarded-proto: http\ncookie: region=eu";
    assert_eq!(sent(&question), expected);
    let nobody =
        asked(&get("/a", &[("cookie", "region=eu")]), DIRECT, &anonymous(&["cookie:region"]));
    assert!(question.key() == nobody.key());
    let named =
        asked(&get("/a", &[("cookie", "region=eu")]), DIRECT, &settings(&["cookie:region"]));
    assert!(question.key() != named.key(), "the same route before a reload");
}

/// Two requests that must not have a stream together, with what the key has.
type Pair<'a> =
    (&'a [&'a str], (&'a str, &'a [(&'a str, &'a str)]), (&'a str, &'a [(&'a str, &'a str)]));

#[test]
fn requests_that_differ_in_the_key_have_no_stream_together() {
    let pairs: &[Pair<'_>] = &[
        (&[], ("/a", &[]), ("/A", &[])),
        (&[], ("/a", &[]), ("/%61", &[])),
        (&[], ("/a", &[]), ("/a/", &[])),
        (&[], ("/a", &[]), ("/a?", &[])),
        (&[], ("/a?x=1", &[]), ("/a?x=2", &[])),
        (&[], ("/a?x=1&y=2", &[]), ("/a?y=2&x=1", &[])),
        (&[], ("/a", &[("host", "a.example")]), ("/a", &[("host", "b.example")])),
        (&[], ("/a", &[("host", "a.example")]), ("/a", &[("host", "a.example:8080")])),
        (&["header:x"], ("/a", &[("x", "1")]), ("/a", &[("x", "2")])),
        (&["header:x"], ("/a", &[("x", "")]), ("/a", &[])),
        (&["header:x"], ("/a", &[("x", "1"), ("x", "2")]), ("/a", &[("x", "2"), ("x", "1")])),
        (&["header:x"], ("/a", &[("x", "1"), ("x", "2")]), ("/a", &[("x", "1, 2")])),
        (&["header:x"], ("/a", &[("x", "1"), ("x", "")]), ("/a", &[("x", "1")])),
        (&["header:x", "header:y"], ("/a", &[("x", "1")]), ("/a", &[("y", "1")])),
        (&["header:x", "header:y"], ("/a", &[("x", "ab")]), ("/a", &[("x", "a"), ("y", "b")])),
        (
            &["header:authorization"],
            ("/a", &[("authorization", "a")]),
            ("/a", &[("authorization", "b")]),
        ),
        (&["header:authorization"], ("/a", &[("authorization", "a")]), ("/a", &[])),
        (&["cookie:s"], ("/a", &[("cookie", "s=1")]), ("/a", &[("cookie", "s=2")])),
        (&["cookie:s"], ("/a", &[("cookie", "s=")]), ("/a", &[])),
        (&["cookie:s", "cookie:t"], ("/a", &[("cookie", "s=1")]), ("/a", &[("cookie", "t=1")])),
        (&["header:cookie"], ("/a", &[("cookie", "s=1")]), ("/a", &[("cookie", "s=1; t=1")])),
        (&["header:s", "cookie:s"], ("/a", &[("s", "1")]), ("/a", &[("cookie", "s=1")])),
    ];
    for (key, one, other) in pairs {
        let question = |(target, fields): (&str, &[(&str, &str)])| {
            asked(&get(target, fields), DIRECT, &settings(key))
        };
        assert!(question(*one).key() != question(*other).key(), "{one:?} {other:?}");
        assert!(question(*one).key() == question(*one).key(), "{one:?}");
    }
    let of = |origin| asked(&get("/a", &[]), origin, &settings(&[])).key().clone();
    assert!(of(DIRECT) != of(RequestOrigin { is_tls: true, ..DIRECT }), "the scheme");
    assert!(of(DIRECT) != of(RequestOrigin { scope: "other", ..DIRECT }), "the route");
}

#[test]
fn requests_that_differ_in_nothing_else_have_one_stream() {
    let same: &[Pair<'_>] = &[
        (&[], ("/a", &[("user-agent", "a")]), ("/a", &[("accept-language", "de")])),
        (&[], ("/a", &[("last-event-id", "1")]), ("/a?last_event_id=2", &[])),
        (&[], ("/a?x=1&lastEventId=1", &[]), ("/a?Last-Event-ID=2&x=1", &[])),
        (&[], ("/a?last%5fevent_id=1", &[]), ("/a", &[])),
        (&[], ("/a", &[("host", "App.example")]), ("http://app.example/a", &[])),
        (
            &["cookie:s", "cookie:t"],
            ("/a", &[("cookie", "s=1;t=2")]),
            ("/a", &[("cookie", "t=2"), ("cookie", "s=1")]),
        ),
        (
            &["header:cookie"],
            ("/a", &[("cookie", "s=1; t=2")]),
            ("/a", &[("cookie", "s=1"), ("cookie", "t=2")]),
        ),
    ];
    for (key, one, other) in same {
        let question = |(target, fields): (&str, &[(&str, &str)])| {
            asked(&get(target, fields), DIRECT, &settings(key))
        };
        assert!(question(*one).key() == question(*other).key(), "{one:?} {other:?}");
        assert_eq!(sent(&question(*one)), sent(&question(*other)));
    }
}

#[test]
fn a_cookie_that_is_there_twice_is_ambiguous() {
    for fields in [
        &[("cookie", "s=1; s=2")][..],
        &[("cookie", "s=1; s=1")],
        &[("cookie", "s=1"), ("cookie", "s=2")],
    ] {
        for settings in [settings(&["cookie:s"]), anonymous(&["cookie:s"])] {
            let question = SharedQuestion::of(&get("/a", fields), DIRECT, &settings);
            assert_eq!(question.err(), Some(Alone::CookieTwice), "{fields:?}");
        }
    }
    let other = get("/a", &[("cookie", "s=1; t=2")]);
    let question = SharedQuestion::of(&other, DIRECT, &settings(&["cookie:s"]));
    assert_eq!(question.err(), Some(Alone::Credential), "the other one");
    let case = get("/a", &[("cookie", "S=1")]);
    let question = SharedQuestion::of(&case, DIRECT, &settings(&["cookie:s"]));
    assert_eq!(question.err(), Some(Alone::Credential), "another name");
}

#[test]
fn a_field_that_is_for_the_connection_is_not_for_the_backend() {
    let request = get("/a", &[("x", "1"), ("connection", "close, X")]);
    let question = SharedQuestion::of(&request, DIRECT, &settings(&["header:x"]));
    assert_eq!(question.err(), Some(Alone::Connection));
    asked(&request, DIRECT, &settings(&["header:y"]));
}

#[test]
fn who_somebody_is_replaces_what_the_client_says() {
    let user = HeaderName::from_static("x-user");
    let of = |name: &'static str, key: &[&str]| {
        let identity = [
            (user.clone(), HeaderValue::from_static("copied")),
            (user.clone(), HeaderValue::from_static(name)),
        ];
        let origin = RequestOrigin { identity: &identity, ..DIRECT };
        SharedQuestion::of(&get("/a", &[("x-user", "forged")]), origin, &settings(key))
    };
    let alice = of("alice", &["header:x-user"]).expect("shared");
    assert!(sent(&alice).ends_with("x-user: alice"), "{}", sent(&alice));
    assert!(alice.key() != of("bob", &["header:x-user"]).expect("shared").key());
    assert_eq!(of("alice", &[]).err(), Some(Alone::Credential));
    // Also under a name that tells nothing.
    let identity = [(HeaderName::from_static("x-plan"), HeaderValue::from_static("gold"))];
    let origin = RequestOrigin { identity: &identity, ..DIRECT };
    let question = SharedQuestion::of(&get("/a", &[]), origin, &settings(&[]));
    assert_eq!(question.err(), Some(Alone::Credential));
}

#[test]
fn what_a_trusted_proxy_says_of_the_target_is_in_the_key() {
    let of =
        |fields: &[(&str, &str)]| SharedQuestion::of(&get("/a", fields), BEHIND, &settings(&[]));
    let https =
        of(&[("x-forwarded-proto", "https"), ("x-forwarded-for", "192.0.2.1")]).expect("shared");
    let expected =
        "GET /a\nhost: app.example\nx-forwarded-host: app.example\nx-forwarded-proto: https";
    assert_eq!(sent(&https), expected);
    for other in [
        &[][..],
        &[("x-forwarded-proto", "http")],
        &[("x-forwarded-proto", "https"), ("x-forwarded-host", "b.example")],
        &[("x-forwarded-proto", "https"), ("x-forwarded-port", "8443")],
        &[("x-forwarded-proto", "https"), ("x-forwarded-prefix", "/b")],
    ] {
        assert!(of(other).expect("shared").key() != https.key(), "{other:?}");
    }
    let same = of(&[("x-forwarded-proto", "https"), ("x-real-ip", "192.0.2.2")]).expect("shared");
    assert!(same.key() == https.key(), "the way is not the target");
    assert_eq!(of(&[("forwarded", "for=a;proto=https")]).err(), Some(Alone::Forwarded));
    for name in ["x-forwarded-user", "x-forwarded-client-cert", "x-forwarded-anything"] {
        assert_eq!(of(&[(name, "a")]).err(), Some(Alone::Credential), "{name}");
    }
    let question =
        SharedQuestion::of(&get("/a", &[("x-forwarded-user", "a")]), BEHIND, &anonymous(&[]));
    assert!(!sent(&question.expect("shared")).contains("user"));
}

#[test]
fn what_is_the_same_for_all_readers_is_determined() {
    let request = get("/a", &[]);
    let named = asked(&request, DIRECT, &settings(&["header:origin", "cookie:s"]));
    let anonymous = asked(&request, DIRECT, &anonymous(&["header:origin", "cookie:s"]));
    for (name, of_named, of_anonymous) in [
        ("accept", true, true),
        ("accept-encoding", true, true),
        ("host", true, true),
        ("last-event-id", true, true),
        ("origin", true, true),
        ("x-forwarded-proto", true, true),
        (AUTHORIZATION.as_str(), true, false),
        (COOKIE.as_str(), true, false),
        ("x-api-key", true, false),
        ("accept-language", false, false),
        ("user-agent", false, false),
        ("x-forwarded-for", false, false),
        ("sec-fetch-site", false, false),
    ] {
        let name = HeaderName::from_static(name);
        assert_eq!(named.determines(&name), of_named, "{name}");
        assert_eq!(anonymous.determines(&name), of_anonymous, "{name}");
    }
}
