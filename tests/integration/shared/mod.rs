//! Event streams of a backend that several readers have together: `share` of a proxy route.

use tokio::task::JoinSet;

use crate::support::{
    Call, EventStream, Gateway, GatewayBuilder, Redis, Request, Response, SOON, Upstream, Via,
};

/// What two readers must not share.
mod leaks;
/// How a shared stream begins, and ends.
mod life;
/// An upstream that leads back.
mod loops;
/// In what two users differ, and what becomes of them.
mod matrix;
/// Pages of other origins.
mod origins;
/// php-fpm, whose workers are few.
mod php;
/// Clients that come back, and those that come late.
mod resuming;
/// What happens when the backend's stream ends or breaks.
mod returns;
/// A backend that says what it has seen.
mod seeing_backend;
/// The gateway stops.
mod stopping;
/// Two users with a secret each.
mod users;

/// The head of an event stream without an end.
const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                      transfer-encoding: chunked\r\nconnection: close\r\n\r\n";

/// A gateway with a route to the backend that says this in `share`.
fn build(redis: &Redis, upstream: &Upstream, share: &str) -> GatewayBuilder {
    let address = upstream.address();
    Gateway::build(redis).settings("sse: { keep_alive: 1m }").route(&format!(
        "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{address}\" }}\n  share: {{ {share} }}\n"
    ))
}

/// A request for an event stream, of the same host over every protocol.
fn get(target: &str) -> Request {
    Request::get(target).header("accept", "text/event-stream").host("shared.test")
}

/// Opens a stream.
async fn open(gateway: &Gateway, via: Via, request: Request) -> EventStream {
    let response = gateway.send(via, request).await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), "text/event-stream");
    assert_eq!(response.header("cache-control"), "no-store");
    response.stream()
}

/// Sends all of them at once.
async fn send_all(gateway: &Gateway, requests: Vec<(Via, Request)>) -> Vec<Response> {
    let mut sent = JoinSet::new();
    for (via, request) in requests {
        let to = gateway.address_for(via);
        sent.spawn(async move { request.send_within(4 * SOON, via, to).await });
    }
    sent.join_all().await
}

/// The first reader of a stream, for which the backend is asked.
async fn first(gateway: &Gateway, upstream: &Upstream, target: &str) -> (EventStream, Call) {
    let answer = async {
        let mut call = upstream.call().await;
        call.write(STREAM).await;
        call
    };
    let (mut reader, call) = tokio::join!(open(gateway, Via::Http1, get(target)), answer);
    reader.ready().await;
    (reader, call)
}

/// A reader that comes later, once it is told of what follows.
async fn join(gateway: &Gateway, via: Via, request: Request) -> EventStream {
    let mut reader = open(gateway, via, request).await;
    reader.ready().await;
    reader
}

/// What a reader is sent next: the data of so many events.
async fn data(reader: &mut EventStream, events: usize) -> Vec<String> {
    let mut data = Vec::new();
    for _ in 0..events {
        data.push(reader.next_event().await.data);
    }
    data
}

/// Ends a body.
async fn end(call: &mut Call) {
    call.write("0\r\n\r\n").await;
}
