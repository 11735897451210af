//! What a stream looks like on the wire.
//!
//! A head that leaves at once, a comment and `retry:` as lines, `: ready`, then events, each the moment
//! it is published and with its id at the end. No block without data, but for a browser's
//! `EventSource`.

use crate::support::{Gateway, Redis, Request, SOON, Via, within};

#[tokio::test]
async fn a_stream_opens_with_its_head_and_retry_before_anything_is_published() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;

    for via in Via::ALL {
        let request = Request::get("/events/news").header("accept-encoding", "gzip, br, zstd");
        let response = gateway.send(via, request).await;
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-type"), "text/event-stream; charset=utf-8");
        assert_eq!(response.header("cache-control"), "no-store");
        assert_eq!(response.header("x-accel-buffering"), "no");
        assert!(!response.headers.contains_key("content-encoding"));
        assert!(!response.headers.contains_key("content-length"));

        let first = response.stream().next_block().await;
        assert_eq!(first.retry, Some(3000));
        assert_eq!(first.event, None);
    }
}

#[tokio::test]
async fn head_and_retry_leave_at_once_even_while_redis_is_away() {
    let redis = Redis::stopped(&[]);
    let gateway = Gateway::start(&redis).await;

    let mut response = gateway.get("/events/news").await;
    let start = within(SOON, "the first bytes", response.body.until("retry: 3000\n")).await;
    assert_eq!(start, ":\nretry: 3000\n");
}

/// What has come when `ready` has, with the rest of its block.
async fn start(gateway: &Gateway, via: Via, request: Request) -> String {
    let mut response = gateway.send(via, request).await;
    let mut start = within(SOON, "`ready`", response.body.until(": ready\n")).await;
    if start.contains("id: ") && !start.ends_with("\n\n") {
        start += &within(SOON, "the end of the block", response.body.until("\n")).await;
    }
    start
}

fn is_position(id: &str) -> bool {
    let (run, number) = id.split_once('-').unwrap_or_default();
    // The third part is for other gateways.
    let (number, name) = number.split_once('-').unwrap_or((number, ""));
    matches!(name.len(), 0 | 23)
        && !run.is_empty()
        && run.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && number.parse::<u64>().is_ok()
}

#[tokio::test]
async fn ready_is_a_line_and_for_a_browser_a_block_with_its_position() {
    const CHROMIUM: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36";
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    for (headers, is_browser) in [
        (&[][..], false),
        // An `EventSource` in a page that came over https, and in one that did not.
        (&[("cache-control", "no-cache"), ("sec-fetch-mode", "cors")], true),
        (&[("cache-control", "no-cache"), ("user-agent", CHROMIUM)], true),
        (&[("cache-control", "max-age=0, No-Cache"), ("user-agent", CHROMIUM)], true),
        // `fetch`, with the cache as it is by default.
        (&[("sec-fetch-mode", "cors"), ("user-agent", CHROMIUM)], false),
        // Symfony's client, sseclient, httpx-sse.
        (&[("cache-control", "no-cache"), ("user-agent", "Symfony HttpClient (Curl)")], false),
        (&[("cache-control", "no-cache"), ("user-agent", "python-requests/2.34.2")], false),
        (&[("cache-control", "no-store"), ("user-agent", "python-httpx/0.28.1")], false),
        (&[("cache-control", "no-cache"), ("sec-fetch-mode", "navigate")], false),
    ] {
        for via in [Via::Http1, Via::Http2] {
            let mut request = Request::get("/events/news").header("accept", "text/event-stream");
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let start = start(&gateway, via, request).await;
            let rest = start.strip_prefix(":\nretry: 3000\n").unwrap_or_else(|| panic!("{start}"));
            if is_browser {
                let id =
                    rest.strip_prefix("id: ").and_then(|rest| rest.strip_suffix("\n: ready\n\n"));
                assert!(id.is_some_and(is_position), "{headers:?} {start:?}");
            } else {
                assert_eq!(rest, ": ready\n", "{headers:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_route_chooses_the_form_of_ready() {
    let redis = Redis::start().await;
    let events = |path: &str, more: &str| {
        format!("- path: {path}\n  events: {{ channels: [news]{more} }}\n")
    };
    let routes = [
        events("/default", ""),
        events("/auto", ", ready: auto"),
        events("/line", ", ready: line"),
        events("/block", ", ready: block"),
        events("/nothing", ", ready: block, history: off"),
    ];
    let gateway = Gateway::build(&redis)
        .settings("sse: { ready: block }")
        .routes(&routes.concat())
        .start()
        .await;
    for (path, of_anybody, of_a_browser) in [
        ("/default", true, true),
        ("/auto", false, true),
        ("/line", false, false),
        ("/block", true, true),
        // There is no position without a history.
        ("/nothing", false, false),
    ] {
        let anybody = start(&gateway, Via::Http1, Request::get(path)).await;
        let browser = start(&gateway, Via::Http1, Request::events(path)).await;
        for (start, is_block) in [(anybody, of_anybody), (browser, of_a_browser)] {
            assert_eq!(start.ends_with("\n: ready\n\n"), is_block, "{path} {start:?}");
            assert_eq!(start == ":\nretry: 3000\n: ready\n", !is_block, "{path} {start:?}");
        }
    }
}

#[tokio::test]
async fn no_block_without_data_is_sent_from_the_opening_to_the_farewell() {
    let redis = Redis::start().await;
    let settings = "drain: 1s\nsse: { keep_alive: 1s }";
    let mut gateway = Gateway::build(&redis).settings(settings).start().await;
    let mut streams = Vec::new();
    for via in Via::ALL {
        let mut body = gateway.send(via, Request::get("/events/news")).await.body;
        let begin = within(SOON, "`ready`", body.until(": ready\n")).await;
        assert_eq!(begin, ":\nretry: 3000\n: ready\n", "{via:?}");
        streams.push((via, body));
    }
    for (_, body) in &mut streams {
        assert_eq!(within(SOON, "a keep-alive", body.until("\n")).await, ":\n");
    }
    redis.publish("news", "hello").await;
    for (via, body) in &mut streams {
        // More keep-alives may have come before it.
        let event = within(SOON, "an event", body.until("\n\n")).await;
        let event = event.trim_start_matches(":\n").to_owned();
        let id = event.strip_prefix("data: hello\nid: ").and_then(|id| id.strip_suffix("\n\n"));
        assert!(id.is_some_and(is_position), "{via:?} {event:?}");
    }
    gateway.terminate();
    for (via, mut body) in streams {
        let rest = within(SOON, "the end", body.rest()).await.unwrap();
        let rest = String::from_utf8(rest).unwrap();
        let farewell = rest.trim_start_matches(":\n").strip_prefix("retry: ");
        let wait = farewell.and_then(|wait| wait.strip_suffix('\n')).map(str::parse::<u64>);
        assert!(matches!(wait, Some(Ok(3000..=6000))), "{via:?} {rest:?}");
    }
    assert!(gateway.exit_within(SOON).await.success());
}

#[tokio::test]
async fn a_stream_that_cannot_be_had_now_is_one_line() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .route("- path: /gone\n  proxy: { upstream: \"http://127.0.0.1:1\" }\n")
        .start()
        .await;
    for via in Via::ALL {
        let response = gateway.send(via, Request::events("/gone")).await;
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-type"), "text/event-stream; charset=utf-8");
        let text = response.text().await;
        // A comment with the reason may stand before it.
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with(": ")).collect();
        let [retry] = lines[..] else { panic!("{via:?} {text:?}") };
        let wait: u64 = retry.strip_prefix("retry: ").unwrap().parse().unwrap();
        assert!((3000..=6000).contains(&wait), "{text:?}");
        assert!(!text.contains("\n\n") && text.ends_with('\n'), "{via:?} {text:?}");
    }
}

#[tokio::test]
async fn what_is_published_after_ready_arrives_as_one_data_line_and_its_id() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut response = gateway.get("/events/news").await;
    within(SOON, "`ready`", response.body.until(": ready\n")).await;

    redis.publish("news", "hello").await;
    let event = within(SOON, "an event", response.body.until("\n\n")).await;
    let lines: Vec<_> = event.lines().collect();
    let ["data: hello", id, ""] = lines[..] else { panic!("{event:?}") };
    assert!(id.strip_prefix("id: ").is_some_and(is_position), "{id}");
}

#[tokio::test]
async fn the_id_is_the_last_field_of_every_event() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis)
        .routes(
            "- path: /envelope\n  events: { channels: [news], format: envelope }\n\
             - path: /streams\n  events: { channels: [a, b], source: stream }\n\
             - path: /own\n  events: { channels: [news], format: envelope, history: off }\n",
        )
        .start()
        .await;
    for (path, is_log) in [("/envelope", false), ("/own", false), ("/streams", true)] {
        for via in [Via::Http1, Via::Http2] {
            let mut body = gateway.send(via, Request::get(path)).await.body;
            within(SOON, "`ready`", body.until(": ready\n")).await;
            if is_log {
                let fields =
                    ["XADD", "b", "*", "data", "one\ntwo", "event", "ping", "retry", "700"];
                redis.command::<String>(&fields).await;
            } else {
                let envelope = r#"{"event":"ping","data":"one\ntwo","id":"7","retry":700}"#;
                redis.publish("news", envelope).await;
            }
            let event = within(SOON, "an event", body.until("\n\n")).await;
            let fields = "event: ping\nretry: 700\ndata: one\ndata: two\nid: ";
            let id = event.strip_prefix(fields).and_then(|rest| rest.strip_suffix("\n\n"));
            assert!(id.is_some_and(|id| !id.contains('\n')), "{path} {event:?}");
        }
    }
}

#[tokio::test]
async fn a_gap_has_its_id_at_the_end_too() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let request = Request::events("/events/news").header("last-event-id", "another-7");
    let mut body = gateway.send(Via::Http1, request).await.body;
    let start = within(SOON, "a gap", body.until("\n\n")).await;
    let gap = start.strip_prefix(":\nretry: 3000\nevent: gap\ndata: {").unwrap();
    let id = gap.split_once("}\nid: ").unwrap().1.strip_suffix("\n\n").unwrap();
    assert!(is_position(id), "{start:?}");
}

#[tokio::test]
async fn ids_belong_to_one_run_and_grow_over_all_channels() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut a = gateway.subscribe("/events/a").await;
    let mut both = gateway.subscribe("/events?channel=a&channel=b").await;

    for channel in ["a", "b", "a", "b"] {
        redis.publish(channel, channel).await;
    }
    let mut ids = Vec::new();
    for expected in ["a", "b", "a", "b"] {
        let event = both.next_event().await;
        assert_eq!(event.data, expected);
        ids.push(event.id);
    }
    assert_eq!(a.next_event().await.id, ids[0]);
    assert_eq!(a.next_event().await.id, ids[2]);

    // The third part is for other gateways.
    let parsed = ids.iter().map(|id| id.split('-'));
    let parsed: Vec<_> = parsed.map(|mut id| (id.next().unwrap(), id.next().unwrap())).collect();
    let numbers: Vec<u64> = parsed.iter().map(|(_, number)| number.parse().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert!(parsed.iter().all(|(run, _)| *run == parsed[0].0), "{ids:?}");
}

#[tokio::test]
async fn another_run_has_another_tag() {
    let redis = Redis::start().await;
    let gateways = (Gateway::start(&redis).await, Gateway::start(&redis).await);
    let first = gateways.0.subscribe("/events/news").await;
    let second = gateways.1.subscribe("/events/news").await;
    let tag = |id: &str| id.split_once('-').unwrap().0.to_owned();
    assert_ne!(tag(first.last_id()), tag(second.last_id()));
}

#[tokio::test]
async fn without_history_there_are_no_ids() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).events("history: off").start().await;
    let mut stream = gateway.open("/events/news").await;
    assert_eq!(stream.ready().await.id, None);

    redis.publish("news", "hello").await;
    let block = stream.next_block().await;
    assert_eq!(block.id, None);
    assert_eq!(block.event.unwrap().data, "hello");
}

#[tokio::test]
async fn an_empty_payload_is_an_event_with_empty_data() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut stream = gateway.subscribe("/events/news").await;

    redis.publish("news", "").await;
    redis.publish("news", "after").await;
    assert_eq!(stream.next_event().await.data, "");
    assert_eq!(stream.next_event().await.data, "after");
}

#[tokio::test]
async fn no_payload_forges_a_field_or_ends_an_event() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut stream = gateway.subscribe("/events/news").await;

    let forged = "a\n\nevent: admin\ndata: b\r\rid: 9\r\n\r\nretry: 1\n: comment";
    redis.publish("news", forged).await;
    let block = stream.next_word().await;
    let event = block.event.unwrap();
    assert_eq!(event.name, "message");
    assert_eq!(event.data, "a\n\nevent: admin\ndata: b\n\nid: 9\n\nretry: 1\n: comment");
    assert_eq!((block.retry, block.comments), (None, vec![]));
    assert_ne!(event.id, "9");
}

#[tokio::test]
async fn several_channels_share_one_stream_in_the_order_of_redis() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut stream = gateway.subscribe("/events?channel=a&channel=b&channel=a").await;

    for number in 0..100 {
        redis.publish(if number % 3 == 0 { "b" } else { "a" }, number.to_string()).await;
    }
    for number in 0..100 {
        assert_eq!(stream.next_event().await.data, number.to_string());
    }
}

#[tokio::test]
async fn head_answers_the_headers_of_a_stream_and_opens_none() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;

    for via in Via::ALL {
        let mut response = gateway.send(via, Request::new("HEAD", "/events/news")).await;
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-type"), "text/event-stream; charset=utf-8");
        assert_eq!(response.header("cache-control"), "no-store");
        assert_eq!(response.body.rest().await.unwrap(), b"");
    }
    assert_eq!(redis.listeners("news").await, 0);
    assert_eq!(gateway.metrics().await.sum("ssegate_streams", &[]), 0.0);
}

#[tokio::test]
async fn retry_is_what_the_route_says() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).settings("sse: { retry: 5s }").start().await;
    assert_eq!(gateway.open("/events/news").await.next_block().await.retry, Some(5000));

    let gateway = Gateway::build(&redis).events("retry: 7s").start().await;
    assert_eq!(gateway.open("/events/news").await.next_block().await.retry, Some(7000));
}

#[tokio::test]
async fn no_last_event_id_can_do_harm() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let long = "9".repeat(8 << 10);
    for id in ["", "1", "other-7", "\u{e9}\u{20ac}", "-1", "a-18446744073709551616", &long] {
        let request = Request::events("/events/news").header("last-event-id", id);
        let mut stream = gateway.send(Via::Http1, request).await.stream();
        loop {
            let block = stream.next_block().await;
            if block.comments.iter().any(|comment| comment == "ready") {
                break;
            }
            let event = block.event.map(|event| event.name);
            assert!(event.is_none_or(|name| name == "gap"), "{id:?}");
        }
        redis.publish("news", "hello").await;
        assert_eq!(stream.next_event().await.data, "hello", "{id:?}");
    }
}
