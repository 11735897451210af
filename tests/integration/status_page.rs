//! The status page: what it is made of, what it says live, and who may look.

use serde_json::Value;
use tokio::time::sleep;

use crate::support::{EventStream, Gateway, Redis, Request, Response, SOON, Via, eventually};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

async fn ask(gateway: &Gateway, request: Request) -> Response {
    request.send(Via::Http1, gateway.address("admin")).await
}

async fn reports(gateway: &Gateway) -> EventStream {
    let response = ask(gateway, Request::events("/status/events")).await;
    assert_eq!(response.status, 200);
    response.stream()
}

async fn next(reports: &mut EventStream) -> Value {
    serde_json::from_str(&reports.next_event().await.data).unwrap()
}

/// Waits for a report that is as `is_expected` says.
async fn until(reports: &mut EventStream, is_expected: impl Fn(&Value) -> bool) -> Value {
    let mut newest = Value::Null;
    for _ in 0..120 {
        newest = next(reports).await;
        if is_expected(&newest) {
            return newest;
        }
    }
    panic!("never reported; the newest: {newest:#}");
}

async fn viewers(gateway: &Gateway, count: f64) {
    gateway.counts("ssegate_status_viewers", &[], count).await;
}

#[tokio::test]
async fn a_browser_is_sent_the_live_page_and_others_the_plain_one() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    gateway.becomes(200, SOON).await;
    let page = ask(&gateway, Request::get("/").header("accept", BROWSER)).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("cache-control"), "no-cache");
    let policy = page.header("content-security-policy").to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    let tag = page.header("etag").to_owned();
    let text = page.text().await;
    let parts = text.split("=\"/page/").skip(1).map(|part| part.split('"').next().unwrap());
    let parts: Vec<String> = parts.map(|part| format!("/page/{part}")).collect();
    assert!(parts.len() >= 4, "{parts:?}");

    let again = Request::get("/").header("accept", BROWSER).header("if-none-match", &tag);
    let again = ask(&gateway, again).await;
    assert_eq!((again.status, again.text().await), (304, String::new()));
    for (target, accept) in [("/", "*/*"), ("/plain", BROWSER)] {
        let plain = ask(&gateway, Request::get(target).header("accept", accept)).await.text().await;
        assert!(plain.contains("<th>Redis<td>connected"), "{target}: {plain}");
        assert!(!plain.contains("<script"), "{plain}");
    }
    for part in &parts {
        let whole = ask(&gateway, Request::get(part)).await;
        assert_eq!(whole.status, 200, "{part}");
        assert_eq!(whole.header("x-content-type-options"), "nosniff", "{part}");
        let (kind, tag) =
            (whole.header("content-type").to_owned(), whole.header("etag").to_owned());
        assert!(!whole.text().await.is_empty());
        let head = ask(&gateway, Request::new("HEAD", part)).await;
        assert_eq!((head.status, head.header("content-type")), (200, &*kind), "{part}");
        assert_eq!(head.header("etag"), &*tag, "{part}");
        assert_eq!(head.text().await, "", "{part}");
        assert_eq!(ask(&gateway, Request::new("POST", part)).await.status, 405, "{part}");
    }
    assert_eq!(ask(&gateway, Request::get("/page/")).await.status, 404);
    assert_eq!(ask(&gateway, Request::get("/status/other")).await.status, 404);
}

#[tokio::test]
async fn it_reports_streams_channels_and_rates_while_somebody_looks() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut streams = gateway.subscribe_all("/events/news", 3).await;
    streams.push(gateway.subscribe_via(Via::Http2, "/events/%3Cimg%3E").await);
    let mut reports = reports(&gateway).await;
    let first = until(&mut reports, |report| report["open"] == 4).await;
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&first["source"]["ready"], &first["channels"]), (&true.into(), &2.into()));
    assert_eq!(first["limits"]["channels"], 100_000);
    let certificates = first["certificates"].as_array().unwrap();
    assert!(certificates.iter().all(|of| of["ends"].as_f64() > Some(1e9)), "{certificates:?}");
    let is_local = |of: &Value| of["file"].as_str().is_some_and(|it| it.ends_with("local.crt"));
    assert_eq!(certificates.iter().filter(|of| is_local(of)).count(), 1, "{certificates:?}");
    viewers(&gateway, 1.0).await;

    // Until one report has seen them, at the latest a second later.
    let publishing = async {
        loop {
            redis.publish("news", "hello").await;
            redis.publish("news", "hello").await;
            redis.publish("<img>", "hello").await;
            sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    // The shards count at their ticks.
    let busy = |report: &Value| {
        let is_counted = report["rates"]["out"].as_f64() > report["rates"]["in"].as_f64();
        is_counted && report["busiest"].as_array().is_some_and(|all| all.len() == 2)
    };
    let report = tokio::select! {
        report = until(&mut reports, busy) => report,
        () = publishing => unreachable!(),
    };
    let [news, other] = [&report["busiest"][0], &report["busiest"][1]];
    assert_eq!((&news["channel"], &news["readers"]), (&"news".into(), &3.into()), "{report}");
    assert_eq!((&other["channel"], &other["known_as"]), (&"<img>".into(), &"<img>".into()));
    assert!(news["rate"].as_f64() > other["rate"].as_f64(), "{report}");
    assert!(report["rates"]["in"].as_f64() > Some(0.0), "{report}");
    assert!(report["latency"]["p99"].as_f64() >= report["latency"]["p50"].as_f64(), "{report}");
    drop(reports);
    viewers(&gateway, 0.0).await;
}

#[tokio::test]
async fn an_outage_of_redis_is_told_with_its_cause_and_its_end() {
    let mut redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    gateway.becomes(200, SOON).await;
    let mut reports = reports(&gateway).await;
    assert_eq!(next(&mut reports).await["source"]["outages"], Value::Array(Vec::new()));
    redis.kill();
    let away = until(&mut reports, |report| report["source"]["ready"] == false).await;
    let outage = &away["source"]["outages"][0];
    assert_eq!((&outage["source"], &outage["ended"]), (&"Redis".into(), &Value::Null), "{away}");
    redis.restart().await;
    let back = until(&mut reports, |report| report["source"]["ready"] == true).await;
    let outage = &back["source"]["outages"][0];
    assert!(outage["ended"].as_f64() >= outage["began"].as_f64(), "{back}");
    assert!(outage["cause"].is_string() && outage["failures"].as_u64() > Some(0), "{back}");
}

#[tokio::test]
async fn as_many_may_look_as_there_are_places_and_nothing_is_left_of_them() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    gateway.becomes(200, SOON).await;
    let files = gateway.open_files();
    let mut all = Vec::new();
    for _ in 0..16 {
        all.push(reports(&gateway).await);
    }
    viewers(&gateway, 16.0).await;
    let refused = ask(&gateway, Request::events("/status/events")).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "10"));
    assert!(refused.text().await.contains("16 status pages are open already"));
    for reports in &mut all {
        assert_eq!(next(reports).await["draining"], false);
    }
    // A head takes no place.
    let head = ask(&gateway, Request::new("HEAD", "/status/events")).await;
    assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"));
    all.clear();
    viewers(&gateway, 0.0).await;
    eventually(SOON, "their connections are closed", async || gateway.open_files() <= files + 2)
        .await;
    let mut later = reports(&gateway).await;
    assert_eq!(next(&mut later).await["rates"]["in"], Value::Null, "it has begun anew");
}

#[tokio::test]
async fn what_passes_on_a_channel_can_be_followed() {
    let redis = Redis::start().await;
    let enveloped = "- path: /orders/{id}\n  events: { channels: [\"order:{id}\"], format: envelope, strip_prefix: \"app:\" }\n";
    let gateway = Gateway::build(&redis).route(enveloped).start().await;
    gateway.becomes(200, SOON).await;
    let target = "/status/follow?channel=order:7";
    let mut followed = ask(&gateway, Request::events(target)).await.stream();
    followed.ready().await;
    viewers(&gateway, 1.0).await;
    let message = r#"{"event":"shipped","data":{"note":"<img src=x>"}}"#;
    redis.publish("app:order:7", message).await;
    let event = followed.next_event().await;
    assert_eq!((&*event.name, &*event.data), ("shipped", r#"{"note":"<img src=x>"}"#));
    assert!(event.id.contains('-'), "{}", event.id);
    drop(followed);
    viewers(&gateway, 0.0).await;
    gateway.counts("ssegate_subscriptions", &[], 0.0).await;

    for (target, status, why) in [
        ("/status/follow", 400, "channel="),
        ("/status/follow?channel=ssegate:mark", 404, "ssegate:"),
        ("/status/follow?channel=", 404, "no route"),
    ] {
        let refused = ask(&gateway, Request::events(target)).await;
        assert_eq!(refused.status, status, "{target}");
        let text = refused.text().await;
        assert!(text.contains(why), "{target}: {text}");
    }
    let mut all = Vec::new();
    for _ in 0..8 {
        all.push(ask(&gateway, Request::events(target)).await.stream());
    }
    assert_eq!(ask(&gateway, Request::events(target)).await.status, 503);
    drop(all);
    viewers(&gateway, 0.0).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_named_by_a_hash_and_its_route() {
    let redis = Redis::start().await;
    let settings = "sse: { queue: { bytes: 64MiB } }\nsockets: { send_buffer: 16KiB }\n";
    let gateway = Gateway::build(&redis).settings(settings).start().await;
    let _reader = gateway.subscribe("/events/news").await;
    let large = "x".repeat(512 << 10);
    for _ in 0..40 {
        redis.publish("news", &large).await;
    }
    let mut reports = reports(&gateway).await;
    let is_listed = |report: &Value| report["slowest"].as_array().is_some_and(|it| !it.is_empty());
    let report = until(&mut reports, is_listed).await;
    let slow = &report["slowest"][0];
    assert_eq!((&slow["route"], &slow["channels"]), (&"/events/{channel}".into(), &1.into()));
    assert!(slow["behind"].as_f64() >= Some(0.25), "{slow}");
    assert!(slow["queued"].as_u64() > Some(1 << 20), "{slow}");
    let client = slow["client"].as_str().unwrap();
    assert!(client.len() == 8 && client.chars().all(|c| c.is_ascii_hexdigit()), "{slow}");
    assert!(!report.to_string().contains("\"127.0.0.1\""), "{report}");
}

#[tokio::test]
async fn a_page_of_another_site_sees_nothing_and_takes_no_place() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let live = ["/status/events", "/status/follow?channel=news"];
    for target in ["/page/status.js", "/plain"].into_iter().chain(live) {
        for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
            let response = ask(&gateway, Request::get(target).header("origin", origin)).await;
            assert_eq!(response.status, 403, "{target} from {origin}");
            assert_eq!(response.header("access-control-allow-origin"), "");
        }
        let rebound = ask(&gateway, Request::get(target).host("evil.example")).await;
        assert_eq!(rebound.status, 403, "{target}");
    }
    for target in live {
        for site in ["cross-site", "same-site"] {
            let image = Request::get(target).header("sec-fetch-site", site);
            assert_eq!(ask(&gateway, image).await.status, 403, "{target} from {site}");
        }
        assert_eq!(ask(&gateway, Request::new("POST", target)).await.status, 405, "{target}");
    }
    let own = format!("http://{}", gateway.address("admin"));
    let publish = |origin: &str, site: &str| {
        let request = Request::new("POST", "/publish/news").body(b"x");
        request.header("origin", origin).header("sec-fetch-site", site)
    };
    assert_eq!(ask(&gateway, publish("https://evil.example", "cross-site")).await.status, 403);
    assert_eq!(ask(&gateway, publish(&own, "same-origin")).await.status, 200);
    viewers(&gateway, 0.0).await;
}

#[tokio::test]
async fn with_auth_what_is_live_needs_a_credential_and_the_parts_of_the_page_do_not() {
    let redis = Redis::start().await;
    // printf %s admin-token | sha256sum
    let token =
        "{ name: ops, sha256: 10a4c7c9fc5206d6f36dc6944a81bb6f4a3cb0e25014ae3b12e6c3e52712292a }";
    let admin = format!("{{ address: \"0.0.0.0:0\", auth: {{ tokens: [{token}] }} }}");
    let gateway = Gateway::build(&redis).admin(&admin).start().await;
    for target in ["/", "/plain", "/status/events", "/status/follow?channel=news"] {
        let without = ask(&gateway, Request::get(target).header("accept", BROWSER)).await;
        assert_eq!(without.status, 401, "{target}");
        assert!(!without.header("www-authenticate").is_empty(), "{target}");
        let with = Request::get(target).header("authorization", "Bearer admin-token");
        assert_eq!(ask(&gateway, with).await.status, 200, "{target}");
    }
    assert_eq!(ask(&gateway, Request::get("/page/status.js")).await.status, 200);
}

#[tokio::test]
async fn where_many_may_look_nothing_is_shown_that_clients_sent() {
    let redis = Redis::start().await;
    let admin = "{ address: \"0.0.0.0:0\" }";
    let gateway = Gateway::build(&redis).admin(admin).start().await;
    let _stream = gateway.subscribe("/events/secret-name").await;
    let mut reports = reports(&gateway).await;
    let report = until(&mut reports, |report| report["open"] == 1).await;
    assert_eq!((&report["private"], &report["publishes"]), (&false.into(), &false.into()));
    assert!(report["busiest"].is_null() && !report.to_string().contains("secret-name"), "{report}");
    let refused = ask(&gateway, Request::events("/status/follow?channel=secret-name")).await;
    assert_eq!(refused.status, 403);
    assert!(refused.text().await.contains("admin.auth"));
}

#[tokio::test]
async fn a_drain_ends_what_is_live_in_good_order() {
    let redis = Redis::start().await;
    let settings = "drain: 1s\ndrain_delay: 5s\n";
    let mut gateway = Gateway::build(&redis).settings(settings).start().await;
    let mut reports = reports(&gateway).await;
    let report = next(&mut reports).await;
    assert_eq!(report["draining"], false);
    gateway.terminate();
    let last = until(&mut reports, |report| report["draining"] == true).await;
    assert_eq!(last["open"], 0);
    assert_eq!(reports.end().await, Ok(()));
    // Asked again it says so once more, while the listener is there.
    let mut again = ask(&gateway, Request::events("/status/events")).await.stream();
    assert_eq!(next(&mut again).await["draining"], true);
    assert_eq!(again.end().await, Ok(()));
    assert!(gateway.exit_within(SOON).await.success());
}
