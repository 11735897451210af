//! What passes of a stream that is kept, and what is added.

use super::{OWNER, STREAM, build, end, get, open, post};
use crate::support::{Redis, Request, SOON, Upstream, Via, read_exactly, within};

/// Every byte at once, whoever it is for.
#[tokio::test]
async fn bytes_pass_as_they_come_but_for_ids_and_comment_blocks() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, OWNER).start().await;
    for via in Via::ALL {
        let (mut response, mut call) =
            open(&gateway, &upstream, (via, post("/chat?a=1", "{}")), STREAM).await;
        let stream = response.header("ssegate-stream").to_owned();
        assert_eq!(stream.len(), 26, "{via:?}: {:?}", response.headers);
        assert_eq!(response.header("location"), format!("/.ssegate/kept/{stream}"));
        assert_eq!(response.header("cache-control"), "no-store");
        assert_eq!(response.header("content-type"), "text/event-stream");
        let id = |number: usize| format!("id: {stream}-{number}");
        for (piece, passed) in [
            (": hello\n\n", ": hello\n".to_owned()),
            ("data: on", "data: on".to_owned()),
            ("e\n", "e\n".to_owned()),
            ("\n", format!("{}\n\n", id(1))),
            (
                "event: x\r\ndata: two\r\n\r\n",
                format!("event: x\r\ndata: two\r\n{}\r\n\r\n", id(2)),
            ),
            (": ping\n\n\n:\n\n", ": ping\n:\n".to_owned()),
            ("retry: 5\n\n", "retry: 5\n\n".to_owned()),
            ("data: \u{e4}\ndata\n\n", format!("data: \u{e4}\ndata\n{}\n\n", id(3))),
            ("id: own\ndata: 4\n\n", "id: own\ndata: 4\n\n".to_owned()),
        ] {
            call.write_chunk(piece).await;
            read_exactly(&mut response.body, &passed).await;
        }
        end(&mut call).await;
        assert!(within(SOON, "the end", response.body.rest()).await.unwrap().is_empty());
    }
}

/// A backend that numbers its events is left alone.
#[tokio::test]
async fn a_stream_with_ids_of_its_own_gets_none_of_ours() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, OWNER).start().await;
    let (mut response, mut call) =
        open(&gateway, &upstream, (Via::Http1, post("/chat", "{}")), STREAM).await;
    let text = "retry: 5\n\nid: a\ndata: 1\n\ndata: 2\n\nid: b\ndata: 3\n\ndata: 4\n\n";
    call.write_chunk(text).await;
    read_exactly(&mut response.body, text).await;
    end(&mut call).await;
    assert!(response.body.rest().await.unwrap().is_empty());
    let location = response.header("location").to_owned();
    for (id, expected) in [("a", "data: 2\n\nid: b\ndata: 3\n\ndata: 4\n\n"), ("b", "data: 4\n\n")]
    {
        let resumed = gateway.send(Via::H2c, get(&location).header("last-event-id", id)).await;
        assert_eq!(resumed.text().await, expected, "{id}");
        let again = post("/chat", "{}").header("last-event-id", id);
        assert_eq!(gateway.send(Via::Http1, again).await.text().await, expected, "{id}");
    }
    let unknown = gateway.send(Via::Http1, get(&location).header("last-event-id", "c")).await;
    assert_eq!(unknown.status, 410);
    // One that the backend may know.
    let again = post("/chat", "{}").header("last-event-id", "c");
    let (_, call) = open(&gateway, &upstream, (Via::Http1, again), STREAM).await;
    assert_eq!(call.header("last-event-id"), "c");
}

/// The backend's header passes; what only concerns the first reader is not given to another.
#[tokio::test]
async fn the_header_passes_and_cookies_go_to_the_first_reader_only() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, OWNER).start().await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                x-vercel-ai-ui-message-stream: v1\r\nset-cookie: secret=1\r\nlocation: /mine\r\n\
                ssegate-keep: yes\r\nssegate-key: k\r\ncache-control: public\r\n\
                access-control-allow-origin: https://app.example\r\ncontent-length: 9\r\nconnection: close\r\n\r\ndata: 1\n\n";
    let request = post("/chat", "{}").header("origin", "https://app.example");
    let (response, _call) = open(&gateway, &upstream, (Via::Http1, request), head).await;
    assert_eq!(response.header("set-cookie"), "secret=1");
    assert_eq!(response.header("location"), "/mine");
    assert_eq!(response.header("x-vercel-ai-ui-message-stream"), "v1");
    assert_eq!(response.header("cache-control"), "no-store");
    assert!(response.header("access-control-expose-headers").contains("ssegate-stream"));
    for name in ["ssegate-keep", "ssegate-key", "content-length"] {
        assert_eq!(response.header(name), "", "{name}");
    }
    let stream = response.header("ssegate-stream").to_owned();
    let text = response.text().await;
    assert_eq!(text, format!("data: 1\nid: {stream}-1\n\n"));
    let again = gateway.send(Via::Http1, get(&format!("/.ssegate/kept/{stream}"))).await;
    assert_eq!(again.header("x-vercel-ai-ui-message-stream"), "v1");
    assert_eq!(again.header("content-type"), "text/event-stream; charset=utf-8");
    assert_eq!(again.header("set-cookie"), "");
    assert_eq!(again.header("access-control-allow-origin"), "");
    assert_eq!(again.header("cache-control"), "no-store");
    assert_eq!(again.text().await, text);
}

/// What must not be kept passes as without `keep`.
#[tokio::test]
async fn what_cannot_be_kept_passes_unchanged() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, &format!("{OWNER}, methods: [POST]")).start().await;
    let text = ": ping\n\ndata: 1\n\n";
    let head = |status: &str, more: &str| {
        let kind =
            if more.contains("content-type") { "" } else { "content-type: text/event-stream\r\n" };
        let length = text.len();
        format!(
            "HTTP/1.1 {status}\r\n{kind}content-length: {length}\r\nconnection: close\r\n{more}\r\n{text}"
        )
    };
    let plain = || post("/chat", "{}");
    let nobody = || Request::new("POST", "/chat");
    let cases: [(&str, Request, String); 13] = [
        ("no credential", nobody(), head("200 OK", "")),
        ("another cookie", nobody().header("cookie", "a=b"), head("200 OK", "")),
        ("one twice", nobody().header("cookie", "session=a; session=a"), head("200 OK", "")),
        ("two of one", plain().header("authorization", "Bearer b"), head("200 OK", "")),
        ("MCP", plain().header("mcp-protocol-version", "2025-06-18"), head("200 OK", "")),
        ("a method that is not listed", get("/chat"), head("200 OK", "")),
        ("201", plain(), head("201 Created", "")),
        ("401", plain(), head("401 Unauthorized", "")),
        ("303", plain(), head("303 See Other", "")),
        ("another type", plain(), head("200 OK", "content-type: text/plain\r\n")),
        ("a coding", plain(), head("200 OK", "content-encoding: br\r\n")),
        ("vary", plain(), head("200 OK", "vary: accept, *\r\n")),
        ("its wish", plain(), head("200 OK", "ssegate-keep: no\r\n")),
    ];
    for (what, request, head) in cases {
        let (response, _call) = open(&gateway, &upstream, (Via::Http1, request), &head).await;
        assert_eq!(response.header("ssegate-stream"), "", "{what}");
        assert_eq!(response.header("location"), "", "{what}");
        assert_eq!(response.text().await, text, "{what}");
    }
    // The other way round.
    let head = head("200 OK", "ssegate-keep: yes\r\n");
    let (response, _call) = open(&gateway, &upstream, (Via::Http1, get("/chat")), &head).await;
    assert_ne!(response.header("ssegate-stream"), "");
}
