//! Streams that the backend hands over: it decides and is free, the gateway keeps them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use tokio::io::AsyncReadExt;

use crate::support::nginx::Nginx;
use crate::support::{
    Call, EventStream, Gateway, Redis, Request, Response, SOON, Upstream, Via, within,
};

const KEY: &str = "a secret of thirty-two bytes, or more";

/// The answer of a script that lets its visitor listen to `channels`.
fn hold(channels: &str) -> String {
    format!("content-type: text/event-stream\r\ngrip-hold: stream\r\ngrip-channel: {channels}\r\n")
}

async fn in_front_of(redis: &Redis, upstream: &Upstream, settings: &str) -> Gateway {
    let handover = format!("  handover: {{ key: \"{KEY}\"{settings} }}\n");
    let route = upstream.route("/app/{*rest}") + &handover;
    Gateway::build(redis).route(&route).route(&upstream.route("/plain/{*rest}")).start().await
}

/// Sends a request, and answers it.
async fn ask(
    gateway: &Gateway,
    upstream: &Upstream,
    (via, request): (Via, Request),
    (status, headers, body): (&str, &str, &str),
) -> Response {
    let answer = async { upstream.call().await.answer(status, headers, body).await };
    tokio::join!(gateway.send(via, request), answer).0
}

/// Opens a stream on `channels`.
async fn open(
    gateway: &Gateway,
    upstream: &Upstream,
    via: Via,
    channels: &str,
    body: &str,
) -> EventStream {
    let request = (via, Request::events("/app/stream"));
    ask(gateway, upstream, request, ("200 OK", &hold(channels), body)).await.stream()
}

#[tokio::test]
async fn a_client_cannot_have_taken_away_what_the_gateway_says_of_it() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, "").await;
    let ours = [
        "grip-sig",
        "accept-encoding",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "forwarded",
        "via",
        "host",
    ];
    let all = ours.join(", ");
    for named in ours.into_iter().chain([all.as_str(), "Grip-Sig", "close, GRIP-SIG"]) {
        for via in [Via::Http1, Via::Http1Tls] {
            let request = Request::events("/app/x").header("connection", named);
            let request = request.header("connection", "accept, x-mine").header("x-mine", "1");
            let answer = async {
                let call = upstream.call().await;
                for name in ours {
                    assert_ne!(call.header(name), "", "{name}, {named}: {}", call.head);
                }
                assert_eq!(call.header("accept-encoding"), "identity", "{named}");
                assert_eq!((call.header("x-mine"), call.header("accept")), ("", ""), "{named}");
                call.answer("200 OK", "", "ok").await;
            };
            let (response, ()) = tokio::join!(gateway.send(via, request), answer);
            assert_eq!(response.status, 200, "{named}");
        }
    }
}

/// The same over HTTP/2.
#[tokio::test]
async fn a_client_cannot_have_taken_away_what_a_backend_over_http2_is_told() {
    let redis = Redis::start().await;
    let ours = ["grip-sig", "x-forwarded-for", "x-forwarded-proto", "forwarded", "via", "host"];
    let says = ours.map(|name| format!("<$http_{}>", name.replace('-', "_"))).concat();
    let more = "<$http_accept_encoding><$http_x_mine>";
    let nginx =
        Nginx::listening("http2", &format!("location / {{ return 200 '{says}{more}'; }}")).await;
    let route = nginx.route_with("/{*rest}", "http2: true");
    let route = format!("{route}  handover: {{ key: \"{KEY}\" }}\n");
    let gateway = Gateway::build(&redis).routes(&route).start().await;
    for via in [Via::Http1, Via::Http1Tls] {
        for named in ours.into_iter().chain(["accept-encoding"]) {
            let request = Request::events("/").header("connection", named);
            let request = request.header("connection", "x-mine").header("x-mine", "1");
            let text = gateway.send(via, request).await.text().await;
            let (told, theirs) = text.split_at(text.rfind("<identity>").expect(&text));
            assert_eq!(theirs, "<identity><>", "{named}");
            assert_eq!(told.matches('<').count(), ours.len(), "{named}: {text}");
            assert!(!told.contains("<>"), "{named}: {text}");
        }
    }
}

/// Only what GRIP is about, of the head of a request.
fn grip_of(call: &Call) -> Vec<String> {
    let lines = call.head.lines().map(str::to_lowercase);
    lines.filter(|line| line.starts_with("grip")).collect()
}

#[tokio::test]
async fn the_body_comes_first_and_then_what_is_published() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, "").await;
    let headers = hold("private:7, news")
        + "grip-expose-headers: x\r\nx-theirs: too\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\
           date: Fri, 20 Nov 2026 17:15:41 GMT\r\n";
    for via in Via::ALL {
        let request = Request::new("POST", "/app/stream?a=1").header("cookie", "PHPSESSID=7");
        let answer = async {
            let call = upstream.call().await;
            assert_eq!(call.line(), "POST /app/stream?a=1 HTTP/1.1");
            assert_eq!(call.header("cookie"), "PHPSESSID=7");
            assert_eq!(call.body, b"hello");
            call.answer("201 Created", &headers, "event: welcome\ndata: 7\n\n").await;
        };
        let sent = gateway.send(via, request.body(b"hello"));
        let (mut response, ()) = tokio::join!(sent, answer);
        assert_eq!(response.status, 201, "{via:?}");
        let cookies: Vec<_> = response.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        let dates: Vec<_> = response.headers.get_all("date").iter().collect();
        assert_eq!(dates, ["Fri, 20 Nov 2026 17:15:41 GMT"], "{via:?}");
        assert_eq!(response.header("x-theirs"), "too");
        assert_eq!(response.header("x-accel-buffering"), "no");
        assert_eq!(response.header("cache-control"), "no-store");
        assert_eq!(response.header("content-length"), "");
        let mut names = response.headers.keys().map(http::HeaderName::as_str);
        assert!(!names.any(|name| name.starts_with("grip")), "{:?}", response.headers);

        response.status = 200;
        let mut stream = response.stream();
        let welcome = stream.next_event().await;
        assert_eq!((welcome.name.as_str(), welcome.data.as_str()), ("welcome", "7"));
        assert_eq!(stream.next_block().await.retry, Some(3000));
        stream.ready().await;
        redis.publish("news", "for all").await;
        redis.publish("private:7", "for one").await;
        redis.publish("private:8", "for another").await;
        redis.publish("news", "the end").await;
        for expected in ["for all", "for one", "the end"] {
            assert_eq!(stream.next_event().await.data, expected, "{via:?}");
        }
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_streams_opened_total", &["route=\"/app/{*rest}\""]), 4.0);
    let closed = ["reason=\"client_left\""];
    gateway.counts("ssegate_streams_closed_total", &closed, 4.0).await;
}

#[tokio::test]
async fn the_backend_knows_us_by_our_signature_and_nobody_else_has_one() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, ", issuer: gate").await;
    for via in Via::ALL {
        let forged =
            |target| Request::get(target).header("grip-sig", "forged").header("grip-feature", "x");
        let answer = async {
            let call = upstream.call().await;
            let token = call.header("grip-sig").to_owned();
            assert_eq!(grip_of(&call), [format!("grip-sig: {}", token.to_lowercase())]);
            let mut validation = Validation::new(Algorithm::HS256);
            validation.set_issuer(&["gate"]);
            let key = DecodingKey::from_secret(KEY.as_bytes());
            let token = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &validation);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let expires = token.unwrap().claims["exp"].as_u64().unwrap();
            assert!((now + 60..=now + 3600).contains(&expires), "{now} {expires}");
            call.answer("200 OK", "", "page").await;
        };
        tokio::join!(gateway.send(via, forged("/app/page")), answer);

        let answer = async {
            let call = upstream.call().await;
            assert_eq!(grip_of(&call), Vec::<String>::new(), "{via:?}");
            call.answer("200 OK", "", "page").await;
        };
        tokio::join!(gateway.send(via, forged("/plain/page")), answer);
    }
    assert!(!gateway.log().contains(KEY), "{}", gateway.log());
}

#[tokio::test]
async fn where_the_route_does_not_say_so_nothing_is_held_and_no_name_gets_out() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, "").await;
    let (request, headers) = (Request::events("/plain/x"), hold("private:7"));
    let answer = ("200 OK", headers.as_str(), "data: a\n\n");
    let response = ask(&gateway, &upstream, (Via::Http1, request), answer).await;
    assert_eq!((response.header("grip-hold"), response.header("grip-channel")), ("", ""));
    assert_eq!(response.header("content-length"), "9");
    assert_eq!(response.text().await, "data: a\n\n");
    assert_eq!(redis.listeners("private:7").await, 0);
    gateway.logs("but the route has no handover").await;
}

#[tokio::test]
async fn each_return_asks_the_backend_again_and_its_no_is_the_end() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, "").await;
    for via in Via::ALL {
        let mut stream = open(&gateway, &upstream, via, "news", "").await;
        stream.ready().await;
        redis.publish("news", "seen").await;
        stream.next_event().await;
        let id = stream.last_id().to_owned();
        let mut witness = open(&gateway, &upstream, via, "news", "").await;
        witness.ready().await;
        drop(stream);
        redis.publish("news", "missed").await;
        // The gateway has it: what comes back finds it in the history.
        witness.next_event().await;

        let again = || Request::events("/app/stream").header("last-event-id", &id);
        let answer = async {
            let call = upstream.call().await;
            assert_eq!(call.header("last-event-id"), id, "the backend may want to know");
            call.answer("200 OK", &hold("news"), "data: again\n\n").await;
        };
        let (response, ()) = tokio::join!(gateway.send(via, again()), answer);
        let mut stream = response.stream();
        assert_eq!(stream.next_event().await.data, "again");
        assert_eq!(stream.next_event().await.data, "missed", "{via:?}");
        stream.ready().await;

        for status in ["204 No Content", "401 Unauthorized", "403 Forbidden", "302 Found"] {
            let headers = "location: /login\r\n";
            let request = (via, again());
            let response = ask(&gateway, &upstream, request, (status, headers, "")).await;
            assert!(status.starts_with(&response.status.to_string()), "{status}");
            assert_eq!(response.header("location"), "/login");
        }
    }
}

#[tokio::test]
async fn the_body_may_say_up_to_where_it_tells() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, "").await;
    let mut stream = open(&gateway, &upstream, Via::Http1, "news", "").await;
    stream.ready().await;
    for text in ["one", "two", "three"] {
        redis.publish("news", text).await;
    }
    stream.next_event().await;
    let id = stream.next_event().await.id;

    // It wins over what the client has seen: the body has told the rest.
    let request = Request::events("/app/stream").header("last-event-id", "strange");
    let headers = hold(&format!("other, news; prev-id=\"{id}\""));
    let answer = ("200 OK", headers.as_str(), "data: one and two\n\n");
    let mut stream = ask(&gateway, &upstream, (Via::Http2, request), answer).await.stream();
    assert_eq!(stream.next_event().await.data, "one and two");
    // Nobody followed the other channel then, and a gap comes before what other gateways have a name for.
    assert_eq!(stream.next_event().await.data, r#"{"reason":"expired","channels":["other"]}"#);
    assert_eq!(stream.next_event().await.data, "three");

    let headers = hold("news; prev-id=unknown");
    let request = (Via::Http2, Request::events("/app/stream"));
    let answer = ("200 OK", headers.as_str(), "");
    let mut stream = ask(&gateway, &upstream, request, answer).await.stream();
    assert_eq!(stream.next_event().await.name, "gap");
}

#[tokio::test]
async fn a_quiet_stream_says_what_the_backend_wants() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    // Of a fleet, it would be told its position once more.
    let route = upstream.route("/app/{*rest}");
    let route = route + &format!("  handover: {{ key: \"{KEY}\", keep_alive: 1s }}\n");
    let gateway = Gateway::build(&redis).settings("fleet: off").route(&route).start().await;
    for (keep_alive, expected) in [
        (": here; format=raw; timeout=1", "here"),
        (":here\\n\\n; format=cstring; timeout=1", "here"),
        ("OmhlcmUK; format=base64; timeout=1", "here"),
        (": here", "here"),
    ] {
        let headers = hold("news") + &format!("grip-keep-alive: {keep_alive}\r\n");
        let request = (Via::Http1, Request::events("/app/stream"));
        let answer = ("200 OK", headers.as_str(), "");
        let mut stream = ask(&gateway, &upstream, request, answer).await.stream();
        stream.ready().await;
        assert_eq!(stream.next_comment().await, expected, "{keep_alive}");
        redis.publish("news", "whole").await;
        assert_eq!(stream.next_event().await.data, "whole", "{keep_alive}");
    }
    // Of the route's own, where the backend says nothing.
    let mut stream = open(&gateway, &upstream, Via::Http2, "news", "").await;
    stream.ready().await;
    assert_eq!(stream.next_comment().await, "");
}

/// What follows the body, up to so much of it.
async fn behind(
    gateway: &Gateway,
    upstream: &Upstream,
    request: (Via, Request),
    (headers, body): (&str, &str),
    end: &str,
) -> String {
    let answer = ("200 OK", headers, body);
    let mut response = ask(gateway, upstream, request, answer).await;
    let text = within(SOON, "what follows the body", response.body.until(end)).await;
    text.strip_prefix(body).unwrap_or_else(|| panic!("{text:?} after {body:?}")).to_owned()
}

#[tokio::test]
async fn what_is_ours_is_no_block_without_data_but_for_a_browser() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, ", keep_alive: 1s").await;
    let headers = hold("news");
    for via in [Via::Http1, Via::Http2] {
        for (body, behind_it) in [
            ("", ""),
            ("data: a\n\n", ""),
            ("data: a\n", "\n"),
            ("data: a\r\r", "\n"),
            // A comment is no event: there is nothing to end but its line.
            (": open\n", ""),
            (": open", "\n"),
            (": their own\n\n", ""),
        ] {
            let request = Request::get("/app/stream").header("accept", "text/event-stream");
            let answer = (headers.as_str(), body);
            let text = behind(&gateway, &upstream, (via, request), answer, "y\n:\n").await;
            let expected = format!("{behind_it}retry: 3000\n: ready\n:\n");
            assert_eq!(text, expected, "{via:?} {body:?}");

            let request = (via, Request::events("/app/stream"));
            let text = behind(&gateway, &upstream, request, answer, ": ready\n\n").await;
            let begin = format!("{behind_it}retry: 3000\nid: ");
            assert!(text.starts_with(&begin), "{via:?} {body:?} {text:?}");
        }
    }
    // The route says otherwise.
    let lines = in_front_of(&redis, &upstream, ", ready: line").await;
    let request = (Via::Http1, Request::events("/app/stream"));
    let text = behind(&lines, &upstream, request, (&headers, ""), ": ready\n").await;
    assert_eq!(text, "retry: 3000\n: ready\n");
    let blocks = in_front_of(&redis, &upstream, ", ready: block").await;
    let request = (Via::Http1, Request::get("/app/stream"));
    let text = behind(&blocks, &upstream, request, (&headers, ""), ": ready\n\n").await;
    assert!(text.starts_with("retry: 3000\nid: "), "{text:?}");
}

#[tokio::test]
async fn a_keep_alive_of_the_backends_own_is_sent_as_it_is() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, ", keep_alive: 1s").await;
    for (keep_alive, expected) in [
        (":", ":\n"),
        (":\\n\\n; format=cstring", ":\n\n"),
        ("event: ping\\ndata:; format=cstring", "event: ping\ndata:\n\n"),
    ] {
        let headers = hold("news") + &format!("grip-keep-alive: {keep_alive}\r\n");
        let request = (Via::Http1, Request::get("/app/stream"));
        let end = format!(": ready\n{expected}{expected}");
        let text = behind(&gateway, &upstream, request, (&headers, ""), &end).await;
        assert_eq!(text, format!("retry: 3000\n{end}"), "{keep_alive}");
    }
}

#[tokio::test]
async fn what_the_body_leaves_open_does_not_swallow_an_event() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, "").await;
    for via in [Via::Http1, Via::Http2] {
        for body in [
            "data: open",
            "data: open\n",
            "data: open\r",
            "data: open\r\n",
            "\u{feff}data: open\r\r",
        ] {
            let mut stream = open(&gateway, &upstream, via, "news", body).await;
            assert_eq!(stream.next_event().await.data, "open", "{body:?}");
            stream.ready().await;
            redis.publish("news", "next").await;
            assert_eq!(stream.next_event().await.data, "next", "{body:?}");
        }
        // A time to come back that the backend has chosen stays.
        let mut stream = open(&gateway, &upstream, via, "news", "retry: 9\n\n").await;
        assert_eq!(stream.next_block().await.retry, Some(9));
        assert_eq!(stream.ready().await.retry, None);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_does_not_look_complete() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, "").await;
    for via in Via::ALL {
        let answer = async {
            let mut call = upstream.call().await;
            let head = format!("HTTP/1.1 200 OK\r\n{}content-length: 100\r\n\r\n", hold("news"));
            call.write(head + "data: half\n\n").await;
        };
        let request = Request::events("/app/stream");
        let (response, ()) = tokio::join!(gateway.send(via, request), answer);
        let mut body = response.body;
        let end = within(SOON, "the end of the body", body.rest()).await;
        assert!(end.is_err(), "{via:?}: {end:?}");
    }
    gateway.counts("ssegate_streams_closed_total", &["reason=\"backend_failed\""], 4.0).await;
}

#[tokio::test]
async fn events_wait_behind_a_body_that_takes_its_time() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, "").await;
    for via in Via::ALL {
        // Another for each: one that is followed already would tell nothing of this stream.
        let channel = format!("{via:?}");
        let answer = async {
            let mut call = upstream.call().await;
            let head = format!("HTTP/1.1 200 OK\r\n{}content-length: 18\r\n\r\n", hold(&channel));
            call.write(head + "data: a\n\n").await;
            call
        };
        let request = Request::events("/app/stream");
        let (response, mut call) = tokio::join!(gateway.send(via, request), answer);
        let mut stream = response.stream();
        assert_eq!(stream.next_event().await.data, "a");
        // It is subscribed already: nothing between head and end is lost.
        let heard = async || redis.publish(&channel, "c").await == 1;
        crate::support::eventually(SOON, "the channel is followed", heard).await;
        call.write("data: b\n\n").await;
        assert_eq!(stream.next_event().await.data, "b", "{via:?}");
        assert_eq!(stream.next_event().await.data, "c", "{via:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_followed_is_a_502_for_pages_and_a_retry_for_streams() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, "").await;
    let long = "x".repeat(256);
    for (headers, told) in [
        ("grip-hold: response\r\ngrip-channel: a\r\n".to_owned(), "long polling"),
        ("grip-hold: stream\r\n".to_owned(), "without a Grip-Channel"),
        (hold("__keyspace@0__:x"), "reserved by Redis"),
        (hold(&long), "longer than 255 bytes"),
        (hold("a; filter=skip-self"), "filters are not supported"),
        (hold("a") + "grip-keep-alive: x; format=hex\r\n", "Grip-Keep-Alive is malformed"),
        (hold("a") + "content-encoding: gzip\r\n", "Content-Encoding"),
    ] {
        let answer = ("200 OK", headers.as_str(), "secret");
        let request = (Via::Http2, Request::get("/app/stream"));
        let response = ask(&gateway, &upstream, request, answer).await;
        assert_eq!(response.status, 502, "{headers}");
        let text = response.text().await;
        assert!(!text.contains("secret") && !text.contains("__keyspace"), "{text}");

        // An `EventSource` would never come back from a 502.
        let request = (Via::Http1, Request::events("/app/stream"));
        ask(&gateway, &upstream, request, answer).await.stream().sent_away().await;
        gateway.logs(told).await;
    }
    let rejected = gateway.metrics().await;
    let rejected = rejected.sum("ssegate_http_requests_rejected_total", &["reason=\"handover\""]);
    assert_eq!(rejected, 14.0);
}

#[tokio::test]
async fn without_a_body_there_is_no_stream() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, "").await;
    for via in Via::ALL {
        let request = (via, Request::new("HEAD", "/app/stream"));
        let response = ask(&gateway, &upstream, request, ("200 OK", &hold("news"), "")).await;
        assert_eq!(response.header("content-type"), "text/event-stream");
        assert_eq!(response.header("grip-hold"), "");
        assert_eq!(response.text().await, "");

        let headers = hold("news") + "grip-status: 304\r\netag: \"x\"\r\n";
        let request = (via, Request::get("/app/stream"));
        let response = ask(&gateway, &upstream, request, ("200 OK", &headers, "")).await;
        assert_eq!((response.status, response.header("etag")), (304, "\"x\""), "{via:?}");
        assert_eq!(response.text().await, "");
    }
    assert_eq!(gateway.metrics().await.sum("ssegate_streams_opened_total", &[]), 0.0);
}

#[tokio::test]
async fn old_clients_get_them_too() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, "").await;
    let mut io = Via::Http1.connect(gateway.address("http")).await;
    let request = b"GET /app/stream HTTP/1.0\r\nhost: localhost\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut io, request).await.unwrap();
    upstream.call().await.answer("200 OK", &hold("news"), "data: a\n\n").await;
    let mut text = String::new();
    let ready = async {
        while !text.contains(": ready\n") {
            let mut bytes = [0; 512];
            let length = io.read(&mut bytes).await.unwrap();
            text.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
    };
    within(SOON, "`ready`", ready).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        !head.contains("chunked") && body.starts_with("data: a\n\nretry: 3000\n: ready\n"),
        "{text}"
    );
}

#[tokio::test]
async fn while_redis_is_away_the_stream_is_held_and_ready_comes_later() {
    let mut redis = Redis::stopped(&[]);
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, ", keep_alive: 1s").await;
    let mut stream = open(&gateway, &upstream, Via::Http2, "news", "data: hello\n\n").await;
    assert_eq!(stream.next_event().await.data, "hello");
    assert_eq!(stream.next_block().await.retry, Some(3000));
    stream.next_comment().await;
    redis.restart().await;
    stream.ready().await;
    redis.publish("news", "live").await;
    assert_eq!(stream.next_event().await.data, "live");
}

#[tokio::test]
async fn the_body_may_tell_of_logs_up_to_an_entry_of_each() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream, ", source: stream").await;
    let add = async |log: &str, id: &str, text: &str| {
        redis.command::<String>(&["XADD", log, id, "data", text]).await;
    };
    for id in ["1-0", "2-0"] {
        add("orders", id, &format!("order {id}")).await;
        add("bills", id, &format!("bill {id}")).await;
    }
    let headers = "orders; prev-id=1-0, bills; prev-id=2-0";
    let mut stream = open(&gateway, &upstream, Via::Http2, headers, "data: old\n\n").await;
    assert_eq!(stream.next_event().await.data, "old");
    assert_eq!(stream.next_event().await.data, "order 2-0");
    stream.ready().await;
    add("bills", "3-0", "bill 3-0").await;
    assert_eq!(stream.next_event().await.data, "bill 3-0");
    let position = stream.last_id().to_owned();

    // It comes back, and the backend names them in another order and tells of one alone.
    add("orders", "3-0", "order 3-0").await;
    add("bills", "4-0", "bill 4-0").await;
    let request = Request::events("/app/stream").header("last-event-id", &position);
    let headers = hold("bills, orders; prev-id=1-0");
    let answer = ("200 OK", headers.as_str(), "data: again\n\n");
    let mut stream = ask(&gateway, &upstream, (Via::Http1, request), answer).await.stream();
    assert_eq!(stream.next_event().await.data, "again");
    let mut missed = Vec::new();
    for _ in 0..3 {
        let event = stream.next_event().await;
        assert_eq!(event.name, "message", "{}", event.data);
        missed.push(event.data);
    }
    missed.sort();
    assert_eq!(missed, ["bill 4-0", "order 2-0", "order 3-0"]);
}
