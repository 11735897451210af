//! Ways around `auth`: credentials in odd places, paths and hosts that two parties read differently, header
//! fields that say who it is, preflights, and what could give a credential or a channel away.

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::auth::{CRON, SECRET, bearer, jwt, of, seconds, token};
use crate::support::{
    Call, EventStream, Gateway, GatewayBuilder, Redis, Request, Response, SOON, Via, Witness,
    read_head, within,
};

const PLACES: &str = ", from: [bearer, \"cookie:token\", \"query:token\"]";

/// Says that it is the backend; hands over a stream where the path asks for it.
fn answer(call: &Call) -> (String, String) {
    let hold = "grip-hold: stream\r\ngrip-channel: private\r\ncontent-type: text/event-stream\r\n";
    let hold = if call.line().contains("/hold") { hold } else { "" };
    (hold.to_owned(), "backend".to_owned())
}

async fn around() -> (Redis, Witness) {
    tokio::join!(Redis::start(), Witness::start(answer))
}

fn proxy(path: &str, backend: &Witness, more: &str) -> String {
    let upstream = backend.address();
    format!("- {{ path: \"{path}\", proxy: {{ upstream: \"http://{upstream}\" }}{more} }}\n")
}

fn builder(redis: &Redis, auth: &str, routes: &[String]) -> GatewayBuilder {
    Gateway::build(redis).settings(auth).routes(&routes.concat())
}

/// Sends bytes over HTTP/1.1 in clear text, and reads the head of the response.
async fn raw(gateway: &Gateway, request: &str) -> Response {
    let mut io = Via::Http1.connect(gateway.address("http")).await;
    io.write_all(request.as_bytes()).await.unwrap();
    within(SOON, request, read_head(io, false)).await
}

/// The status of a GET with this target, which may be none that the client library lets through.
async fn status(gateway: &Gateway, target: &str) -> u16 {
    raw(gateway, &format!("GET {target} HTTP/1.1\r\nhost: app.example\r\n\r\n")).await.status
}

#[tokio::test]
async fn a_path_that_a_backend_can_read_as_a_private_one_is_not_public() {
    let (redis, backend) = around().await;
    let routes = [
        proxy("/admin/{*rest}", &backend, ""),
        proxy("/files/{*rest}", &backend, ", auth: off"),
        proxy("/{*rest}", &backend, ", auth: off"),
    ];
    let gateway = builder(&redis, &jwt(""), &routes).start().await;
    for target in [
        "/",
        "/x",
        "/files/a%20b",
        "/files/a%2Fb",
        "/files/a//b",
        "/files/./b",
        "/files/a/../b",
        "/x;v=1/y",
        "/x/..",
        "/%61/b",
        "/files/%C3%A9?x=/../admin",
        "/files/",
        "/files",
        "/administrator",
        "/files/..admin/x",
    ] {
        assert_eq!(status(&gateway, target).await, 200, "{target}");
    }
    for target in ["/admin/x", "/admin/", "/admin/../files/x", "/admin/%2e%2e/files/x"] {
        assert_eq!(status(&gateway, target).await, 401, "{target}");
    }
    let before = backend.heads().len();
    for target in [
        "/admin",
        "/%61dmin/x",
        "/%2561dmin/x",
        "//admin/x",
        "/./admin/x",
        "/x/../admin/x",
        "/files/../admin/x",
        "/files/..%2fadmin/x",
        "/files/%2e%2e/admin/x",
        "/files/.%2E/admin/x",
        "/files/..;/admin/x",
        "/files/..;x=1/admin/x",
        "/files/..%3b/admin/x",
        "/files/..%5cadmin%5cx",
        "/files/..\\admin\\x",
        "/files/%252e%252e/admin/x",
        "/files//../admin/x",
        "/files/a/..//../admin/x",
        "/admin%2fx",
        "/admin%5cx",
        "/admin;a=b/x",
        "/x/%2e%2e/admin/%2e%2e%2ffiles/x",
        "/..//admin/x",
        "/.//admin/x",
        "/files/..%2f..%2fadmin/x",
        "/admin%00/x",
    ] {
        let status = status(&gateway, target).await;
        assert!(matches!(status, 400 | 401), "{target}: {status}");
    }
    assert_eq!(backend.heads().len(), before, "nothing reached the backend");
}

#[tokio::test]
async fn a_path_leaves_its_route_for_none_that_is_not_routed() {
    let (redis, backend) = around().await;
    let routes =
        [proxy("/files/{*rest}", &backend, ""), proxy("/{*rest}", &backend, ", methods: [POST]")];
    let gateway = builder(&redis, "", &routes).start().await;
    assert_eq!(status(&gateway, "/files/a/../b").await, 200);
    for target in ["/files/../secret", "/files/%2e%2e/secret", "/files/..%2fsecret"] {
        assert_eq!(status(&gateway, target).await, 400, "{target}");
    }
}

#[tokio::test]
async fn a_host_with_a_dot_behind_it_is_the_same_host() {
    let (redis, backend) = around().await;
    let routes = [
        proxy("/{*rest}", &backend, ", host: admin.example"),
        proxy("/{*rest}", &backend, ", auth: off"),
    ];
    let gateway = builder(&redis, &jwt(""), &routes).start().await;
    for via in [Via::Http1, Via::Http2] {
        for (host, expected) in [
            ("other.example", 200),
            ("admin.example", 401),
            ("ADMIN.example", 401),
            ("admin.example.", 401),
            ("Admin.Example.:8080", 401),
        ] {
            let status = gateway.send(via, Request::get("/x").host(host)).await.status;
            assert_eq!(status, expected, "{host}");
        }
    }
}

#[tokio::test]
async fn a_preflight_opens_nothing() {
    let (redis, backend) = around().await;
    let cors = ", cors: { origins: [\"https://friend.example\"], credentials: true }";
    let routes = [
        proxy("/app/{*rest}", &backend, cors),
        proxy("/hold/{*rest}", &backend, &format!("{cors}, handover: {{ key: \"{SECRET}\" }}")),
        format!("- {{ path: /mine, events: {{ channels: [\"{{auth.id}}\"] }}{cors} }}\n"),
    ];
    let gateway = builder(&redis, &jwt(""), &routes).start().await;
    let preflight = |target: &str, origin: &str| {
        let method = if target == "/mine" { "GET" } else { "PUT" };
        Request::new("OPTIONS", target)
            .header("origin", origin)
            .header("access-control-request-method", method)
            .header("access-control-request-headers", "authorization, x-own")
            .header("accept", "text/event-stream")
    };
    for via in [Via::Http1, Via::Http2] {
        for target in ["/app/x", "/hold/x"] {
            let allowed = gateway.send(via, preflight(target, "https://friend.example")).await;
            assert_eq!(allowed.status, 204, "{target}");
            for (name, value) in [
                ("access-control-allow-origin", "https://friend.example"),
                ("access-control-allow-credentials", "true"),
                ("access-control-allow-methods", "PUT"),
                ("access-control-allow-headers", "authorization, x-own"),
                ("vary", "origin"),
            ] {
                assert_eq!(allowed.header(name), value, "{target} {name}");
            }
            let refused = gateway.send(via, preflight(target, "https://evil.example")).await;
            assert_eq!(refused.status, 401, "{target}");
        }
        let events = gateway.send(via, preflight("/mine", "https://evil.example")).await;
        assert_eq!((events.status, events.header("access-control-allow-origin")), (204, ""));
    }
    assert_eq!(backend.heads(), [""; 0]);
    // With a credential it is for the backend.
    let request = bearer(preflight("/app/x", "https://evil.example"), &of("42", &json!({})));
    assert_eq!(gateway.send(Via::Http1, request).await.status, 200);
}

#[tokio::test]
async fn no_route_has_a_method_without_a_credential() {
    let (redis, backend) = around().await;
    let signed = format!(", auth: {{ signed_url: {{ keys: {{ k1: {SECRET} }} }} }}");
    let routes = [
        proxy("/app/{*rest}", &backend, ""),
        proxy("/signed/{*rest}", &backend, &signed),
        "- { path: /mine, events: { channels: [\"{auth.id}\"] } }\n".to_owned(),
    ];
    let gateway = builder(&redis, &jwt(""), &routes).start().await;
    for via in [Via::Http1, Via::Http2] {
        for (target, expected) in [("/app/x", 401), ("/signed/x", 403), ("/mine", 401)] {
            for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE", "PROPFIND"] {
                for (name, value) in [
                    ("x-a", "b"),
                    ("max-forwards", "0"),
                    ("origin", "https://evil.example"),
                    ("accept", "text/event-stream"),
                    ("connection", "authorization"),
                ] {
                    if via.is_http2() && name == "connection" {
                        continue;
                    }
                    let request = Request::new(method, target).header(name, value);
                    let response = gateway.send(via, request).await;
                    let is_refused = response.status == expected
                        || (target == "/mine" && response.status == 405);
                    assert!(is_refused, "{via:?} {method} {target} {name}: {}", response.status);
                }
            }
        }
    }
    assert_eq!(backend.heads(), [""; 0]);
}

/// Whether a head has a field that PHP, CGI or a server in between can read as this one, whose value has
/// `value`: they take what is neither a letter nor a digit for the same.
fn says(head: &str, field: &str, value: &str) -> bool {
    let plain = |name: &str| name.replace(|c: char| !c.is_ascii_alphanumeric(), "-").to_lowercase();
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.any(|(name, said)| plain(name) == field && said.contains(value))
}

#[tokio::test]
async fn nobody_says_who_it_is_in_the_gateways_name() {
    let (redis, backend) = around().await;
    let upstream = backend.address();
    let pass = format!(
        "- {{ path: \"/app/{{*rest}}\", proxy: {{ upstream: \"http://{upstream}\", pass: {{ x-user: \"{{auth.id}}\" }}, underscores_in_headers: true }} }}\n"
    );
    let plain = format!(
        "- {{ path: \"/plain/{{*rest}}\", proxy: {{ upstream: \"http://{upstream}\", underscores_in_headers: true }}, auth: off }}\n"
    );
    let gateway = builder(&redis, &jwt(""), &[pass, plain]).start().await;
    let token = of("42", &json!({}));
    for target in ["/app/x", "/plain/x"] {
        for via in [Via::Http1, Via::Http2] {
            let names = [
                "x-user",
                "x_user",
                "x.user",
                "x~user",
                "x+user",
                "x!user",
                "x|user",
                "x'user",
                "x^user",
                "x.forwarded.for",
                "x_forwarded_for",
                "x~real~ip",
                "grip.sig",
                "grip~sig",
            ];
            let request =
                names.iter().fold(bearer(Request::get(target), &token), |request, name| {
                    request.header(name, "admin")
                });
            let request = match via {
                Via::Http1 => {
                    request.header("X-USER", "admin").header("Connection", "x-user, X_User")
                }
                _ => request,
            };
            assert_eq!(gateway.send(via, request).await.status, 200);
            let head = backend.heads().pop().expect("a request");
            for name in ["x-user", "x-forwarded-for", "x-real-ip", "grip-sig"] {
                assert!(!says(&head, name, "admin"), "{name}: {head}");
            }
            assert_eq!(says(&head, "x-user", "42"), target == "/app/x", "{head}");
        }
    }
}

#[tokio::test]
async fn a_credential_counts_where_it_belongs_and_once() {
    let (redis, backend) = around().await;
    let routes = [proxy("/app/{*rest}", &backend, "")];
    let gateway = builder(&redis, &jwt(PLACES), &routes).start().await;
    let (good, other) = (of("42", &json!({})), of("43", &json!({})));
    let get =
        |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    for (request, expected) in [
        (get("/app/x", &format!("Authorization: Bearer {good}\r\n")), 200),
        (get("/app/x", &format!("aUTHORIZATION:bEARER {good}\r\n")), 200),
        (
            get(
                "/app/x",
                &format!("Authorization: Bearer {good}\r\nConnection: authorization\r\n"),
            ),
            200,
        ),
        (get("/app/x", &format!("Cookie: a=b; token={good}; c\r\n")), 200),
        (get("/app/x", &format!("Cookie: token = \"{good}\"\r\n")), 200),
        // The application's own cookies may have any bytes.
        (get("/app/x", &format!("Cookie: name=Zoë; token={good}\r\n")), 200),
        (get(&format!("/app/x?t%6fken={good}"), ""), 200),
        (get(&format!("/app/x?token={good}&t%6Fken={good}"), ""), 200),
        (
            get(
                "/app/x",
                &format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {other}\r\n"),
            ),
            401,
        ),
        (
            get(
                "/app/x",
                &format!("Authorization: Bearer {other}\r\nAuthorization: Basic eDp5\r\n"),
            ),
            401,
        ),
        (get("/app/x", &format!("Authorization: Bearer {good}, Bearer {other}\r\n")), 401),
        (get("/app/x", &format!("Authorization: Bearer\t{good}\r\n")), 401),
        (get("/app/x", &format!("Authorization: {good}\r\n")), 401),
        (get("/app/x", &format!("Proxy-Authorization: Bearer {good}\r\n")), 401),
        (get("/app/x", &format!("Cookie: Token={good}\r\n")), 401),
        (get("/app/x", &format!("Cookie: token={good}; token={other}\r\n")), 401),
        (get("/app/x", &format!("Cookie: token={good}\r\nCookie: token={other}\r\n")), 401),
        (get("/app/x", &format!("Cookie: token={good}; x=ë; token={other}\r\n")), 401),
        (get("/app/x", &format!("Cookie: a=b, token={good}\r\n")), 401),
        (get(&format!("/app/x?token={good}&t%6fken={other}"), ""), 401),
        (get(&format!("/app/x?a=1;token={good}"), ""), 401),
        (get(&format!("/app/x?a=1%26token={good}"), ""), 401),
        (get(&format!("/app/x?token[]={good}"), ""), 401),
        (get(&format!("/app/x?Token={good}"), ""), 401),
        (get(&format!("/app/token={good}"), ""), 401),
    ] {
        assert_eq!(raw(&gateway, &request).await.status, expected, "{request}");
    }
    // A fragment is none of a request (RFC 9112, section 3.2).
    let fragment = get(&format!("/app/x#token={good}"), "");
    assert!(matches!(raw(&gateway, &fragment).await.status, 400 | 401));
    assert_eq!(backend.heads().len(), 8);
    let kept = format!("uthorization: Bearer {good}");
    assert!(backend.heads()[2].contains(&kept), "Connection removes no credential");
}

#[tokio::test]
async fn a_cookie_is_no_less_ambient_beside_another_credential() {
    let (redis, backend) = around().await;
    let auth = format!(
        "auth: {{ all: [{{ jwt: {{ keys: {SECRET}, algorithms: HS256, from: \"cookie:token\" }} }}, {{ jwt: {{ keys: {SECRET}, algorithms: HS256, from: \"query:t\" }} }}] }}"
    );
    let gateway = builder(&redis, &auth, &[proxy("/app/{*rest}", &backend, "")]).start().await;
    let (victim, attacker) = (of("42", &json!({})), of("43", &json!({})));
    for (origin, expected) in [("https://app.example", 200), ("https://evil.example", 403)] {
        let request = Request::new("POST", &format!("/app/x?t={attacker}"))
            .host("app.example")
            .header("cookie", &format!("token={victim}"))
            .header("origin", origin);
        assert_eq!(gateway.send(Via::Http2, request).await.status, expected, "{origin}");
    }
}

#[tokio::test]
async fn a_bound_of_streams_holds_for_those_without_a_name() {
    let redis = Redis::start().await;
    let auth = jwt("").replace(" } }", " }, max_streams: 1 }");
    let route = "- { path: /news, events: { channels: [news] } }\n".to_owned();
    let gateway = builder(&redis, &auth, &[route]).start().await;
    let nameless = token(&json!({"exp": seconds(3600)}));
    let mut open: Vec<EventStream> = Vec::new();
    for (token, expected) in [
        (nameless.clone(), 403),
        (of("", &json!({})), 403),
        (of("a", &json!({})), 200),
        (of("A", &json!({})), 200),
        (of("a", &json!({})), 429),
        (of("A", &json!({})), 429),
    ] {
        let response = gateway.send(Via::Http1, bearer(Request::get("/news"), &token)).await;
        assert_eq!(response.status, expected, "{token}");
        if expected == 200 {
            open.push(response.stream());
        }
    }
}

#[tokio::test]
async fn a_signed_url_is_good_for_its_host_however_it_is_written() {
    let (redis, backend) = around().await;
    let auth = format!("auth: {{ signed_url: {{ keys: {{ k1: {SECRET} }} }} }}");
    let gateway = builder(&redis, &auth, &[proxy("/app/{*rest}", &backend, "")]).start().await;
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
    let signed = format!("/app/x?exp={}&kid=k1", seconds(60));
    let tag = aws_lc_rs::hmac::sign(&key, format!("GET\na.example\n{signed}").as_bytes());
    let tag = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, tag);
    let url = format!("{signed}&sig={tag}");
    let head =
        |target: &str, version: &str, hosts: &str| format!("GET {target} {version}\r\n{hosts}\r\n");
    let elsewhere = url.replacen("/app/x", "/app/y", 1);
    for (request, expected) in [
        (head(&url, "HTTP/1.1", "Host: a.example\r\n"), 200),
        (head(&url, "HTTP/1.1", "Host: A.Example:8080\r\n"), 200),
        (head(&format!("http://a.example{url}"), "HTTP/1.1", "Host: a.example\r\n"), 200),
        (head(&url, "HTTP/1.1", "Host: b.example\r\n"), 403),
        (head(&format!("http://a.example{url}"), "HTTP/1.1", "Host: b.example\r\n"), 400),
        (head(&format!("http://b.example{url}"), "HTTP/1.1", "Host: a.example\r\n"), 400),
        (head(&format!("http://b.example{url}"), "HTTP/1.1", "Host: b.example\r\n"), 403),
        (head(&url, "HTTP/1.1", "Host: a.example\r\nHost: b.example\r\n"), 400),
        (head(&url, "HTTP/1.1", "Host: b.example\r\nX-Forwarded-Host: a.example\r\n"), 403),
        (head(&url, "HTTP/1.1", ""), 400),
        (head(&url, "HTTP/1.0", ""), 403),
        (head(&elsewhere, "HTTP/1.1", "Host: a.example\r\n"), 403),
        (head(&format!("{url}#/../y"), "HTTP/1.1", "Host: a.example\r\n"), 200),
        (head(&format!("{url};x=1"), "HTTP/1.1", "Host: a.example\r\n"), 403),
        (head(&format!("{url}%26channel=b"), "HTTP/1.1", "Host: a.example\r\n"), 403),
        (head(&format!("{url}?x"), "HTTP/1.1", "Host: a.example\r\n"), 403),
        (head(&url.replace("&sig=", "&Sig="), "HTTP/1.1", "Host: a.example\r\n"), 403),
        (head(&url.replace("&sig=", "&s%69g="), "HTTP/1.1", "Host: a.example\r\n"), 403),
        (head(&url.replace("/app/x", "/app/./x"), "HTTP/1.1", "Host: a.example\r\n"), 403),
        (head(&url.replace("/app/x", "/app/%78"), "HTTP/1.1", "Host: a.example\r\n"), 403),
        (head(&url.replace("/app/x", "//app/x"), "HTTP/1.1", "Host: a.example\r\n"), 404),
    ] {
        let status = raw(&gateway, &request).await.status;
        assert!(
            status == expected || (expected == 200 && status == 400 && request.contains('#')),
            "{request}: {status}"
        );
    }
}

#[tokio::test]
async fn claims_of_any_shape_allow_no_more_than_they_list() {
    let redis = Redis::start().await;
    let routes = [
        "- { path: /listed, events: { claim: channels, patterns: true } }\n".to_owned(),
        "- { path: /asked, events: { channels: [\"{query.channel}\"], claim: a.b } }\n".to_owned(),
        "- { path: /mine, events: { channels: [\"x:{claim.org}\"] } }\n".to_owned(),
    ];
    let gateway = builder(&redis, &jwt(""), &routes).start().await;
    let nested = (0..40).fold(json!("news"), |value, _| json!([value]));
    let names: Vec<String> = (0..1500).map(|n| format!("c{n}")).collect();
    for (target, claims, expected) in [
        ("/listed", json!({"channels": ["news"]}), 200),
        ("/listed", json!({"channels": "news orders"}), 200),
        ("/listed", json!({"channels": []}), 403),
        ("/listed", json!({"channels": ""}), 403),
        ("/listed", json!({"channels": [""]}), 400),
        ("/listed", json!({"channels": null}), 403),
        ("/listed", json!({"channels": true}), 403),
        ("/listed", json!({"channels": {"news": 1}}), 403),
        ("/listed", json!({"channels": ["news", 7]}), 403),
        ("/listed", json!({"channels": ["news", ["orders"]]}), 403),
        ("/listed", json!({"channels": nested}), 403),
        ("/listed", json!({"channels": ["*"]}), 400),
        ("/listed", json!({"channels": ["a\nb"]}), 400),
        ("/listed", json!({"channels": names}), 400),
        ("/asked?channel=c7", json!({"a": {"b": names}}), 200),
        ("/asked?channel=c7", json!({"a.b": ["c7"], "a": {"b": []}}), 200),
        ("/asked?channel=d", json!({"a": {"b": names}}), 403),
        ("/asked?channel=d", json!({"a": ["b", "d"]}), 403),
        ("/mine", json!({"org": 7}), 200),
        ("/mine", json!({"org": "7"}), 200),
        ("/mine", json!({"org": [7]}), 403),
        ("/mine", json!({"org": "7*"}), 403),
        ("/mine", json!({"org": "x".repeat(5000)}), 400),
        ("/mine", json!({"org": {"x": 7}}), 403),
        ("/mine", json!({"org": 7, "sub": ["42"]}), 401),
        ("/mine", json!({"org": 7, "exp": "9999999999"}), 401),
        ("/mine", json!({"org": 7, "exp": null}), 401),
        ("/mine", json!({"org": 7, "exp": -1}), 401),
        ("/mine", json!({"org": 7, "exp": 1e300}), 401),
        ("/mine", json!({"org": 7, "nbf": "soon"}), 401),
        ("/mine", json!({"org": 7, "x": "y".repeat(20_000)}), 401),
    ] {
        let request = bearer(Request::events(target), &of("42", &claims));
        let status = gateway.send(Via::Http1, request).await.status;
        let shown: String = claims.to_string().chars().take(60).collect();
        assert_eq!(status, expected, "{target} {shown}");
    }
}

#[tokio::test]
async fn a_token_that_says_something_twice_is_refused() {
    let (redis, backend) = around().await;
    let gateway = builder(&redis, &jwt(""), &[proxy("/app/{*rest}", &backend, "")]).start().await;
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
    let base64url =
        |bytes: &[u8]| base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, bytes);
    let made = |header: &str, claims: &str| {
        let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", base64url(tag.as_ref()))
    };
    let (header, claims) =
        (r#"{"alg":"HS256"}"#, format!(r#"{{"sub":"42","exp":{}}}"#, seconds(60)));
    let good = made(header, &claims);
    for (token, expected) in [
        (good.clone(), 200),
        (made(r#"{"alg":"HS256","x":1,"y":{"alg":"none"}}"#, &claims), 200),
        (made(r#"{"alg":"none","alg":"HS256"}"#, &claims), 401),
        (made(r#"{"alg":"HS256","alg":"HS256"}"#, &claims), 401),
        (made(r#"{"alg":"HS256","kid":"a","kid":"b"}"#, &claims), 401),
        (made(r#"{"alg":"HS256","crit":null}"#, &claims), 401),
        (made(r#"{"alg":"HS256","crit":["exp"]}"#, &claims), 401),
        (made(r#"{"alg":"HS256","jwk":null}"#, &claims), 401),
        (made(r#"{"alg":"hs256"}"#, &claims), 401),
        (made(r#"{"alg":["HS256"]}"#, &claims), 401),
        (made(r#"["HS256"]"#, &claims), 401),
        // The last counts (RFC 7519, section 4).
        (made(header, &claims.replace("}", r#","exp":1}"#)), 401),
        (made(header, &format!("{claims} {{}}")), 401),
        (made(header, &format!("\u{feff}{claims}")), 401),
        (format!("{good}="), 401),
        (format!("{good}."), 401),
        (format!("{good}%20"), 401),
        (good.replace('.', ".."), 401),
    ] {
        let status = gateway.send(Via::Http1, bearer(Request::get("/app/x"), &token)).await.status;
        let told = decoded(&token);
        assert_eq!(status, expected, "{told}");
    }
}

/// The parts of a token, for a message.
fn decoded(token: &str) -> String {
    let parts = token.split('.').take(2).map(|part| {
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, part);
        bytes.map_or_else(|_| part.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    });
    parts.collect::<Vec<_>>().join(".")
}

#[tokio::test]
async fn a_token_in_a_url_is_in_no_log_page_metric_or_backend() {
    let (redis, backend) = around().await;
    let routes = [
        proxy("/app/{*rest}", &backend, ""),
        "- { path: /mine, events: { channels: [\"{auth.id}\", \"{query.x}\"] } }\n".to_owned(),
        "- { path: \"/away/{*rest}\", proxy: { upstream: \"http://127.0.0.1:9\", connect_timeout: 1s } }\n".to_owned(),
    ];
    let builder = builder(&redis, &jwt(PLACES), &routes).env("SSEGATE_LOG", "trace");
    let gateway = builder.start().await;
    let good = of("42", &json!({}));
    let bad = of("42", &json!({"exp": seconds(-60)}));
    let secrets =
        [&good, &bad].map(|token| token.rsplit('.').next().expect("a signature").to_owned());
    let mut texts = Vec::new();
    for via in [Via::Http1, Via::Http2] {
        for token in [&good, &bad] {
            for target in ["/app/x", "/away/x", "/mine", "/none", "/mine?x=%ff"] {
                let mark = if target.contains('?') { '&' } else { '?' };
                for method in ["GET", "POST", "OPTIONS"] {
                    let request =
                        Request::new(method, &format!("{target}{mark}token={token}&last=1"))
                            .header("accept", "text/html, application/json")
                            .header(
                                "referer",
                                &format!("https://app.example/page?a=1&token={token}#x"),
                            );
                    let response = gateway.send(via, request).await;
                    texts.push(format!("{:?}", response.headers));
                    if !response.header("content-type").starts_with("text/event-stream") {
                        texts.push(response.text().await);
                    }
                }
                let request =
                    Request::get(target).header("authorization", &format!("Bearer {token}"));
                let request = request.header("cookie", &format!("token={token}"));
                texts.push(format!("{:?}", gateway.send(via, request).await.headers));
            }
        }
    }
    // The bearer and the cookie are for the backend, too; the URL is not.
    let heads = backend.heads();
    assert!(heads.iter().any(|head| head.contains("/app/x?last=1 ")), "{heads:?}");
    let others = |line: &&str| {
        !line.to_lowercase().starts_with("authorization") && !line.starts_with("cookie")
    };
    texts.extend(heads.iter().flat_map(|head| head.lines()).filter(others).map(str::to_owned));
    texts.push(gateway.admin("/metrics").await.text().await);
    texts.push(gateway.admin("/").await.text().await);
    texts.push(gateway.admin("/readyz?verbose").await.text().await);
    texts.push(gateway.log());
    for text in texts {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{text}");
        }
    }
}

#[tokio::test]
async fn an_id_tells_nothing_of_a_channel_that_is_not_allowed() {
    let redis = Redis::start().await;
    let routes = [
        "- { path: /log, events: { channels: [\"{query.channel}\"], claim: channels, source: stream } }\n",
        "- { path: /pubsub, events: { channels: [\"{query.channel}\"], claim: channels } }\n",
    ];
    let gateway = builder(&redis, &jwt(""), &routes.map(str::to_owned)).start().await;
    redis.add("hidden", "the secret entry").await;
    redis.add("news", "public").await;
    let both = of("1", &json!({"channels": ["hidden", "news"]}));
    let mut ids = vec!["0-0".to_owned(), "1-0".to_owned(), "none-such".to_owned()];
    for path in ["/log", "/pubsub"] {
        let target = format!("{path}?channel=hidden&channel=news");
        let mut stream =
            gateway.send(Via::Http1, bearer(Request::events(&target), &both)).await.stream();
        let ready = stream.ready().await;
        ids.extend(ready.id);
        match path {
            "/log" => drop(redis.add("hidden", "the secret entry").await),
            _ => drop(redis.publish("hidden", "the secret entry").await),
        }
        assert_eq!(stream.next_event().await.data, "the secret entry");
        ids.push(stream.last_id().to_owned());
    }
    let own = of("2", &json!({"channels": ["news"]}));
    for path in ["/log", "/pubsub"] {
        for id in &ids {
            let request = bearer(Request::events(&format!("{path}?channel=news")), &own);
            let response = gateway.send(Via::Http1, request.header("last-event-id", id)).await;
            let mut stream = response.stream();
            let mut told = String::new();
            within(SOON, "ready", async {
                while !told.contains("ready") {
                    told.push_str(&format!("{:?}", stream.next_block().await));
                }
            })
            .await;
            let last = format!("last with {id}");
            match path {
                "/log" => drop(redis.add("news", &last).await),
                _ => drop(redis.publish("news", &last).await),
            }
            while !told.contains(&last) {
                told.push_str(&format!("{:?}", stream.next_block().await));
            }
            let told = told.replace(&last, "");
            assert!(!told.contains("hidden") && !told.contains("secret"), "{path} {id}: {told}");
        }
        // The same, to the letter, whether anybody publishes to the channel or not.
        let refused = async |channel: &str| {
            let request = bearer(Request::events(&format!("{path}?channel={channel}")), &own);
            let response = gateway.send(Via::Http1, request.header("last-event-id", &ids[3])).await;
            (
                response.status,
                format!("{:?}", response.headers).replace(channel, ""),
                response.text().await,
            )
        };
        assert_eq!(refused("hidden").await.0, 403);
        let (hidden, nobody) = (refused("hidden").await, refused("nobody").await);
        assert_eq!((hidden.0, hidden.2), (nobody.0, nobody.2));
    }
}

#[tokio::test]
async fn a_reload_changes_who_may_open_a_stream_and_a_mistake_changes_nothing() {
    let redis = Redis::start().await;
    let route = "- { path: /mine, events: { channels: [\"news\"] } }\n".to_owned();
    let gateway = builder(&redis, &jwt(""), &[route]).start().await;
    let good = of("42", &json!({}));
    let get = async |via, request: Request| gateway.send(via, request).await.status;
    let mut streams = Vec::new();
    for via in [Via::Http1, Via::Http2] {
        let response = gateway.send(via, bearer(Request::events("/mine"), &good)).await;
        let mut stream = response.stream();
        stream.ready().await;
        streams.push(stream);
    }
    let check = async |with: u16, without: u16| {
        for via in [Via::Http1, Via::Http2] {
            let request = Request::events("/mine");
            assert_eq!(get(via, bearer(request.clone(), &good)).await, with);
            assert_eq!(get(via, request).await, without);
        }
    };
    check(200, 401).await;
    let original = std::fs::read_to_string(gateway.dir().join("gateway.yaml")).unwrap();
    for mistake in [
        ("algorithms: HS256", "algorithms: HS257"),
        ("algorithms: HS256", "algorithms: [none]"),
        ("algorithms: HS256", "algorithm: HS256"),
        ("algorithms: HS256", "algorithms: RS256"),
        (SECRET, "\"\""),
        ("auth: {", "auth: no #{"),
        ("auth: {", "auth: #{"),
    ] {
        gateway.rewrite(|text| text.replace(mistake.0, mistake.1));
        assert!(!gateway.reload().await, "{mistake:?}");
        check(200, 401).await;
        gateway.rewrite(|_| original.clone());
    }
    // Another key, static tokens in its place, and none at all.
    gateway.rewrite(|text| text.replace(SECRET, "ffffffffffffffffffffffffffffffff"));
    assert!(gateway.reload().await);
    check(401, 401).await;
    let tokens = format!("auth: {{ tokens: [{{ name: cron, sha256: {CRON} }}] }}");
    gateway.rewrite(|_| original.replace(&jwt(""), &tokens));
    assert!(gateway.reload().await);
    check(401, 401).await;
    assert_eq!(get(Via::Http2, bearer(Request::events("/mine"), "cron-token")).await, 200);
    gateway.rewrite(|_| original.replace(&jwt(""), "auth: off"));
    assert!(gateway.reload().await);
    check(200, 200).await;
    gateway.rewrite(|_| original.clone());
    assert!(gateway.reload().await);
    check(200, 401).await;
    redis.publish("news", "still here").await;
    for stream in &mut streams {
        assert_eq!(stream.next_event().await.data, "still here");
    }
}

#[tokio::test]
async fn a_trailer_does_not_say_who_it_is() {
    let (redis, echo) = (Redis::start().await, crate::support::echo::Echo::start().await);
    let route = echo
        .route()
        .replace("\" }", "\", pass: { x-user: \"{auth.id}\" }, underscores_in_headers: true }");
    let gateway = builder(&redis, &jwt(""), &[route]).start().await;
    let token = of("42", &json!({}));
    let request = format!(
        "POST /x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ntransfer-encoding: chunked\r\ntrailer: x-user, x-sum\r\nte: trailers\r\n\r\n\
         1\r\na\r\n0\r\nx-user: admin\r\nx_user: admin\r\nx.user: admin\r\nx-sum: 7\r\n\r\n"
    );
    let backend = async {
        let (head, mut socket) = echo.call().await;
        let mut body = Vec::new();
        while !body.ends_with(b"x-sum: 7\r\n\r\n") {
            let read = tokio::io::AsyncReadExt::read_buf(&mut socket, &mut body);
            assert!(within(SOON, "a body", read).await.unwrap() > 0);
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        (head, String::from_utf8(body).unwrap())
    };
    let (response, (head, body)) = tokio::join!(raw(&gateway, &request), backend);
    assert_eq!(response.status, 200);
    assert!(says(&head, "x-user", "42") && !body.contains("admin"), "{head}{body}");
}
