//! Whose a stream is: to everybody else there is none.

use std::time::Duration;

use tokio::time::Instant;

use super::{OWNER, STREAM, build, end, ended, get, open};
use crate::support::{Gateway, Redis, Request, SOON, Upstream, Via, within};

/// Who asks, and whether the stream is theirs.
const ASKING: [(&[(&str, &str)], bool); 10] = [
    (&[("authorization", "Bearer anna")], true),
    (&[("authorization", "Bearer anna"), ("cookie", "theme=dark")], true),
    (&[("authorization", "Bearer bert")], false),
    (&[("authorization", "bearer anna")], false),
    (&[("cookie", "session=Bearer anna")], false),
    (&[("cookie", "session=1")], false),
    (&[("authorization", "Bearer anna"), ("cookie", "session=1")], false),
    (&[("authorization", "Bearer anna"), ("authorization", "Bearer anna")], false),
    (&[("x-authorization", "Bearer anna")], false),
    (&[], false),
];

fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Request {
    let new = Request::new(method, target);
    fields.iter().fold(new, |request, (name, value)| request.header(name, value))
}

/// What a client can see of a response.
async fn seen(gateway: &Gateway, via: Via, request: Request) -> (u16, Vec<String>, String) {
    let response = gateway.send(via, request).await;
    let fields = response.headers.iter().filter(|(name, _)| *name != "date");
    let fields = fields.map(|(name, value)| format!("{name}: {value:?}")).collect();
    (response.status, fields, response.text().await)
}

#[tokio::test]
async fn to_everybody_else_there_is_no_stream() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, OWNER).start().await;
    let stream = ended(&gateway, &upstream, 3).await.header("ssegate-stream").to_owned();
    let address = format!("/.ssegate/kept/{stream}");
    let nowhere = format!("/.ssegate/kept/{}", "a".repeat(26));
    for via in Via::ALL {
        for (fields, is_own) in ASKING {
            for method in ["GET", "HEAD", "DELETE"] {
                let at_it = seen(&gateway, via, request(method, &address, fields)).await;
                let at_none = seen(&gateway, via, request(method, &nowhere, fields)).await;
                assert_eq!(at_none.0, 404, "{at_none:?}");
                if method == "GET" {
                    // One line, which says what may be wrong, and not that no route matches.
                    let (line, rest) = at_none.2.split_once('\n').unwrap();
                    assert_eq!(rest, "");
                    for what in ["no kept stream", "credentials", "forgotten"] {
                        assert!(line.contains(what), "{line}");
                    }
                    assert!(!line.contains(&"a".repeat(26)), "{line}: the address is a secret");
                }
                if is_own {
                    assert_ne!(at_it.0, 404, "{method} {fields:?}");
                } else {
                    let text = at_it.2.replace(&address, &nowhere);
                    assert_eq!((at_it.0, at_it.1, text), at_none, "{method} {fields:?}");
                }
            }
        }
        // At another host it belongs to another.
        let elsewhere = get(&address).host("other.example");
        assert_eq!(gateway.send(via, elsewhere).await.status, 404);
    }
}

async fn are_refused(count: usize) {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, OWNER).start().await;
    let stream = ended(&gateway, &upstream, 3).await.header("ssegate-stream").to_owned();
    for number in 0..count {
        let token = format!("Bearer {number}");
        let fields = [("authorization", &*token), ("last-event-id", &*format!("{stream}-1"))];
        let target = format!("/.ssegate/kept/{stream}");
        let response = gateway.send(Via::Http1, request("GET", &target, &fields)).await;
        assert_eq!(response.status, 404, "{token}");
    }
    let metrics = gateway.metrics().await;
    assert!(metrics.sum("ssegate_kept_resumes_total", &[]) < 0.5);
}

#[tokio::test]
async fn hundreds_of_foreign_clients_resume_nothing() {
    are_refused(300).await;
}

/// The median times of refusals: of a stream that belongs to another, and of one that does not exist.
async fn times(gateway: &Gateway, targets: [&str; 2], rounds: usize) -> [Duration; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..2 * rounds {
        let which = round % 2;
        let request = Request::get(targets[which]).header("authorization", "Bearer bert");
        let began = Instant::now();
        let response = gateway.send(Via::Http1, request).await;
        times[which].push(began.elapsed());
        assert_eq!(response.status, 404);
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    })
}

/// Both are refused behind the same look-ups.
#[tokio::test]
#[ignore = "measures times; run it alone"]
async fn long_what_does_not_exist_is_refused_in_the_same_time() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, OWNER).start().await;
    let stream = ended(&gateway, &upstream, 3).await.header("ssegate-stream").to_owned();
    let (it, none) =
        (format!("/.ssegate/kept/{stream}"), format!("/.ssegate/kept/{}", "a".repeat(26)));
    let [foreign, unknown] = times(&gateway, [&it, &none], 2000).await;
    println!("foreign {foreign:?}, unknown {unknown:?}");
    let apart = foreign.abs_diff(unknown);
    assert!(apart < foreign / 20, "{foreign:?} and {unknown:?}");
}

/// The promise.
#[tokio::test]
#[ignore = "takes a minute"]
async fn long_ten_thousand_foreign_clients_resume_nothing() {
    are_refused(10_000).await;
}

/// Pages of other origins, as browsers send their requests.
#[tokio::test]
async fn pages_of_other_origins_need_to_be_listed() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let address = upstream.address();
    let gateway = Gateway::build(&redis)
        .route(&format!(
            "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{address}\" }}\n  \
             keep: {{ {OWNER} }}\n  cors: {{ origins: [\"https://app.example\"], credentials: true }}\n"
        ))
        .start()
        .await;
    let stream = ended(&gateway, &upstream, 1).await.header("ssegate-stream").to_owned();
    let target = format!("/.ssegate/kept/{stream}");
    let own = format!("http://{}", gateway.address_for(Via::Http1));
    for (fields, status) in [
        (&[("origin", "https://app.example")][..], 200),
        (&[("origin", &*own)], 200),
        (&[("sec-fetch-site", "same-origin")], 200),
        (&[], 200),
        (&[("origin", "https://evil.example")], 403),
        (&[("origin", "null")], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("sec-fetch-site", "same-site")], 403),
    ] {
        for method in ["GET", "HEAD", "DELETE"] {
            let mut request = request(method, &target, fields);
            request = request.header("authorization", "Bearer anna");
            let response = gateway.send(Via::Http1, request).await;
            let status = if method == "DELETE" && status == 200 { 204 } else { status };
            assert_eq!(response.status, status, "{method} {fields:?}");
            if fields.first() == Some(&("origin", "https://app.example")) {
                let allowed = response.header("access-control-allow-origin");
                assert_eq!(allowed, "https://app.example", "{method}");
            }
        }
    }
    let preflight = |target: &str| {
        Request::new("OPTIONS", target)
            .header("origin", "https://app.example")
            .header("access-control-request-method", "DELETE")
            .header("access-control-request-headers", "authorization")
    };
    let nowhere = format!("/.ssegate/kept/{}", "a".repeat(26));
    let at_none = seen(&gateway, Via::Http1, preflight(&nowhere)).await;
    let at_it = seen(&gateway, Via::Http1, preflight(&target)).await;
    assert_eq!(at_it, at_none, "a preflight does not tell whether there is one");
    let response = gateway.send(Via::Http1, preflight(&target)).await;
    assert_eq!(response.status, 204);
    assert!(response.header("access-control-allow-methods").contains("DELETE"));
    assert!(response.header("access-control-allow-headers").contains("authorization"));
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// What `auth` refuses does not get as far as the owner, and what is revoked ends.
#[tokio::test]
async fn auth_comes_first_and_revoking_ends_the_stream() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let address = upstream.address();
    let gateway = Gateway::build(&redis)
        .settings("revocation: {}")
        .route(&format!(
            "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{address}\" }}\n  \
             auth: {{ jwt: {{ keys: {SECRET}, algorithms: HS256 }} }}\n  \
             keep: {{ owner: [\"jwt:sub\"], when_nobody: continue }}\n"
        ))
        .start()
        .await;
    let token = |sub: &str, more: &str| {
        use base64::Engine as _;
        use base64::prelude::BASE64_URL_SAFE_NO_PAD as CODE;
        let claims = format!("{{\"sub\":\"{sub}\",\"exp\":9999999999,\"x\":\"{more}\"}}");
        let signed = format!(
            "{}.{}",
            CODE.encode("{\"alg\":\"HS256\",\"typ\":\"JWT\"}"),
            CODE.encode(claims)
        );
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
        format!("Bearer {signed}.{}", CODE.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes())))
    };
    let ask = |method: &str, target: &str, token: &str| {
        let request = Request::new(method, target);
        if token.is_empty() { request } else { request.header("authorization", token) }
    };
    let first = ask("POST", "/chat", &token("42", "a"));
    let (mut response, mut call) = open(&gateway, &upstream, (Via::Http1, first), STREAM).await;
    call.write_chunk("data: 1\n\n").await;
    let location = response.header("location").to_owned();
    assert_ne!(location, "");
    drop(response.body.until("\n\n").await);
    let nowhere = format!("/.ssegate/kept/{}", "a".repeat(26));
    for method in ["GET", "HEAD", "DELETE"] {
        assert_eq!(gateway.send(Via::Http1, ask(method, &location, "")).await.status, 401);
        let at_none = gateway.send(Via::Http1, ask(method, &nowhere, "")).await;
        assert_eq!(at_none.status, 401, "as where there is one");
        let at_none = gateway.send(Via::Http1, ask(method, &nowhere, &token("42", "a"))).await;
        assert_eq!(at_none.status, 404);
        let other = ask(method, &location, &token("43", "a"));
        assert_eq!(gateway.send(Via::Http1, other).await.status, 404);
    }
    // A token that was renewed is the same owner's.
    let renewed = gateway.send(Via::Http1, ask("GET", &location, &token("42", "b"))).await;
    assert_eq!(renewed.status, 200);
    drop(renewed);
    drop(response);
    let admin = gateway.address("admin");
    let revoke = Request::new("POST", "/revoke").body(b"{\"sub\":\"42\"}");
    let revoke = revoke.header("content-type", "application/json");
    let revoked = revoke.send(Via::Http1, admin).await;
    assert!(revoked.status < 300, "{}", revoked.text().await);
    call.closed().await;
    gateway.counts("ssegate_kept_cancelled_total", &["reason=\"revoked\""], 1.0).await;
}

/// Everybody who knows the address.
#[tokio::test]
async fn a_public_stream_is_for_everybody_who_knows_its_address() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "public: true").start().await;
    let (mut response, mut call) =
        open(&gateway, &upstream, (Via::Http1, Request::new("POST", "/chat")), STREAM).await;
    let location = response.header("location").to_owned();
    call.write_chunk("data: 1\n\n").await;
    drop(response.body.until("\n\n").await);
    end(&mut call).await;
    let anybody = Request::get(&location).header("authorization", "Bearer anybody");
    let text = gateway.send(Via::Http1, anybody).await.text().await;
    assert!(text.starts_with("data: 1\n"), "{text}");
    drop(within(SOON, "the end", response.body.rest()).await);
}

/// An id of the backend does not tell whose stream it is: anybody may have seen one like it, or guess it.
#[tokio::test]
async fn a_public_stream_is_not_found_by_an_id_of_the_backend() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "public: true").start().await;
    for method in ["GET", "POST"] {
        let request = || Request::new(method, "/chat").body(b"the same question");
        let (mut first, mut call) =
            open(&gateway, &upstream, (Via::Http1, request()), STREAM).await;
        call.write_chunk("id: 1\ndata: a secret\n\n").await;
        drop(first.body.until("\n\n").await);
        let again = request().header("last-event-id", "1");
        let (mut other, mut asked) = open(&gateway, &upstream, (Via::H2c, again), STREAM).await;
        assert_eq!(asked.header("last-event-id"), "1", "the backend knows it");
        assert_ne!(other.header("location"), first.header("location"));
        call.write_chunk("id: 2\ndata: another\n\n").await;
        asked.write_chunk("id: 2\ndata: of the other\n\n").await;
        assert_eq!(other.body.until("\n\n").await, "id: 2\ndata: of the other\n\n");
    }
}
