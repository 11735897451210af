//! The rows of the matrix: in what two users differ, and what becomes of them.

use super::users::Fate::{Apart, Same, Together, Untold};
use super::users::{PLAIN, Row, User, at, by, row, token, user, with_tokens};
use crate::support::Via;

/// Tells the backend who somebody is.
const PASS: &str = ", pass: { x-user: \"{auth.id}\" }";

/// With credentials that are not in the key.
fn of_credentials() -> Vec<Row> {
    let none = || user("", &[]);
    vec![
        row("authorization", "", by("authorization", PLAIN), Apart(2)),
        row("a cookie", "", by("cookie", ("session=", "")), Apart(2)),
        row(
            "a cookie against none",
            "",
            [user("secret-one", &[("cookie", "a=secret-one")]), none()],
            Apart(2),
        ),
        row(
            "authorization against an empty one",
            "",
            [
                user("secret-one", &[("authorization", "secret-one")]),
                user("authorization: \n", &[("authorization", "")]),
            ],
            Apart(2),
        ),
        row("a cookie without a name", "", by("cookie", PLAIN), Apart(2)),
        row("an API key", "", by("x-api-key", PLAIN), Apart(2)),
        row("a field that names a user", "", by("x-login", PLAIN), Apart(2)),
        row("anonymous authorization", "anonymous: true", by("authorization", PLAIN), Together),
        row("anonymous cookies", "anonymous: true", by("cookie", ("session=", "")), Together),
        row("an anonymous API key", "anonymous: true", by("x-api-key", PLAIN), Together),
        row(
            "anonymous, but for a cookie of the key",
            "anonymous: true, key: [\"cookie:s\"]",
            by("cookie", ("t=1; s=", "")),
            Apart(2),
        ),
        row(
            "anonymous beside a cookie of the key",
            "anonymous: true, key: [\"cookie:s\"]",
            by("cookie", ("s=1; t=", "")),
            Together,
        ),
    ]
}

/// With fields and cookies that are in the key.
fn of_key() -> Vec<Row> {
    let two = |one: (&str, &[(&'static str, &str)]), other: (&str, &[(&'static str, &str)])| {
        [user(one.0, one.1), user(other.0, other.1)]
    };
    vec![
        row(
            "authorization in the key",
            "key: [\"header:authorization\"]",
            by("authorization", PLAIN),
            Apart(2),
        ),
        row(
            "a language in the key",
            "key: [\"header:accept-language\"]",
            by("accept-language", PLAIN),
            Apart(2),
        ),
        row("a cookie in the key", "key: [\"cookie:s\"]", by("cookie", ("s=", "")), Apart(2)),
        row(
            "all cookies in the key",
            "key: [\"header:cookie\"]",
            by("cookie", ("s=1; t=", "")),
            Apart(2),
        ),
        row(
            "a cookie beside one in the key",
            "key: [\"cookie:s\"]",
            by("cookie", ("s=1; t=", "")),
            Apart(2),
        ),
        row(
            "a cookie of the key twice",
            "key: [\"cookie:s\"]",
            by("cookie", ("s=1; s=", "")),
            Apart(2),
        ),
        row(
            "cookies in fields of their own",
            "key: [\"cookie:s\"]",
            by("cookie", ("t=", "")),
            Apart(2),
        )
        .each(|user| {
            user.via = Some(Via::H2c);
            user.fields.push(("cookie", "s=1".to_owned()));
        }),
        row(
            "values that are the same together",
            "key: [\"header:x-a\", \"header:x-b\"]",
            two(("x-a: ab\n", &[("x-a", "ab")]), ("x-b: b\n", &[("x-a", "a"), ("x-b", "b")])),
            Apart(2),
        ),
        row(
            "a field that is there twice",
            "key: [\"header:x-a\"]",
            two(
                ("x-a: secret-one\n", &[("x-a", "1"), ("x-a", "secret-one")]),
                ("x-a: 1, 2\n", &[("x-a", "1, 2")]),
            ),
            Apart(2),
        ),
        row(
            "a field that is empty",
            "key: [\"header:x-a\"]",
            two(("x-a: \n", &[("x-a", "")]), ("", &[])),
            Apart(2),
        ),
        row("a field for the connection", "key: [\"header:x-a\"]", by("x-a", PLAIN), Untold(2))
            .each(|user| {
                user.via = Some(Via::Http1);
                user.fields.push(("connection", "x-a".to_owned()));
            }),
        row(
            "a name that backends take for one of the key",
            "key: [\"header:x-a\"]",
            by("x_a", PLAIN),
            Together,
        )
        .proxy(", underscores_in_headers: true"),
        row("the same in the key", "key: [\"header:x-a\"]", by("user-agent", PLAIN), Same).each(
            |user| {
                user.secret = "the same".to_owned();
                user.fields.push(("x-a", "the same".to_owned()));
            },
        ),
    ]
}

/// With fields that the backend is not told of.
fn of_fields() -> Vec<Row> {
    vec![
        row("a language", "", by("accept-language", PLAIN), Together),
        row("a browser", "", by("user-agent", PLAIN), Together),
        row("the page before", "", by("referer", PLAIN), Together),
        row("an origin", "", by("origin", ("https://", ".example")), Together),
        row("an unknown field", "", by("x-request-id", PLAIN), Together),
        row("what a client says of proxies", "", by("x-forwarded-for", PLAIN), Together),
        row("who a client says that it is", "", by("x-forwarded-user", PLAIN), Together),
        row("the standard field of proxies", "", by("forwarded", ("for=", "")), Together),
        row("where a reader is", "", by("last-event-id", PLAIN), Apart(2)),
        row(
            "where a reader is, in the query",
            "",
            at(
                ["/a?last_event_id=secret-one", "/a?lastEventId=secret-two"],
                ["secret-one", "secret-two"],
            ),
            Apart(2),
        ),
        row("a condition", "", by("if-none-match", ("\"", "\"")), Together),
    ]
}

/// With another target, or as another kind of request.
fn of_requests() -> Vec<Row> {
    let hosts = |hosts: [&'static str; 2]| hosts.map(|host| User { host, ..user(host, &[]) });
    let [http, https] = [Via::Http1, Via::Http1Tls].map(Some);
    let bodies = ["secret-one", "secret-two"].map(|body| User { body, ..user(body, &[]) });
    let post = User { method: "POST", ..bodies[1].clone() };
    vec![
        row("a host", "", hosts(["one.example", "two.example"]), Apart(2)),
        row("a port of the host", "", hosts(["app.example:81", "app.example:82"]), Apart(2)),
        row(
            "a scheme",
            "",
            [
                User { via: http, ..user("proto: http\n", &[]) },
                User { via: https, ..user("proto: https\n", &[]) },
            ],
            Apart(2),
        ),
        row("a query", "", at(["/a?u=one", "/a?u=two"], ["?u=one ", "?u=two "]), Apart(2)),
        row(
            "the order of a query",
            "",
            at(["/a?a=1&b=2", "/a?b=2&a=1"], ["?a=1&b=2 ", "?b=2&a=1 "]),
            Apart(2),
        ),
        row("an empty query", "", at(["/a?", "/a"], ["/a? ", "/a "]), Apart(2)),
        row("the case of a path", "", at(["/doc", "/Doc"], ["/doc ", "/Doc "]), Apart(2)),
        row("the encoding of a path", "", at(["/doc", "/d%6Fc"], ["/doc ", "/d%6Fc "]), Apart(2)),
        row("a method", "", [user("GET /", &[]), post], Apart(2)),
        row("a body", "", bodies, Apart(2)),
        row("MCP", "", by("mcp-session-id", PLAIN), Apart(2)),
        row("a range", "", by("range", ("bytes=", "")), Apart(2)),
        row(
            "another version of HTTP",
            "",
            [
                User { via: http, ..user("proto: http\n", &[]) },
                User { via: Some(Via::H2c), ..user("proto: http\n", &[]) },
            ],
            Same,
        ),
    ]
}

/// With a response that is not for everybody: the backend is asked for all of them first, and then for each.
fn of_responses() -> Vec<Row> {
    let agents = || by("user-agent", PLAIN);
    let origins = || by("origin", ("https://", ".example"));
    vec![
        row("a cookie of the response", "", agents(), Apart(3))
            .answer("set-cookie: session={n}\r\n"),
        row("a private response", "", agents(), Apart(3))
            .answer("cache-control: no-cache, Private\r\n"),
        row("a private field", "", agents(), Apart(3))
            .answer("cache-control: private=\"x-user\"\r\n"),
        row("private in a second field", "", agents(), Apart(3))
            .answer("cache-control: public\r\ncache-control: private\r\n"),
        row("vary", "", agents(), Apart(3)).answer("vary: accept-encoding, user-agent\r\n"),
        row("vary on everything", "", agents(), Apart(3)).answer("vary: *\r\n"),
        row("what clears a site", "", agents(), Apart(3)).answer("clear-site-data: \"*\"\r\n"),
        row("a session of MCP that begins", "", agents(), Apart(3))
            .answer("mcp-session-id: {n}\r\n"),
        row("a content coding", "", agents(), Apart(3)).answer("content-encoding: x-own\r\n"),
        row(
            "vary on a cookie that was taken away",
            "anonymous: true",
            by("cookie", ("a=", "")),
            Apart(3),
        )
        .answer("vary: cookie\r\n"),
        row("vary on a cookie that nobody has", "", agents(), Together)
            .answer("vary: cookie, authorization\r\n"),
        row("vary on what is in the key", "key: [\"header:accept-language\"]", agents(), Together)
            .answer("vary: Accept-Language, accept\r\n"),
        row("vary on an origin", "", origins(), Apart(3))
            .answer("vary: origin\r\naccess-control-allow-origin: {origin}\r\n"),
        row("vary on an origin in the key", "key: [\"header:origin\"]", origins(), Apart(2))
            .answer("vary: origin\r\naccess-control-allow-origin: {origin}\r\n"),
    ]
}

/// With identities of the route's `auth`.
fn of_identities() -> Vec<Row> {
    let named = || with_tokens(|name| format!("x-user: {name}\n"));
    let bearers = ["anna", "bert"]
        .map(|name| user(&token(name), &[("authorization", &format!("Bearer {}", token(name)))]));
    vec![
        row("an identity", "", named(), Apart(2)).jwt("query:token").proxy(PASS),
        row("an identity in the key", "key: [\"header:x-user\"]", named(), Apart(2))
            .jwt("query:token")
            .proxy(PASS),
        row("an identity that is forged", "key: [\"header:x-user\"]", named(), Apart(2))
            .jwt("query:token")
            .proxy(PASS)
            .each(|user| user.fields.push(("x-user", "anna".to_owned()))),
        row("an identity that nobody is told", "anonymous: true", named(), Together)
            .jwt("query:token")
            .proxy(PASS),
        row("a token of the query", "", with_tokens(token), Together).jwt("query:token"),
        row("a bearer's token", "", bearers, Apart(2)).jwt("bearer"),
    ]
}

/// The rows of a gateway that clients reach.
pub(super) fn direct() -> Vec<Row> {
    [of_credentials(), of_key(), of_fields(), of_requests(), of_responses(), of_identities()]
        .into_iter()
        .flatten()
        .collect()
}

/// The rows of a gateway behind a proxy that it trusts.
pub(super) fn behind_a_proxy() -> Vec<Row> {
    vec![
        row("a client's address", "", by("x-forwarded-for", PLAIN), Together),
        row("a client's address in another field", "", by("x-real-ip", PLAIN), Together),
        row("a host", "", by("x-forwarded-host", ("", ".example")), Apart(2)),
        row(
            "a scheme",
            "",
            [
                user("proto: http\n", &[("x-forwarded-proto", "http")]),
                user("proto: https\n", &[("x-forwarded-proto", "https")]),
            ],
            Apart(2),
        ),
        row("a prefix", "", by("x-forwarded-prefix", ("/", "")), Apart(2)),
        row("a user", "", by("x-forwarded-user", PLAIN), Apart(2)),
        row("a certificate", "", by("x-forwarded-client-cert", ("Hash=", "")), Apart(2)),
        row("something of its own", "", by("x-forwarded-own", PLAIN), Apart(2)),
        row(
            "a user that nobody is told",
            "anonymous: true",
            by("x-forwarded-user", PLAIN),
            Together,
        ),
        row("the standard field", "", by("forwarded", ("for=", "")), Apart(2)),
    ]
}
