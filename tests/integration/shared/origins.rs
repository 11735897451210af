//! Pages of other origins, which share a stream: each is told of its own.

use super::get;
use crate::support::{Gateway, Redis, Request, Response, Upstream, Via};

async fn start(redis: &Redis, upstream: &Upstream) -> Gateway {
    let address = upstream.address();
    let route = format!(
        "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{address}\" }}\n  share: {{}}\n  \
         cors: {{ origins: [\"https://a.test\", \"https://b.test\"], credentials: true }}\n"
    );
    Gateway::build(redis).route(&route).start().await
}

fn of(origin: &str) -> Request {
    get("/").header("origin", origin)
}

fn allowed(response: &Response) -> [&str; 2] {
    ["access-control-allow-origin", "access-control-allow-credentials"]
        .map(|name| response.header(name))
}

/// The backend is asked once, and knows of no origin.
#[tokio::test]
async fn each_reader_is_told_of_its_own_origin() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = start(&redis, &upstream).await;
    let answer = async {
        let mut call = upstream.call().await;
        assert_eq!(call.header("origin"), "");
        call.write(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\
             access-control-allow-origin: https://backend.test\r\n\r\n",
        )
        .await;
        call
    };
    let (one, _call) = tokio::join!(gateway.send(Via::Http1, of("https://a.test")), answer);
    assert_eq!(allowed(&one), ["https://a.test", "true"]);
    assert_eq!(one.header("vary"), "origin");
    let two = gateway.send(Via::H2c, of("https://b.test")).await;
    assert_eq!(allowed(&two), ["https://b.test", "true"]);
    let stranger = gateway.send(Via::Http1, of("https://c.test")).await;
    assert_eq!(allowed(&stranger), ["", ""]);
    let none = gateway.send(Via::Http1, get("/")).await;
    assert_eq!(allowed(&none), ["", ""]);
}

/// Where the backend says nothing of origins. What it says counts, since it was asked by the page.
#[tokio::test]
async fn a_page_with_a_stream_of_its_own_is_told_the_same() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = start(&redis, &upstream).await;
    for (said, expected) in
        [("", ["https://a.test", "true"]), ("access-control-allow-origin: *\r\n", ["*", ""])]
    {
        let answer = async {
            let head = format!("content-type: text/event-stream\r\n{said}");
            upstream.call().await.answer("200 OK", &head, "data: 1\n\n").await;
        };
        let with_cookie = of("https://a.test").header("cookie", "session=1");
        let (response, ()) = tokio::join!(gateway.send(Via::Http1, with_cookie), answer);
        assert_eq!(allowed(&response), expected, "{said}");
    }
}
