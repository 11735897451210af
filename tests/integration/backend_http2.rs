//! One connection over HTTP/2 to a backend, and many clients that share it: what one of them does, or
//! is sent, harms no other.
//!
//! The backend is one of our own, frame by frame, for what a real one cannot be made to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::support::frame_backend::{
    FrameBackend, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, event, event_stream, head,
    in_pieces, response,
};
use crate::support::frames::{
    ACK, DATA, END_STREAM, GOAWAY, HEADERS, PADDED, PING, RST_STREAM, WINDOW_UPDATE,
};
use crate::support::h2_site::H2Site;
use crate::support::{
    EventStream, Frame, FrameConnection, Gateway, Http2, Redis, Request, Response, SOON, Upstream,
    Via, eventually, unread_bytes_of, within,
};

const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

async fn in_front_of(redis: &Redis, routes: &str) -> Gateway {
    Gateway::build(redis).settings("shards: 1").routes(routes).start().await
}

fn reset(stream: u32, code: u32) -> Frame {
    Frame::new(RST_STREAM, 0, stream, &code.to_be_bytes())
}

fn goaway(last_stream: u32, code: u32) -> Frame {
    Frame::new(GOAWAY, 0, 0, &[last_stream.to_be_bytes(), code.to_be_bytes()].concat())
}

async fn next_request(backend: &mut FrameConnection) -> Frame {
    let head = within(SOON, "a request at the backend", backend.next_of(HEADERS)).await;
    head.expect("the connection is open")
}

/// A GET, answered by the next request on `backend`.
async fn answered(
    gateway: &Gateway,
    backend: &mut FrameConnection,
    respond: impl FnOnce(u32) -> Vec<Frame>,
) -> Response {
    let (response, ()) = tokio::join!(gateway.get("/"), async {
        let number = next_request(backend).await.stream;
        backend.send_all(respond(number)).await;
    });
    response
}

/// Waits until an event stream still gets its events.
async fn goes_on((events, number): &mut (EventStream, u32), backend: &mut FrameConnection) {
    backend.send(&event(*number, "still here")).await;
    assert_eq!(events.next_event().await.data, "still here");
}

/// So many fields with values of this size.
fn fields(count: usize, size: usize) -> Vec<(String, String)> {
    (0..count).map(|number| (format!("x-{number:04}"), "b".repeat(size))).collect()
}

fn borrowed(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Accepts the first connection, on which an event stream is opened.
async fn first_connection(
    gateway: &Gateway,
    backend: &FrameBackend,
    settings: &[(u16, u32)],
) -> (FrameConnection, (EventStream, u32)) {
    let (mut events, (connection, number)) = tokio::join!(
        async { gateway.send(Via::Http1, Request::events("/events")).await.stream() },
        async {
            let mut connection = backend.accept(settings).await;
            let number = next_request(&mut connection).await.stream;
            connection.send_all(event_stream(number)).await;
            (connection, number)
        }
    );
    assert_eq!(events.next_event().await.data, "first");
    (connection, (events, number))
}

#[tokio::test]
async fn a_response_with_a_large_header_harms_no_other_on_its_connection() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let (mut connection, mut neighbour) = first_connection(&gateway, &backend, &[]).await;
    for (count, size, expected) in [
        (48, 1000, 200),
        (60, 1000, 200),
        (1600, 1, 200),
        (70, 1000, 502),
        (300, 1000, 502),
        (1, 300_000, 502),
        (5000, 1000, 502),
        (30_000, 1, 502),
        (48, 1000, 200),
    ] {
        let fields = fields(count, size);
        let response = answered(&gateway, &mut connection, |stream| {
            [head(stream, &borrowed(&fields)), response(stream, &[], "ok").split_off(1)].concat()
        });
        let response = response.await;
        assert_eq!(response.status, expected, "{count} of {size}");
        if expected == 200 {
            assert_eq!(response.header("x-0000").len(), size);
            assert_eq!(response.text().await, "ok");
        } else {
            let text = response.text().await;
            assert!(text.contains("the backend sent too large a response header"), "{text}");
        }
        goes_on(&mut neighbour, &mut connection).await;
    }
    assert_eq!(backend.accepted(), 1);
    gateway.logs("larger than max_response_header").await;
    let failed = ["kind=\"large_response\""];
    gateway.counts("ssegate_upstream_errors_total", &failed, 5.0).await;
}

#[tokio::test]
async fn a_response_header_has_one_limit_over_both_protocols() {
    let redis = Redis::start().await;
    let (http1, http2) = (Upstream::start().await, FrameBackend::start().await);
    for (setting, limit) in [("", 64 << 10), (", max_response_header: 4KiB", 4 << 10)] {
        let http1_route = http1.route("/http1").replace(" }", &format!("{setting} }}"));
        let routes = format!("{http1_route}{}", http2.route(setting));
        let gateway = in_front_of(&redis, &routes).await;
        let (mut connection, _neighbour) = first_connection(&gateway, &http2, &[]).await;
        for (more, expected) in [(0, 200), (1, 502)] {
            // Each counts 32 beside its name and value.
            let mut fields = vec![("content-length".to_owned(), "2".to_owned())];
            let mut left = limit + more - ("content-length".len() + 1 + 32);
            while left > 0 {
                let size = left.min(1000);
                let size = if left - size < 100 { left } else { size };
                let name = format!("x-{:03}", fields.len());
                fields.push((name.clone(), "v".repeat(size - name.len() - 32)));
                left -= size;
            }
            let response = answered(&gateway, &mut connection, |stream| {
                let body = Frame::new(DATA, END_STREAM, stream, b"ok");
                [head(stream, &borrowed(&fields)), vec![body]].concat()
            });
            assert_eq!(response.await.status, expected, "{limit} over HTTP/2");
            let lines = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
            let lines: String = lines.collect();
            let (response, ()) = tokio::join!(gateway.get("/http1"), async {
                let mut call = http1.call().await;
                call.write(format!("HTTP/1.1 200 OK\r\n{lines}\r\nok")).await;
            });
            assert_eq!(response.status, expected, "{limit} over HTTP/1.1");
        }
    }
}

#[tokio::test]
async fn frames_without_data_harm_no_other_on_their_connection() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let (mut connection, mut neighbour) = first_connection(&gateway, &backend, &[]).await;
    let response = answered(&gateway, &mut connection, |stream| {
        let empty = std::iter::repeat_n(Frame::new(DATA, 0, stream, b""), 500);
        let padding = std::iter::repeat_n(Frame::new(DATA, PADDED, stream, b"\x03..."), 500);
        let mut frames = response(stream, &[], "ok");
        let last = frames.pop();
        frames.into_iter().chain(empty).chain(padding).chain(last).collect()
    });
    assert_eq!(response.await.text().await, "ok");
    goes_on(&mut neighbour, &mut connection).await;
    assert_eq!(backend.accepted(), 1);
}

#[tokio::test]
async fn a_response_that_is_malformed_harms_no_other_on_its_connection() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let (mut connection, mut neighbour) = first_connection(&gateway, &backend, &[]).await;
    let raw = |stream, fields: &[(&str, &str)]| {
        in_pieces(stream, &Frame::request(stream, 0, fields).payload, 16_000)
    };
    for what in [
        &[("x", "no status")][..],
        &[(":status", "200"), ("Upper", "case")],
        &[(":status", "200"), ("connection", "close")],
        &[(":status", "101")],
        &[(":status", "200"), ("content-length", "1"), ("content-length", "2")],
        &[(":status", "200"), (":path", "/")],
    ] {
        let response = answered(&gateway, &mut connection, |stream| raw(stream, what)).await;
        assert_eq!(response.status, 502, "{what:?}");
        goes_on(&mut neighbour, &mut connection).await;
    }
    for (length, body) in [("3", "ok"), ("1", "ok")] {
        let client = Http2::connect(Via::H2c, gateway.address("http")).await;
        let (read, ()) = tokio::join!(
            async {
                let mut response = client.try_send(Request::get("/")).await.ok()?;
                response.body.rest().await.ok()
            },
            async {
                let number = next_request(&mut connection).await.stream;
                let fields = [("content-length", length)];
                connection.send_all(response(number, &fields, body)).await;
            }
        );
        assert_eq!(read, None, "{length} announced, and {body}");
        goes_on(&mut neighbour, &mut connection).await;
    }
    assert_eq!(backend.accepted(), 1);
}

#[tokio::test]
async fn clients_that_do_not_read_a_large_body_hold_up_nobody_else() {
    const CLIENTS: usize = 120;
    const WINDOW: usize = 64 << 10;
    let redis = Redis::start().await;
    let backend = H2Site::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let before = gateway.resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
        client.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        clients.push(client);
    }
    // Each of them holds what its own stream may hold.
    let sent = async || backend.sent() >= CLIENTS * WINDOW;
    eventually(SOON, "the backend has filled every window", sent).await;
    assert_eq!(gateway.get("/short").await.text().await, "short");
    let mut upload = Request::new("POST", "/upload").body(&[b'x'; 100_000]);
    upload.headers.push(("x".to_owned(), "y".to_owned()));
    assert_eq!(gateway.send(Via::Http1, upload).await.text().await, "100000");
    // Beside its window, a stream has what is on its way to its client.
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < (CLIENTS * 12 * WINDOW) as u64, "{} MiB", grown >> 20);
}

#[tokio::test]
async fn clients_that_do_not_read_small_events_hold_up_nobody_else() {
    const CLIENTS: usize = 4;
    const WINDOW: usize = 64 << 10;
    let redis = Redis::start().await;
    let backend = H2Site::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let before = gateway.resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
        client.write_all(b"GET /tiny HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        clients.push(client);
    }
    let sent = async || backend.sent() >= CLIENTS * WINDOW;
    eventually(SOON, "the backend has filled every window", sent).await;
    assert_eq!(gateway.get("/short").await.text().await, "short");
    let connections = gateway.metrics().await.sum("ssegate_upstream_connections", &[]);
    assert_eq!(connections.to_bits(), 1_f64.to_bits(), "{connections}");
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{} MiB", grown >> 20);
    // They still get what they did not read.
    for client in &mut clients {
        let mut begin = [0; 200];
        within(SOON, "the first events", client.read_exact(&mut begin)).await.unwrap();
        assert!(begin.starts_with(b"HTTP/1.1 200 OK"));
    }
}

#[tokio::test]
async fn requests_do_not_wait_for_event_streams_at_a_backend_of_few_streams() {
    let redis = Redis::start().await;
    for (limit, settings) in [
        (1, &[(MAX_CONCURRENT_STREAMS, 1)]),
        (2, &[(MAX_CONCURRENT_STREAMS, 2)]),
        (4, &[(MAX_CONCURRENT_STREAMS, 4)]),
    ] {
        let backend = FrameBackend::start().await.serve(settings, |path, stream| match path {
            "/events" => event_stream(stream),
            _ => response(stream, &[], "ok"),
        });
        let gateway = in_front_of(&redis, &backend.route("")).await;
        let mut streams = Vec::new();
        for _ in 0..10 {
            let mut stream = gateway.send(Via::Http1, Request::events("/events")).await.stream();
            assert_eq!(stream.next_event().await.data, "first", "{limit}");
            streams.push(stream);
            assert_eq!(gateway.get("/").await.text().await, "ok", "{limit}");
        }
        let connections = backend.accepted();
        let needed = 10_usize.div_ceil(limit);
        assert!((needed..=needed + 2).contains(&connections), "{connections} for {limit} each");
    }
}

#[tokio::test]
async fn a_crowd_at_a_cold_backend_of_few_streams_is_served() {
    let redis = Redis::start().await;
    let settings = &[(MAX_CONCURRENT_STREAMS, 4)];
    let backend = FrameBackend::start().await.serve(settings, |_, stream| event_stream(stream));
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let connection = Http2::connect(Via::H2c, gateway.address("http")).await;
    let open = (0..100).map(|_| Box::pin(connection.send(Request::events("/events"))));
    let mut streams = Vec::new();
    for opening in open.collect::<Vec<_>>() {
        streams.push(within(SOON, "a stream", opening).await.stream());
    }
    for stream in &mut streams {
        assert_eq!(stream.next_event().await.data, "first");
    }
    assert!((25..=33).contains(&backend.accepted()), "{}", backend.accepted());
}

#[tokio::test]
async fn connections_over_http2_are_bounded_too() {
    let redis = Redis::start().await;
    let settings = &[(MAX_CONCURRENT_STREAMS, 2)];
    let backend = FrameBackend::start().await.serve(settings, |path, stream| match path {
        "/events" => event_stream(stream),
        _ => response(stream, &[], "ok"),
    });
    let gateway = in_front_of(&redis, &backend.route(", max_connections: 2")).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = gateway.send(Via::Http1, Request::events("/events")).await.stream();
        assert_eq!(stream.next_event().await.data, "first");
        streams.push(stream);
    }
    let refused = gateway.get("/").await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().await.contains("the backend is busy"));
    let failed = ["kind=\"max_connections\""];
    gateway.counts("ssegate_upstream_errors_total", &failed, 1.0).await;
    assert_eq!(backend.accepted(), 2);
    streams.pop();
    let freed = async || gateway.get("/").await.status == 200;
    eventually(SOON, "there is room where a stream has ended", freed).await;
    assert_eq!(backend.accepted(), 2);
}

#[tokio::test]
async fn requests_that_wait_for_a_connection_are_bounded() {
    let redis = Redis::start().await;
    // It accepts, and sends nothing.
    let backend = FrameBackend::start().await;
    let more = ", max_waiting: 2, connect_timeout: 10m";
    let gateway = in_front_of(&redis, &backend.route(more)).await;
    let to = gateway.address("http");
    let mut asking = JoinSet::new();
    for _ in 0..3 {
        asking.spawn(async move { Box::pin(exchange(to)).await });
    }
    let first = within(SOON, "one too many", asking.join_next()).await.unwrap().unwrap();
    assert!(first.starts_with("HTTP/1.1 503"), "{first}");
    let failed = ["kind=\"max_waiting\""];
    gateway.counts("ssegate_upstream_errors_total", &failed, 1.0).await;
    assert_eq!(asking.len(), 2, "they wait");
    // They find room on the connection as soon as it is open.
    let mut connection = backend.accept(&[]).await;
    for _ in 0..2 {
        let stream = next_request(&mut connection).await.stream;
        connection.send_all(response(stream, &[], "ok")).await;
        let other = within(SOON, "an answer", asking.join_next()).await.unwrap().unwrap();
        assert!(other.starts_with("HTTP/1.1 200"), "{other}");
    }
}

/// The answer to a GET, however long it takes.
async fn exchange(to: std::net::SocketAddr) -> String {
    let mut client = TcpStream::connect(to).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_backend_that_comes_to_take_fewer_streams_is_not_given_more() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let (mut connection, mut neighbour) = first_connection(&gateway, &backend, &[]).await;
    connection.send(&Frame::of_settings(&[(MAX_CONCURRENT_STREAMS, 1)])).await;
    goes_on(&mut neighbour, &mut connection).await;
    let (response, _other) = tokio::join!(gateway.get("/"), async {
        let mut other = backend.accept(&[]).await;
        let stream = next_request(&mut other).await.stream;
        other.send_all(response(stream, &[], "ok")).await;
        other
    });
    assert_eq!(response.text().await, "ok");
}

#[tokio::test]
async fn a_connection_that_closes_before_it_was_of_use_costs_no_request() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    // A server that is reloaded accepts, and closes in an orderly way.
    let serve = async {
        backend.close_one().await;
        // Several times in succession, if reload follows reload.
        let mut leaving = Vec::new();
        for _ in 0..5 {
            leaving.push(backend.accept(&[]).await);
            leaving.last_mut().expect("one").send(&goaway(0, 0)).await;
        }
        let mut connection = backend.accept(&[]).await;
        let stream = next_request(&mut connection).await.stream;
        connection.send_all(response(stream, &[], "ok")).await;
        connection
    };
    let post = gateway.send(Via::Http1, Request::new("POST", "/").body(b"once"));
    let (response, connection) = tokio::join!(post, serve);
    assert_eq!(response.text().await, "ok");
    drop(connection);
    let before = backend.accepted();
    // One that always does is not tried for ever.
    let closing = async {
        loop {
            backend.close_one().await;
        }
    };
    tokio::select! {
        response = gateway.get("/") => assert_eq!(response.status, 502),
        () = closing => unreachable!("it goes on"),
    }
    let tried = backend.accepted() - before;
    assert!((5..=10).contains(&tried), "{tried}");
    gateway.logs("cannot connect: the connection was lost").await;
}

#[tokio::test]
async fn a_backend_that_speaks_only_http1_is_named() {
    let redis = Redis::start().await;
    let backend = Upstream::start().await;
    let route = backend.route("/{*rest}").replace(" }", ", http2: true }");
    let gateway = in_front_of(&redis, &route).await;
    let (response, ()) = tokio::join!(gateway.get("/"), async {
        backend.call().await.answer("400 Bad Request", "", "").await;
    });
    assert_eq!(response.status, 502);
    gateway.logs("the backend speaks HTTP/1.1, not HTTP/2").await;
}

/// Reads a request with its body, crediting as it comes.
async fn next_upload(backend: &mut FrameConnection) -> (u32, Vec<u8>) {
    let head = next_request(backend).await;
    let mut body = Vec::new();
    let mut ends = head.flags & END_STREAM != 0;
    while !ends {
        let data = within(SOON, "the body of a request", backend.next_of(DATA)).await.unwrap();
        ends = data.flags & END_STREAM != 0;
        if !data.payload.is_empty() {
            let credit = u32::try_from(data.payload.len()).unwrap().to_be_bytes();
            for stream in [0, head.stream] {
                backend.send(&Frame::new(WINDOW_UPDATE, 0, stream, &credit)).await;
            }
        }
        body.extend_from_slice(&data.payload);
    }
    (head.stream, body)
}

/// A body that cannot be mistaken for another part of itself.
fn body(length: usize) -> Vec<u8> {
    let numbers = (0_u32..).flat_map(u32::to_be_bytes);
    numbers.take(length).collect()
}

#[tokio::test]
async fn a_request_that_the_backend_refuses_is_sent_again_whatever_its_method() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    // The only one: otherwise the backend seems to take no more than it has, and the next is sent on
    // another connection.
    let (mut connection, neighbour) = first_connection(&gateway, &backend, &[]).await;
    drop(neighbour);
    for (method, length) in [("GET", 0), ("POST", 10), ("PATCH", 64 << 10), ("DELETE", 0)] {
        let request = Request::new(method, "/").body(&body(length));
        let (response, ()) = tokio::join!(gateway.send(Via::Http1, request), async {
            let (stream, first) = next_upload(&mut connection).await;
            assert_eq!(first, body(length), "{method}");
            connection.send(&reset(stream, REFUSED_STREAM)).await;
            let (stream, second) = next_upload(&mut connection).await;
            assert_eq!(second, body(length), "{method}, again");
            connection.send_all(response(stream, &[], "ok")).await;
        });
        assert_eq!(response.status, 200, "{method}");
    }
    // What was read of it is more than is kept.
    let request = Request::new("POST", "/").body(&body((64 << 10) + 1));
    let (response, ()) = tokio::join!(gateway.send(Via::Http1, request), async {
        let (stream, _) = next_upload(&mut connection).await;
        connection.send(&reset(stream, REFUSED_STREAM)).await;
    });
    assert_eq!(response.status, 502);
    let retried = ["reason=\"unprocessed\""];
    gateway.counts("ssegate_upstream_retries_total", &retried, 4.0).await;
    let failed = ["kind=\"retry_buffer\""];
    gateway.counts("ssegate_upstream_errors_total", &failed, 1.0).await;
}

#[tokio::test]
async fn a_large_body_that_was_not_read_is_sent_again() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let settings = [(INITIAL_WINDOW_SIZE, 0)];
    let (mut connection, _neighbour) = first_connection(&gateway, &backend, &settings).await;
    let request = Request::new("POST", "/").body(&body(1 << 20));
    let (response, ()) = tokio::join!(gateway.send(Via::Http1, request), async {
        let stream = next_request(&mut connection).await.stream;
        connection.send(&reset(stream, REFUSED_STREAM)).await;
        let larger = Frame::of_settings(&[(INITIAL_WINDOW_SIZE, 65_535)]);
        connection.send(&larger).await;
        let (stream, second) = next_upload(&mut connection).await;
        assert!(second == body(1 << 20), "the body is complete");
        connection.send_all(response(stream, &[], "ok")).await;
    });
    assert_eq!(response.status, 200);
}

#[tokio::test]
async fn nothing_of_a_body_is_kept_where_the_route_says_so() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route(", retry_buffer: 0")).await;
    let (mut connection, _neighbour) = first_connection(&gateway, &backend, &[]).await;
    let request = Request::new("POST", "/").body(b"0123456789");
    let (response, ()) = tokio::join!(gateway.send(Via::Http1, request), async {
        let (stream, _) = next_upload(&mut connection).await;
        connection.send(&reset(stream, REFUSED_STREAM)).await;
    });
    assert_eq!(response.status, 502);
}

#[tokio::test]
async fn a_backend_that_refuses_everything_is_not_asked_for_ever() {
    let redis = Redis::start().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let backend = FrameBackend::start().await.serve(&[], move |_, stream| {
        count.fetch_add(1, Ordering::SeqCst);
        vec![reset(stream, REFUSED_STREAM)]
    });
    let gateway = in_front_of(&redis, &backend.route("")).await;
    assert_eq!(gateway.get("/").await.status, 502);
    assert_eq!(asked.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn requests_behind_the_last_stream_of_a_goaway_are_sent_on_another_connection() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let (mut connection, mut neighbour) = first_connection(&gateway, &backend, &[]).await;
    let post = || gateway.send(Via::Http1, Request::new("POST", "/").body(b"0123456789"));
    let (mut first, mut second) = (Box::pin(post()), Box::pin(post()));
    let number = tokio::select! {
        (number, _) = next_upload(&mut connection) => number,
        _ = &mut first => panic!("answered"),
    };
    tokio::select! {
        _ = next_upload(&mut connection) => {}
        _ = &mut second => panic!("answered"),
    }
    // The first of the two is processed, the second is not.
    connection.send(&goaway(number, 0)).await;
    let serve = async {
        let mut other = backend.accept(&[]).await;
        let (stream, again) = next_upload(&mut other).await;
        assert_eq!(again, b"0123456789");
        other.send_all(response(stream, &[], "ok")).await;
        connection.send_all(response(number, &[], "ok")).await;
        other
    };
    let (first, second, mut other) = tokio::join!(first, second, serve);
    assert_eq!((first.status, second.status), (200, 200));
    goes_on(&mut neighbour, &mut connection).await;
    let next = answered(&gateway, &mut other, |stream| response(stream, &[], "ok")).await;
    assert_eq!(next.status, 200);
    assert_eq!(backend.accepted(), 2);
}

#[tokio::test]
async fn a_request_that_was_lost_is_sent_once_more_if_it_is_idempotent() {
    let redis = Redis::start().await;
    for (more, method, body, expected) in [
        ("", "GET", &b""[..], 200),
        ("", "HEAD", b"", 200),
        ("", "OPTIONS", b"", 200),
        ("", "PUT", b"", 200),
        ("", "DELETE", b"", 200),
        ("", "PUT", b"a body", 502),
        ("", "POST", b"", 502),
        ("", "PATCH", b"", 502),
        (", retry_idempotent: false", "GET", b"", 502),
    ] {
        let backend = FrameBackend::start().await;
        let gateway = in_front_of(&redis, &backend.route(more)).await;
        let (mut connection, neighbour) = first_connection(&gateway, &backend, &[]).await;
        drop(neighbour);
        let request = Request::new(method, "/").body(body);
        let sending = gateway.send(Via::Http1, request);
        let serve = async {
            next_upload(&mut connection).await;
            drop(connection);
            let mut other = backend.accept(&[]).await;
            let (stream, _) = next_upload(&mut other).await;
            let end = Frame::new(DATA, END_STREAM, stream, b"");
            other.send_all([head(stream, &[]), vec![end]].concat()).await;
            std::future::pending::<()>().await;
        };
        let response = tokio::select! {
            response = sending => response,
            () = serve => unreachable!("it waits"),
        };
        assert_eq!(response.status, expected, "{method} {more}");
    }
}

#[tokio::test]
async fn a_request_that_was_lost_on_a_new_connection_is_not_sent_again() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let (response, ()) = tokio::join!(gateway.get("/"), async {
        let mut connection = backend.accept(&[]).await;
        next_request(&mut connection).await;
    });
    assert_eq!(response.status, 502);
    gateway.logs("no response: the connection was lost").await;
}

#[tokio::test]
async fn an_upload_that_the_backend_does_not_read_holds_up_no_other() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let (mut connection, mut neighbour) = first_connection(&gateway, &backend, &[]).await;
    let stuck = gateway.send(Via::Http1, Request::new("POST", "/stuck").body(&body(100_000)));
    let mut stuck = Box::pin(stuck);
    let taken = async {
        assert_eq!(next_request(&mut connection).await.path(), "/stuck");
        let mut taken = 0;
        while taken < 65_535 {
            taken += connection.next_of(DATA).await.unwrap().payload.len();
        }
    };
    tokio::select! {
        _ = &mut stuck => panic!("answered"),
        () = taken => {}
    }
    // The window of the connection is used up.
    for length in [10, 100_000] {
        let request = Request::new("POST", "/next").body(&body(length));
        let serve = async {
            let mut other = backend.accept(&[]).await;
            let (stream, read) = next_upload(&mut other).await;
            assert_eq!(read.len(), length);
            other.send_all(response(stream, &[], "ok")).await;
        };
        let (response, ()) = tokio::join!(gateway.send(Via::Http1, request), serve);
        assert_eq!(response.text().await, "ok", "{length}");
    }
    goes_on(&mut neighbour, &mut connection).await;
    // A request without a body needs no window.
    let response = answered(&gateway, &mut connection, |stream| response(stream, &[], "ok"));
    assert_eq!(response.await.text().await, "ok");
}

#[tokio::test]
async fn small_uploads_share_a_connection() {
    let redis = Redis::start().await;
    let backend = H2Site::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let connection = Http2::connect(Via::H2c, gateway.address("http")).await;
    let upload = || Request::new("POST", "/upload").header("content-length", "1000");
    let uploads = (0..50).map(|_| Box::pin(connection.send(upload().body(&body(1000)))));
    for upload in uploads.collect::<Vec<_>>() {
        let response = within(SOON, "an answer", upload).await;
        assert_eq!(response.text().await, "1000");
    }
    let connections = gateway.metrics().await.sum("ssegate_upstream_connections", &[]);
    assert_eq!(connections.to_bits(), 1_f64.to_bits(), "{connections}");
}

#[tokio::test]
async fn clients_that_take_their_requests_back_harm_no_other_on_their_connection() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let (mut connection, mut neighbour) = first_connection(&gateway, &backend, &[]).await;
    let taken_back = async {
        loop {
            let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let stream = next_request(&mut connection).await.stream;
            // It resets its connection: one that only closes may still wait for its response.
            socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            drop(client);
            let reset = within(SOON, "RST_STREAM", connection.next_of(RST_STREAM)).await.unwrap();
            assert_eq!((reset.stream, reset.number(0)), (stream, CANCEL));
        }
    };
    // A backend would soon end a connection with so many of them: it is given no further request.
    let mut other = tokio::select! {
        () = taken_back => unreachable!("it goes on"),
        other = backend.accept(&[]) => other,
    };
    goes_on(&mut neighbour, &mut connection).await;
    // The last of those that left may have been sent on it.
    let serve = async {
        loop {
            let stream = next_request(&mut other).await.stream;
            other.send_all(response(stream, &[], "ok")).await;
        }
    };
    tokio::select! {
        response = gateway.get("/") => assert_eq!(response.status, 200),
        () = serve => unreachable!("it goes on"),
    }
}

#[tokio::test]
async fn an_upload_waits_for_others_where_no_connection_may_be_opened() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route(", max_connections: 1")).await;
    let (mut connection, _neighbour) = first_connection(&gateway, &backend, &[]).await;
    let first = gateway.send(Via::Http1, Request::new("POST", "/first").body(&body(100_000)));
    let second = gateway.send(Via::Http1, Request::new("POST", "/second").body(&body(10)));
    let is_used_up = Notify::new();
    let serve = async {
        let first = next_request(&mut connection).await.stream;
        let mut taken = 0;
        while taken < 65_535 {
            taken += connection.next_of(DATA).await.unwrap().payload.len();
        }
        is_used_up.notify_one();
        let second = next_request(&mut connection).await.stream;
        let credit = 100_000_u32.to_be_bytes();
        for stream in [0, first] {
            connection.send(&Frame::new(WINDOW_UPDATE, 0, stream, &credit)).await;
        }
        let mut ended = 0;
        while ended < 2 {
            let data = connection.next_of(DATA).await.unwrap();
            ended += usize::from(data.flags & END_STREAM);
        }
        for stream in [first, second] {
            connection.send_all(response(stream, &[], "ok")).await;
        }
    };
    let second = async {
        is_used_up.notified().await;
        second.await
    };
    let (first, second, ()) = tokio::join!(first, second, serve);
    assert_eq!((first.status, second.status), (200, 200));
}

#[tokio::test]
async fn the_next_connection_is_open_before_the_backend_ends_the_last() {
    const REQUESTS: usize = 12;
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    // Like nginx with keepalive_requests.
    let backend = backend.serve(&[], move |_, stream| {
        count.fetch_add(1, Ordering::SeqCst);
        let mut frames = response(stream, &[], "ok");
        if stream as usize == 2 * REQUESTS - 1 {
            frames.insert(0, goaway(stream, 0));
        }
        frames
    });
    let gateway = in_front_of(&redis, &backend.route("")).await;
    for number in 1..=6 * REQUESTS {
        assert_eq!(gateway.get("/").await.status, 200);
        // After two connections the number is known.
        let (ended, of_this) = (number / REQUESTS, number % REQUESTS);
        if ended >= 2 && of_this == REQUESTS / 2 {
            assert_eq!(backend.accepted(), ended + 1, "not much sooner than it is needed");
        }
        if ended >= 2 && of_this == REQUESTS - 1 {
            let is_open = async || backend.accepted() == ended + 2;
            eventually(SOON, "the next connection is open", is_open).await;
        }
    }
    assert_eq!(served.load(Ordering::SeqCst), 6 * REQUESTS, "none was sent twice");
}

#[tokio::test]
async fn a_ping_of_the_backend_is_answered() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let (mut connection, mut neighbour) = first_connection(&gateway, &backend, &[]).await;
    connection.send(&Frame::new(PING, 0, 0, b"are you?")).await;
    let pong = within(SOON, "the answer to a PING", connection.next_of(PING)).await.unwrap();
    assert_eq!((pong.flags, &pong.payload[..]), (1, &b"are you?"[..]));
    goes_on(&mut neighbour, &mut connection).await;
}

/// A head that does not end its stream: the end comes in a frame of its own, as hypercorn sends it.
fn status_head(stream: u32, status: &str, fields: &[(&str, &str)]) -> Frame {
    Frame::request(stream, 0, &[&[(":status", status)], fields].concat())
}

#[tokio::test]
async fn a_response_without_a_body_gets_no_length_that_its_backend_has_not_sent() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let (mut connection, _neighbour) = first_connection(&gateway, &backend, &[]).await;
    for (method, status, length, expected) in [
        ("HEAD", "200", None, ""),
        ("HEAD", "200", Some("42"), "42"),
        ("HEAD", "404", None, ""),
        ("GET", "304", None, ""),
        ("GET", "204", None, ""),
        // RFC 9110, section 8.6: a 204 must not have one.
        ("GET", "204", Some("0"), ""),
    ] {
        for via in Via::ALL {
            let what = format!("{method}, {status}, {length:?} via {via:?}");
            let request = Request::new(method, "/");
            let (response, number) = tokio::join!(gateway.send(via, request), async {
                let number = next_request(&mut connection).await.stream;
                let fields: Vec<_> =
                    length.map(|length| ("content-length", length)).into_iter().collect();
                connection.send(&status_head(number, status, &fields)).await;
                number
            });
            assert_eq!(response.status.to_string(), status, "{what}");
            assert_eq!(response.header("content-length"), expected, "{what}");
            connection.send(&Frame::new(DATA, END_STREAM, number, b"")).await;
            assert_eq!(response.text().await, "", "{what}");
        }
    }
    assert_eq!(backend.accepted(), 1);
}

#[tokio::test]
async fn a_response_without_content_is_complete_with_its_head_however_its_backend_ends_it() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let (mut connection, _neighbour) = first_connection(&gateway, &backend, &[]).await;
    for (method, status) in [("HEAD", "200"), ("GET", "304")] {
        for end in 0..4 {
            for via in Via::ALL {
                let what = format!("{method}, {status}, ended by {end}, via {via:?}");
                let request = Request::new(method, "/");
                let (response, ()) = tokio::join!(gateway.send(via, request), async {
                    let number = next_request(&mut connection).await.stream;
                    let fields = [("content-length", "42")];
                    connection.send(&status_head(number, status, &fields)).await;
                    // The gateway has read the head when it acknowledges what follows it.
                    connection.send(&Frame::new(PING, 0, 0, b"the head")).await;
                    while pinged(&mut connection).await != b"the head" {}
                    let last = match end {
                        0 => Frame::new(DATA, END_STREAM, number, b""),
                        1 => Frame::request(number, END_STREAM, &[("etag", "1")]),
                        2 => reset(number, 0),
                        // Never: as a HEAD of an event stream may be left open.
                        _ => return,
                    };
                    connection.send(&last).await;
                });
                assert_eq!(response.status.to_string(), status, "{what}");
                // Over HTTP/1.1 hyper leaves that of a 304 out, which RFC 9110 (section 8.6) allows.
                let is_left_out = status == "304" && matches!(via, Via::Http1 | Via::Http1Tls);
                let expected = if is_left_out { "" } else { "42" };
                assert_eq!(response.header("content-length"), expected, "{what}");
                assert_eq!(response.text().await, "", "{what}");
            }
        }
    }
    assert_eq!(backend.accepted(), 1);
}

/// How a response without content goes on that comes before its request is sent to its end.
#[derive(Clone, Copy, Debug)]
enum AfterEarlyHead {
    UploadEnds,
    Reset(u32),
    ConnectionEnds,
}

#[tokio::test]
async fn a_response_without_content_that_comes_before_the_end_of_its_request_is_complete_too() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    for what in [
        AfterEarlyHead::UploadEnds,
        AfterEarlyHead::Reset(0),
        AfterEarlyHead::Reset(CANCEL),
        AfterEarlyHead::ConnectionEnds,
    ] {
        let mut client = FrameConnection::open(gateway.address("http"), &[]).await;
        let fields =
            [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
        client.send(&Frame::request(1, 0, &fields)).await;
        client.send(&Frame::new(DATA, 0, 1, b"begin")).await;
        let mut connection = backend.accept(&[]).await;
        let number = next_request(&mut connection).await.stream;
        within(SOON, "the body", connection.next_of(DATA)).await.unwrap();
        connection.send(&status_head(number, "204", &[])).await;
        let head = within(SOON, "the head", client.next_of(HEADERS)).await.unwrap();
        assert_eq!(head.flags & END_STREAM, 0, "{what:?}: the client may go on with its request");
        let mut kept = None;
        match what {
            AfterEarlyHead::UploadEnds => {
                client.send(&Frame::new(DATA, END_STREAM, 1, b"")).await;
                let last = within(SOON, "the end of the request", connection.next_of(DATA)).await;
                assert_eq!(last.unwrap().flags & END_STREAM, END_STREAM);
                kept = Some(connection);
            }
            AfterEarlyHead::Reset(code) => {
                connection.send(&reset(number, code)).await;
                kept = Some(connection);
            }
            AfterEarlyHead::ConnectionEnds => drop(connection),
        }
        let end = async {
            loop {
                let frame = client.next().await.expect("the connection is open");
                if frame.stream == 1 && matches!(frame.kind, DATA | HEADERS | RST_STREAM) {
                    return frame;
                }
            }
        };
        let end = within(SOON, "the end of the response", end).await;
        assert_ne!(end.kind, RST_STREAM, "{what:?}: {end:?}");
        assert_eq!(end.flags & END_STREAM, END_STREAM, "{what:?}: {end:?}");
        // The next client is given a connection of its own.
        if let Some(mut connection) = kept {
            connection.send(&goaway(number, 0)).await;
            let ends = async { while connection.next().await.is_some() {} };
            within(SOON, "the gateway closes it", ends).await;
        }
    }
}

/// A request whose response has no content, and whose stream the backend has not ended yet.
async fn without_content(
    gateway: &Gateway,
    connection: &mut FrameConnection,
    (method, status): (&str, &str),
) -> u32 {
    let (response, number) =
        tokio::join!(gateway.send(Via::Http1, Request::new(method, "/")), async {
            let number = next_request(connection).await.stream;
            connection.send(&status_head(number, status, &[])).await;
            number
        });
    assert_eq!(response.status.to_string(), status);
    assert_eq!(response.text().await, "");
    number
}

#[tokio::test]
async fn a_backend_may_go_on_after_a_response_without_content() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let (mut connection, mut neighbour) = first_connection(&gateway, &backend, &[]).await;
    for (method, status) in [("GET", "204"), ("GET", "304"), ("HEAD", "200")] {
        let started = tokio::time::Instant::now();
        let number = without_content(&gateway, &mut connection, (method, status)).await;
        // A handler in Go that has sent its head works on, and fails if its stream is reset.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        connection.send(&Frame::new(PING, 0, 0, b"go on...")).await;
        loop {
            let frame = within(SOON, "a frame", connection.next()).await.unwrap();
            // On a busy machine this may be the end of the second that it is given.
            let is_over = started.elapsed() >= std::time::Duration::from_millis(900);
            assert!(frame.kind != RST_STREAM || is_over, "{method}, {status}");
            if frame.kind == PING && frame.payload == b"go on..." {
                break;
            }
        }
        connection.send(&Frame::new(DATA, END_STREAM, number, b"")).await;
    }
    // As many as would retire the connection if each were reset.
    for _ in 0..150 {
        let number = without_content(&gateway, &mut connection, ("GET", "204")).await;
        connection.send(&Frame::new(DATA, END_STREAM, number, b"")).await;
    }
    goes_on(&mut neighbour, &mut connection).await;
    assert_eq!(backend.accepted(), 1);
}

#[tokio::test]
async fn an_endless_response_without_content_is_cancelled_at_last() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route("")).await;
    let (mut connection, mut neighbour) = first_connection(&gateway, &backend, &[]).await;
    let started = tokio::time::Instant::now();
    let number = without_content(&gateway, &mut connection, ("HEAD", "200")).await;
    let reset = within(SOON, "RST_STREAM", connection.next_of(RST_STREAM)).await.unwrap();
    assert_eq!((reset.stream, reset.number(0)), (number, CANCEL));
    assert!(started.elapsed() >= std::time::Duration::from_millis(900), "{started:?}");
    // More of them than the gateway lets wait for their end.
    for _ in 0..50 {
        without_content(&gateway, &mut connection, ("HEAD", "200")).await;
    }
    goes_on(&mut neighbour, &mut connection).await;
    assert_eq!(backend.accepted(), 1);
}

#[tokio::test]
async fn a_204_from_a_backend_over_http1_has_no_length_over_http2() {
    let redis = Redis::start().await;
    let backend = Upstream::start().await;
    let gateway = in_front_of(&redis, &backend.route("/{*rest}")).await;
    for via in Via::ALL {
        let (response, ()) = tokio::join!(gateway.send(via, Request::get("/")), async {
            backend.call().await.answer("204 No Content", "", "").await;
        });
        assert_eq!((response.status, response.header("content-length")), (204, ""), "{via:?}");
    }
}

/// A client that sends this, and keeps its connection.
async fn client(gateway: &Gateway, request: &str) -> TcpStream {
    let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

/// Begins a body of unknown length, and does not go on.
fn upload(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
}

#[tokio::test]
async fn an_upload_goes_behind_another_when_no_connection_can_be_opened_for_it() {
    let redis = Redis::start().await;
    for refuses in [true, false] {
        let backend = FrameBackend::start().await;
        let gateway = in_front_of(&redis, &backend.route(", connect_timeout: 1s")).await;
        let _first = client(&gateway, &upload("/first")).await;
        let mut connection = backend.accept(&[]).await;
        assert_eq!(next_request(&mut connection).await.path(), "/first");
        // Connections are refused from now on; or nothing is said on them.
        let silent = if refuses { None } else { Some(backend) };
        let serve = async {
            let head = next_request(&mut connection).await;
            assert_eq!(head.path(), "/second");
            connection.send_all(response(head.stream, &[], "ok")).await;
        };
        let second = Request::new("POST", "/second").body(b"once");
        let (response, ()) = tokio::join!(gateway.send(Via::Http1, second), serve);
        assert_eq!(response.text().await, "ok", "{refuses}");
        drop(silent);
    }
}

#[tokio::test]
async fn a_request_that_waits_behind_an_upload_is_sent_when_there_is_room_for_it() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route(", connect_timeout: 60s")).await;
    let _stuck = client(&gateway, &upload("/stuck")).await;
    let mut connection = backend.accept(&[(MAX_CONCURRENT_STREAMS, 2)]).await;
    assert_eq!(next_request(&mut connection).await.path(), "/stuck");
    let _long = client(&gateway, "GET /long HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let long = next_request(&mut connection).await;
    assert_eq!(long.path(), "/long");
    // Nothing is said on another connection. These two wait, in this order.
    let mut waiting = Vec::new();
    for request in [&upload("/waits"), "GET /next HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let client = client(&gateway, request).await;
        let is_read = async || unread_bytes_of(client.local_addr().unwrap()) == 0;
        eventually(SOON, "the gateway has read it", is_read).await;
        waiting.push(client);
    }
    connection.send_all(response(long.stream, &[], "ok")).await;
    assert_eq!(next_request(&mut connection).await.path(), "/next");
}

#[tokio::test]
async fn a_backend_that_ends_idle_connections_is_not_taken_for_one_that_counts_requests() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route(", max_connections: 2")).await;
    for _ in 0..2 {
        let serve = async {
            let mut connection = backend.accept(&[]).await;
            let stream = next_request(&mut connection).await.stream;
            connection.send_all(response(stream, &[], "ok")).await;
            (connection, stream)
        };
        let (response, (mut connection, stream)) = tokio::join!(gateway.get("/"), serve);
        assert_eq!(response.text().await, "ok");
        connection.send(&goaway(stream, 0)).await;
        let ends = async { while connection.next().await.is_some() {} };
        within(SOON, "the gateway closes it", ends).await;
    }
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(client(&gateway, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await);
    }
    let mut connection = backend.accept(&[]).await;
    for _ in 0..5 {
        next_request(&mut connection).await;
    }
}

/// A request that nobody answers: 504 after `response_timeout`.
async fn unanswered(gateway: &Gateway, backend: &mut FrameConnection) {
    let (response, _) = tokio::join!(gateway.get("/"), next_request(backend));
    assert_eq!(response.status, 504);
}

/// The payload of the next PING.
async fn pinged(backend: &mut FrameConnection) -> Vec<u8> {
    let ping = within(SOON, "a PING", backend.next_of(PING)).await;
    ping.expect("the connection is open").payload
}

#[tokio::test]
async fn a_request_that_times_out_on_a_silent_connection_sends_the_next_ones_to_another() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route(", response_timeout: 500ms")).await;
    let (mut silent, mut neighbour) = first_connection(&gateway, &backend, &[]).await;
    unanswered(&gateway, &mut silent).await;
    let (other, _second) = tokio::join!(gateway.get("/"), async {
        let mut second = backend.accept(&[]).await;
        let number = next_request(&mut second).await.stream;
        second.send_all(response(number, &[], "from the second")).await;
        second
    });
    assert_eq!(other.text().await, "from the second");
    // A backend that is there after all gets requests again, and nothing has been lost.
    let ping = pinged(&mut silent).await;
    silent.send(&Frame::new(PING, ACK, 0, &ping)).await;
    goes_on(&mut neighbour, &mut silent).await;
    let again = answered(&gateway, &mut silent, |number| response(number, &[], "first")).await;
    assert_eq!(again.text().await, "first");
    assert_eq!(backend.accepted(), 2);
}

#[tokio::test]
async fn a_request_that_times_out_beside_others_that_go_on_changes_nothing() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let gateway = in_front_of(&redis, &backend.route(", response_timeout: 500ms")).await;
    let (mut connection, mut neighbour) = first_connection(&gateway, &backend, &[]).await;
    let (late, ()) = tokio::join!(gateway.get("/"), async {
        next_request(&mut connection).await;
        goes_on(&mut neighbour, &mut connection).await;
    });
    assert_eq!(late.status, 504);
    let response = answered(&gateway, &mut connection, |number| response(number, &[], "x")).await;
    assert_eq!(response.text().await, "x");
    assert_eq!(backend.accepted(), 1);
}

#[tokio::test]
async fn where_no_connection_may_be_opened_requests_wait_for_the_silent_one() {
    let redis = Redis::start().await;
    let backend = FrameBackend::start().await;
    let route = backend.route(", response_timeout: 500ms, max_connections: 1");
    let gateway = in_front_of(&redis, &route).await;
    let (mut silent, _neighbour) = first_connection(&gateway, &backend, &[]).await;
    unanswered(&gateway, &mut silent).await;
    let ping = pinged(&mut silent).await;
    let (response, ()) = tokio::join!(gateway.get("/"), async {
        gateway.counts("ssegate_upstream_connections", &[], 1.0).await;
        silent.send(&Frame::new(PING, ACK, 0, &ping)).await;
        let number = next_request(&mut silent).await.stream;
        silent.send_all(response(number, &[], "x")).await;
    });
    assert_eq!(response.text().await, "x");
    assert_eq!(backend.accepted(), 1);
}
