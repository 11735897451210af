//! Pages of other origins: the CORS protocol of the Fetch standard.

use crate::support::{Gateway, Redis, Request, Response, Upstream, Via};

async fn gateway(redis: &Redis, cors: &str) -> Gateway {
    Gateway::build(redis)
        .routes(&format!(
            "- path: /events/{{channel}}\n  events: {{ channels: [\"{{channel}}\"] }}\n  cors: {cors}\n"
        ))
        .start()
        .await
}

async fn from(gateway: &Gateway, origin: &str) -> Response {
    gateway.send(Via::Http1, Request::events("/events/news").header("origin", origin)).await
}

fn preflight(origin: &str, method: &str) -> Request {
    Request::new("OPTIONS", "/events/news")
        .header("origin", origin)
        .header("access-control-request-method", method)
        .header("access-control-request-headers", "last-event-id")
}

#[tokio::test]
async fn without_origins_no_other_page_may_read() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let response = from(&gateway, "https://app.example").await;
    assert_eq!(response.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn an_origin_that_is_named_may_read_with_its_cookies() {
    let redis = Redis::start().await;
    let gateway =
        gateway(&redis, "{ origins: [\"https://app.example\"], credentials: true }").await;

    let named = from(&gateway, "https://app.example").await;
    assert_eq!(named.status, 200);
    assert_eq!(named.header("access-control-allow-origin"), "https://app.example");
    assert_eq!(named.header("access-control-allow-credentials"), "true");
    assert!(named.header("vary").to_lowercase().contains("origin"));

    for other in
        ["https://app.example.evil", "http://app.example", "https://app.example:8443", "null"]
    {
        let response = from(&gateway, other).await;
        assert_eq!(response.header("access-control-allow-origin"), "", "{other}");
        assert!(response.header("vary").to_lowercase().contains("origin"), "{other}");
    }
}

#[tokio::test]
async fn a_star_lets_everybody_read_without_cookies() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis, "{ origins: [\"*\"] }").await;
    let response = from(&gateway, "https://app.example").await;
    assert_eq!(response.header("access-control-allow-origin"), "*");
    assert_eq!(response.header("access-control-allow-credentials"), "");
}

#[tokio::test]
async fn a_preflight_is_answered_for_named_origins_only() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis, "{ origins: [\"https://app.example\"] }").await;

    for via in Via::ALL {
        let response = gateway.send(via, preflight("https://app.example", "GET")).await;
        assert!(matches!(response.status, 200 | 204), "{}", response.status);
        assert_eq!(response.header("access-control-allow-origin"), "https://app.example");
        assert!(response.header("access-control-allow-methods").contains("GET"));
        let headers = response.header("access-control-allow-headers").to_lowercase();
        assert!(headers.contains("last-event-id"), "{headers:?}");
    }
    let response = gateway.send(Via::Http1, preflight("https://evil.example", "GET")).await;
    assert_eq!(response.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn an_error_can_be_read_by_the_page_that_made_it() {
    let redis = Redis::start().await;
    let gateway = gateway(&redis, "{ origins: [\"https://app.example\"] }").await;
    let request = Request::events("/events/__sentinel__:x").header("origin", "https://app.example");
    let response = gateway.send(Via::Http1, request).await;
    assert_eq!(response.status, 400);
    assert_eq!(response.header("access-control-allow-origin"), "https://app.example");
}

#[tokio::test]
async fn a_preflight_for_what_no_stream_takes_is_the_backends() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let routes = format!(
        "- path: /events/{{channel}}\n  events: {{ channels: [\"{{channel}}\"] }}\n  \
         methods: [GET]\n{}  methods: [POST, OPTIONS]\n",
        upstream.route("/events/{name}")
    );
    let gateway = Gateway::build(&redis).routes(&routes).start().await;
    let serve = async { upstream.call().await.answer("200 OK", "", "asked").await };
    let (response, ()) =
        tokio::join!(gateway.send(Via::Http1, preflight("https://app.example", "POST")), serve);
    assert_eq!(response.text().await, "asked");
    let own = gateway.send(Via::Http1, preflight("https://app.example", "GET")).await;
    assert_eq!(own.status, 204);
}
