//! The level of the log, changed while the gateway runs.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::auth::CRON;
use crate::support::{Gateway, GatewayBuilder, Redis, Request, Response, SOON, Via, eventually};

/// What is logged at the level of debugging when a client has no credential.
const DEBUGGED: &str = "not admitted";

async fn log(gateway: &Gateway, request: Request) -> Response {
    request.send(Via::Http1, gateway.address("admin")).await
}

async fn put(gateway: &Gateway, body: &str) -> (u16, String) {
    let response = log(gateway, Request::new("PUT", "/log").body(body.as_bytes())).await;
    (response.status, response.text().await)
}

async fn shown(gateway: &Gateway) -> Value {
    let text = log(gateway, Request::get("/log")).await.text().await;
    serde_json::from_str(&text).expect(&text)
}

fn state(level: &str, configured: &str, access: &str) -> Value {
    json!({"level": level, "configured": configured, "access": access})
}

/// A gateway that logs a refusal at the level of debugging, before it responds.
fn build(redis: &Redis) -> GatewayBuilder {
    Gateway::build(redis).route(&format!(
        "- {{ path: /mine, events: {{ channels: [news] }}, auth: {{ tokens: [{{ name: cron, sha256: {CRON} }}] }} }}\n"
    ))
}

async fn is_refused(gateway: &Gateway) {
    assert_eq!(gateway.get("/mine").await.status, 401);
}

/// Waits until refusals were logged as often as this, and checks that it was not logged more often.
async fn was_debugged(gateway: &Gateway, times: usize) {
    let count = || gateway.said(DEBUGGED).count();
    eventually(SOON, "it is debugged", async || count() >= times).await;
    assert_eq!(count(), times);
}

#[tokio::test]
async fn the_admin_listener_changes_the_level_until_a_reload() {
    let redis = Redis::start().await;
    let gateway = build(&redis).settings("log: { level: info }").start().await;
    assert_eq!(shown(&gateway).await, state("info", "info", "off"));
    is_refused(&gateway).await;
    assert_eq!(put(&gateway, "{\"level\": \"debug\"}").await.0, 200);
    assert_eq!(shown(&gateway).await, state("debug", "info", "off"));
    is_refused(&gateway).await;
    was_debugged(&gateway, 1).await;
    let (status, text) = put(&gateway, "error").await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), state("error", "info", "off"));
    is_refused(&gateway).await;
    put(&gateway, "{\"level\": \"configured\", \"access\": \"errors\"}").await;
    assert_eq!(shown(&gateway).await, state("info", "info", "errors"));
    assert_eq!(gateway.get("/nowhere").await.status, 404);
    gateway.logs("\"path\":\"/nowhere\"").await;

    put(&gateway, "trace").await;
    gateway.rewrite(|text| text.replace("level: info", "level: debug"));
    assert!(gateway.reload().await);
    assert_eq!(shown(&gateway).await, state("debug", "debug", "off"), "as in the file");
    is_refused(&gateway).await;
    was_debugged(&gateway, 2).await;
    let changes: Vec<_> = gateway.said("the log was changed on the admin listener").collect();
    let levels: Vec<_> = changes.iter().map(|fields| fields["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["debug", "error", "configured", "trace"], "each is logged");
}

#[tokio::test]
async fn a_signal_changes_to_debug_and_back() {
    let redis = Redis::start().await;
    let gateway = build(&redis).start().await;
    let mut stream = gateway.subscribe("/events/news").await;
    for (times, level) in [(1, "debug"), (2, "info"), (3, "debug")] {
        gateway.signal(Signal::USR1);
        let said = || gateway.said("the level of the log was changed").collect::<Vec<_>>();
        eventually(SOON, level, async || said().len() == times).await;
        assert_eq!(said()[times - 1]["level"], level);
        is_refused(&gateway).await;
    }
    was_debugged(&gateway, 2).await;
    assert!(gateway.reload().await);
    assert_eq!(shown(&gateway).await, state("info", "info", "off"));
    redis.publish("news", "still here").await;
    assert_eq!(stream.next_event().await.data, "still here");
}

#[tokio::test]
async fn the_environment_says_what_the_configured_level_is() {
    let redis = Redis::start().await;
    let gateway = build(&redis).env("SSEGATE_LOG", "debug").start().await;
    assert_eq!(shown(&gateway).await, state("debug", "debug", "off"));
    put(&gateway, "info").await;
    is_refused(&gateway).await;
    gateway.rewrite(|text| format!("log: {{ level: error }}\n{text}"));
    assert!(gateway.reload().await);
    assert_eq!(shown(&gateway).await, state("debug", "debug", "off"));
    is_refused(&gateway).await;
    was_debugged(&gateway, 1).await;
}

#[tokio::test]
async fn not_everybody_may_change_the_log() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let debug = || Request::new("PUT", "/log").body(b"debug");
    for (request, status) in [
        (debug().header("origin", "https://evil.example"), 403),
        (debug().header("sec-fetch-site", "cross-site"), 403),
        (debug().host("evil.example"), 403),
        (Request::get("/log").host("evil.example"), 403),
        (Request::new("POST", "/log").body(b"debug"), 405),
        (Request::new("PUT", "/log").body(b"loud"), 400),
        (Request::new("PUT", "/log").body(&[b' '; 5000]), 400),
    ] {
        let text = format!("{request:?}");
        assert_eq!(log(&gateway, request).await.status, status, "{text}");
    }
    assert_eq!(shown(&gateway).await, state("info", "info", "off"));

    let auth = format!(
        "{{ address: \"127.0.0.1:0\", auth: {{ tokens: [{{ name: cron, sha256: {CRON} }}] }} }}"
    );
    let gateway = Gateway::build(&redis).admin(&auth).start().await;
    assert_eq!(log(&gateway, debug()).await.status, 401);
    assert_eq!(log(&gateway, Request::get("/log")).await.status, 401);
    let allowed = debug().header("authorization", "Bearer cron-token");
    assert_eq!(log(&gateway, allowed).await.status, 200);

    // Where many may read metrics, none of them changes what is logged.
    let gateway = Gateway::build(&redis).admin("{ address: \"0.0.0.0:0\" }").start().await;
    assert_eq!(log(&gateway, debug()).await.status, 403);
    assert_eq!(shown(&gateway).await, state("info", "info", "off"));
}
