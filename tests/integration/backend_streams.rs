//! Event streams that the backend writes itself: passed on byte by byte, and kept alive.

use tokio::io::AsyncReadExt;

use crate::support::{
    Body, Call, Gateway, Http2, Redis, Request, Response, SOON, Upstream, Via, read_exactly, within,
};

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                      transfer-encoding: chunked\r\n\r\n";

async fn in_front_of(redis: &Redis, upstream: &Upstream) -> Gateway {
    Gateway::build(redis)
        .settings("sse: { keep_alive: 200ms }")
        .route(&upstream.route("/{*rest}"))
        .start()
        .await
}

/// Asks for a stream; the backend answers with this head.
async fn open(gateway: &Gateway, upstream: &Upstream, via: Via, head: &str) -> (Response, Call) {
    let answer = async {
        let mut call = upstream.call().await;
        call.write(head).await;
        call
    };
    tokio::join!(gateway.send(via, Request::events("/stream")), answer)
}

/// Waits for so long as so many comments take to come on a stream beside.
async fn comments_take(count: usize, clock: &mut Body) {
    for _ in 0..count {
        read_exactly(clock, ":\n").await;
    }
}

async fn comments_stand_where_a_line_begins(gateway: &Gateway, upstream: &Upstream, via: Via) {
    let (mut clock, _quiet) = open(gateway, upstream, Via::Http1, STREAM).await;
    let (response, mut call) = open(gateway, upstream, via, STREAM).await;
    assert_eq!(response.header("x-accel-buffering"), "no", "{via:?}");
    let mut body = response.body;
    read_exactly(&mut body, ":\n").await;
    for (piece, passed, comment) in [
        ("data: one", "data: one", None),
        // The LF that follows belongs to the CR of the comment.
        ("\r", "\r", Some(":\r")),
        ("\ndata: more\r\n", "\ndata: more\r\n", Some(":\r\n")),
        ("\r\n", "\r\n", Some(":\r\n")),
        ("data: crlf\r\n\r", "data: crlf\r\n\r", Some("\n:\r\n")),
        ("\n: their own\n", ": their own\n", Some(":\n")),
        ("event: a\ndata: \u{e4}", "event: a\ndata: \u{e4}", None),
        ("\n\n", "\n\n", Some(":\n")),
        ("data: cr\r", "data: cr\r", Some(":\r")),
        ("\r", "\r", Some("\n:\n")),
        ("data: cr\r\r", "data: cr\r\r", Some("\n:\n")),
        ("\ndata: lf\n", "data: lf\n", Some(":\n")),
    ] {
        call.write_chunk(piece).await;
        read_exactly(&mut body, passed).await;
        if let Some(comment) = comment {
            read_exactly(&mut body, comment).await;
            continue;
        }
        tokio::select! {
            () = comments_take(3, &mut clock.body) => {}
            bytes = body.chunk() => panic!("{bytes:?} after {piece:?} via {via:?}"),
        }
    }
}

/// However its lines end, a quiet stream is kept alive for as long as it is quiet.
#[tokio::test]
async fn a_quiet_stream_gets_comments_however_its_lines_end() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream).await;
    for (stream, comments) in [
        ("", ":\n:\n:\n"),
        ("data: a\n\n", ":\n:\n:\n"),
        ("data: a\r\n\r\n", ":\r\n:\r\n:\r\n"),
        ("data: a\r\r", "\n:\n:\n:\n"),
        ("data: a\r", ":\r:\r:\r"),
        ("\u{feff}data: a\n\n", ":\n:\n:\n"),
    ] {
        for via in Via::ALL {
            let (response, mut call) = open(&gateway, &upstream, via, STREAM).await;
            let mut body = response.body;
            if !stream.is_empty() {
                call.write_chunk(stream).await;
                read_exactly(&mut body, stream).await;
            }
            read_exactly(&mut body, comments).await;
        }
    }
}

#[tokio::test]
async fn a_quiet_backend_gets_comments_where_a_line_begins_and_nowhere_else() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream).await;
    for via in Via::ALL {
        comments_stand_where_a_line_begins(&gateway, &upstream, via).await;
    }
}

#[tokio::test]
async fn every_byte_passes_and_an_unfinished_last_line_too() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream).await;
    let stream = "\u{feff}id: 1\ndata: a\r\n\r\nretry: 9\rdata: b\r\r\n: c\n\n\n\ndata: unfinished";
    for (head, is_chunked) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-type: Text/Event-Stream;Charset=UTF-8\r\n\
          transfer-encoding: chunked\r\n\r\n",
            true,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n", false),
    ] {
        for via in Via::ALL {
            let (response, mut call) = open(&gateway, &upstream, via, head).await;
            assert_eq!(response.status, 200);
            for piece in stream.as_bytes().chunks(7) {
                if is_chunked {
                    let size = format!("{:x}\r\n", piece.len());
                    call.write([size.as_bytes(), piece, b"\r\n"].concat()).await;
                } else {
                    call.write(piece).await;
                }
            }
            if is_chunked {
                call.write("0\r\n\r\n").await;
            }
            drop(call);
            let mut body = response.body;
            let whole = within(SOON, "the end", body.rest()).await.unwrap();
            assert_eq!(String::from_utf8(whole).unwrap(), stream, "{head} via {via:?}");
        }
    }
    gateway.counts("ssegate_streams_closed_total", &["reason=\"backend_ended\""], 12.0).await;
}

#[tokio::test]
async fn the_backend_is_asked_for_text_and_what_comes_encoded_all_the_same_is_left_alone() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream).await;
    let request = Request::new("POST", "/chat")
        .header("accept", "application/json, text/event-stream;q=0.9")
        .header("accept-encoding", "gzip, br");
    let encoded = STREAM.replace("\r\n\r\n", "\r\ncontent-encoding: gzip\r\n\r\n");
    let answer = async {
        let mut call = upstream.call().await;
        assert_eq!(call.header("accept-encoding"), "identity");
        call.write(&encoded).await;
        call
    };
    let (response, mut call) = tokio::join!(gateway.send(Via::Http2, request), answer);
    assert_eq!(response.header("content-encoding"), "gzip");
    let mut body = response.body;

    let (mut clock, _quiet) = open(&gateway, &upstream, Via::Http1, STREAM).await;
    read_exactly(&mut clock.body, ":\n:\n:\n").await;
    call.write("2\r\n\n\n\r\n").await;
    read_exactly(&mut body, "\n\n").await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_streams_encoded_total", &["route=\"/{*rest}\""]), 1.0);
    assert_eq!(metrics.sum("ssegate_streams", &["route=\"/{*rest}\""]), 2.0);

    // Who does not ask for events is nobody we would change anything for.
    let answer = async {
        let call = upstream.call().await;
        assert_eq!(call.header("accept-encoding"), "gzip");
        call.answer("200 OK", "", "page").await;
    };
    let request = Request::get("/page").header("accept-encoding", "gzip");
    tokio::join!(gateway.send(Via::Http1, request), answer);
}

#[tokio::test]
async fn a_stream_may_be_quiet_for_longer_than_other_bodies() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let pauses = upstream.route("/{*rest}").replace(" }\n", ", idle_timeout: 1s }\n");
    let settings = "sse: { keep_alive: 200ms }";
    let gateway = Gateway::build(&redis).settings(settings).route(&pauses).start().await;
    let (mut response, mut call) = open(&gateway, &upstream, Via::Http2, STREAM).await;
    let page = STREAM.replace("text/event-stream", "text/plain");
    let (mut other, _call) = open(&gateway, &upstream, Via::Http2, &page).await;
    // What holds for a page does not hold for a stream.
    assert!(within(SOON, "the end of the page", other.body.rest()).await.is_err());
    comments_take(10, &mut response.body).await;
    call.write_chunk("data: still here\n\n").await;
    let mut stream = response.stream();
    assert_eq!(stream.next_event().await.data, "still here");
}

#[tokio::test]
async fn a_length_that_was_promised_is_kept() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream).await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9\r\n\r\n";
    let (mut clock, _quiet) = open(&gateway, &upstream, Via::Http1, STREAM).await;
    for via in Via::ALL {
        let (response, mut call) = open(&gateway, &upstream, via, head).await;
        assert_eq!(response.header("content-length"), "9");
        read_exactly(&mut clock.body, ":\n:\n").await;
        call.write("data: a\n\n").await;
        let mut body = response.body;
        assert_eq!(within(SOON, "the body", body.rest()).await.unwrap(), b"data: a\n\n");
    }
}

#[tokio::test]
async fn streams_of_a_backend_are_counted_by_how_they_end() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let mut gateway = in_front_of(&redis, &upstream).await;
    let route = "route=\"/{*rest}\"";
    let (opened, closed) = ("ssegate_streams_opened_total", "ssegate_streams_closed_total");

    for via in Via::ALL {
        let before = gateway.metrics().await;
        let (mut response, call) = open(&gateway, &upstream, via, STREAM).await;
        read_exactly(&mut response.body, ":\n").await;
        let metrics = gateway.metrics().await;
        assert_eq!(metrics.sum("ssegate_streams", &[route]), 1.0, "{via:?}");
        assert_eq!(metrics.sum(opened, &[route]), before.sum(opened, &[route]) + 1.0);
        drop(response);
        call.closed().await;
        let left = before.sum(closed, &["reason=\"client_left\""]) + 1.0;
        gateway.counts(closed, &["reason=\"client_left\""], left).await;

        let (mut response, call) = open(&gateway, &upstream, via, STREAM).await;
        drop(call);
        let end = within(SOON, "the end", response.body.rest()).await;
        assert!(end.is_err(), "it looks complete via {via:?}: {end:?}");
        let failed = before.sum(closed, &["reason=\"backend_failed\""]) + 1.0;
        gateway.counts(closed, &["reason=\"backend_failed\""], failed).await;
    }
    assert_eq!(gateway.metrics().await.sum("ssegate_streams", &[]), 0.0);
    gateway.terminate();
    assert!(gateway.exit_within(SOON).await.success());
}

#[tokio::test]
async fn a_stop_ends_them_between_two_events() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let mut gateway = in_front_of(&redis, &upstream).await;
    let mut streams = Vec::new();
    for line_end in ["\n", "\r", "\r\n"] {
        for via in Via::ALL {
            let (mut response, mut call) = open(&gateway, &upstream, via, STREAM).await;
            let begin = "data: a||data: half|".replace('|', line_end);
            call.write_chunk(&begin).await;
            read_exactly(&mut response.body, &begin).await;
            streams.push((response.body, call, line_end));
        }
    }
    gateway.terminate();
    gateway.becomes(503, SOON).await;
    for (mut body, mut call, line_end) in streams {
        let end = "data: other half||".replace('|', line_end);
        call.write_chunk(&end).await;
        let rest = within(SOON, "the end", body.rest()).await.unwrap();
        // Comments may stand between. Behind a CR one begins with an LF, which ends no line.
        let mut rest = String::from_utf8(rest).unwrap();
        if line_end == "\r" {
            rest = rest.replace("\n:\n", "");
        }
        rest = rest.replace(&format!(":{line_end}"), "");
        assert_eq!(rest, end);
        drop(call);
    }
    assert!(gateway.exit_within(SOON).await.success());
}

#[tokio::test]
async fn a_stop_ends_those_that_are_opened_during_it_too() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    for via in Via::ALL {
        // One: that a stream of one shard has ended does not say that another shard drains.
        let mut gateway = Gateway::build(&redis)
            .settings("shards: 1\nsse: { keep_alive: 200ms }")
            .route(&upstream.route("/{*rest}"))
            .start()
            .await;
        let mut before = gateway.subscribe("/events/news").await;
        let answer = async {
            let mut call = upstream.call().await;
            gateway.terminate();
            // Those that were open before have ended by now.
            assert_eq!(before.end().await, Ok(()), "{via:?}");
            call.write(STREAM).await;
            call.write_chunk("data: half").await;
            call
        };
        let (mut response, call) =
            tokio::join!(gateway.send(via, Request::events("/stream")), answer);
        let rest = within(SOON, "the end", response.body.rest()).await;
        assert_eq!(rest.map(|rest| String::from_utf8(rest).unwrap()), Ok(String::new()), "{via:?}");
        drop(call);
        assert!(gateway.exit_within(SOON).await.success());
    }
}

#[tokio::test]
async fn one_that_is_not_read_is_reset_and_its_connection_lives() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = Gateway::build(&redis)
        .settings("write_timeout: 2s")
        .route(&upstream.route("/{*rest}"))
        .start()
        .await;
    let address = gateway.address("https");
    let connection = Http2::connect(Via::Http2, address).await;
    let answer = async {
        let mut call = upstream.call().await;
        call.write(STREAM).await;
        // 1 MiB: more than the 64 KiB window of a stream whose body nobody reads.
        call.write([b"100000\r\n", &[b'x'; 1 << 20][..], b"\r\n"].concat()).await;
        call
    };
    let (unread, call) = tokio::join!(connection.send(Request::events("/stream")), answer);
    gateway.counts("ssegate_streams_closed_total", &["reason=\"stalled\""], 1.0).await;
    call.closed().await;
    // With it goes what it took of the connection's window.
    drop(unread);
    let answer = async { upstream.call().await.answer("200 OK", "", "alive").await };
    let (response, ()) = tokio::join!(connection.send(Request::get("/")), answer);
    assert_eq!(response.text().await, "alive");
}

#[tokio::test]
async fn a_reload_changes_how_long_one_may_be_unread() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = Gateway::build(&redis)
        .settings("write_timeout: 1h\nsse: { keep_alive: 200ms }")
        .route(&upstream.route("/{*rest}"))
        .start()
        .await;
    let connection = Http2::connect(Via::Http2, gateway.address("https")).await;
    let answer = async {
        let mut call = upstream.call().await;
        call.write(STREAM).await;
        call
    };
    let (_unread, mut call) = tokio::join!(connection.send(Request::events("/stream")), answer);
    gateway.rewrite(|text| text.replace("write_timeout: 1h", "write_timeout: 2s"));
    assert!(gateway.reload().await);
    // Larger than the flow-control window of the stream, so that it blocks: nobody reads the body.
    call.write([b"100000\r\n", &[b'x'; 1 << 20][..], b"\r\n"].concat()).await;
    gateway.counts("ssegate_streams_closed_total", &["reason=\"stalled\""], 1.0).await;
    call.closed().await;
}

#[tokio::test]
async fn old_clients_get_them_too() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream).await;
    let mut io = Via::Http1.connect(gateway.address("http")).await;
    let request = b"GET /stream HTTP/1.0\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut io, request).await.unwrap();
    let mut call = upstream.call().await;
    call.write(STREAM).await;
    call.write("9\r\ndata: a\n\n\r\n0\r\n\r\n").await;
    let mut text = String::new();
    within(SOON, "the end", io.read_to_string(&mut text)).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("chunked"), "{head}");
    assert_eq!(body, "data: a\n\n");
}
