//! Event streams of a backend that survive their readers.

use crate::support::{
    Call, Gateway, GatewayBuilder, Redis, Request, Response, SOON, Upstream, Via, read_exactly,
    within,
};

/// What passes, and what is added.
mod bytes;
/// How streams end, and what is told of it.
mod ends;
/// Streams that are known at every gateway.
mod fleet;
/// What becomes of them when something fails.
mod fleet_failures;
/// Streams of one name at several gateways.
mod fleet_names;
/// The libraries of applications.
mod libraries;
/// What the streams of a route take together.
mod memory;
/// Streams of one name.
mod names;
/// Whose a stream is.
mod owners;
/// Clients that come back.
mod resuming;
/// Many streams, cut at random.
mod storms;

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                      transfer-encoding: chunked\r\nconnection: close\r\n\r\n";

/// What `keep` says where a test does not care.
const OWNER: &str = "owner: [authorization, \"cookie:session\"]";

/// The same for streams that are kept for all gateways.
const SHARED: &str = "owner: [authorization, \"cookie:session\"], store: redis, \
                      secret: a-secret-that-all-gateways-have-";

fn build(redis: &Redis, upstream: &Upstream, keep: &str) -> GatewayBuilder {
    let address = upstream.address();
    Gateway::build(redis).settings("sse: { keep_alive: 1m }").route(&format!(
        "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{address}\" }}\n  keep: {{ {keep} }}\n"
    ))
}

/// Of the user `anna`.
fn post(target: &str, body: &str) -> Request {
    Request::new("POST", target).header("authorization", "Bearer anna").body(body.as_bytes())
}

fn get(target: &str) -> Request {
    Request::get(target).header("authorization", "Bearer anna")
}

/// Sends a request; the backend answers with this head.
async fn open(
    gateway: &Gateway,
    upstream: &Upstream,
    (via, request): (Via, Request),
    head: &str,
) -> (Response, Call) {
    let answer = async {
        let mut call = upstream.call().await;
        call.write(head).await;
        call
    };
    tokio::join!(gateway.send(via, request), answer)
}

/// Ends a body.
async fn end(call: &mut Call) {
    call.write("0\r\n\r\n").await;
}

/// A stream of which the first event was read, with its address.
async fn begun(gateway: &Gateway, upstream: &Upstream, via: Via) -> (Response, Call, String) {
    let (mut response, mut call) =
        open(gateway, upstream, (via, post("/chat", "{}")), STREAM).await;
    call.write_chunk("data: 1\n\n").await;
    let stream = response.header("ssegate-stream").to_owned();
    read_exactly(&mut response.body, &events(&stream, 1..=1)).await;
    let location = response.header("location").to_owned();
    (response, call, location)
}

/// What has become of a stream.
async fn state(gateway: &Gateway, location: &str) -> String {
    let head = Request { method: "HEAD".into(), ..get(location) };
    gateway.send(Via::Http1, head).await.header("ssegate-state").to_owned()
}

/// A stream of so many events that has ended, and the response with which it began.
async fn ended(gateway: &Gateway, upstream: &Upstream, events: usize) -> Response {
    let (mut response, mut call) =
        open(gateway, upstream, (Via::Http1, post("/chat", "{}")), STREAM).await;
    for number in 1..=events {
        call.write_chunk(&format!("data: {number}\n\n")).await;
    }
    end(&mut call).await;
    drop(within(SOON, "the end", response.body.rest()).await.unwrap());
    response
}

/// The events that follow this number, as they come.
fn events(stream: &str, numbers: std::ops::RangeInclusive<usize>) -> String {
    numbers.map(|number| format!("data: {number}\nid: {stream}-{number}\n\n")).collect()
}
