//! An upstream that leads back to this gateway, through something that the configuration cannot see.

use tokio::net::TcpListener;

use super::{STREAM, build, data, end, first, get};
use crate::forwarding::lead_back;
use crate::support::{Gateway, Redis, Upstream, Via};

/// The question that comes back does not wait for its own response.
#[tokio::test]
async fn a_stream_is_not_the_response_to_its_own_question() {
    let redis = Redis::start().await;
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = relay.local_addr().unwrap();
    let gateway = Gateway::build(&redis)
        .route(&format!(
            "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{address}\" }}\n  share: {{}}\n"
        ))
        .start()
        .await;
    let back = tokio::spawn(lead_back(relay, gateway.address("http")));
    // The gateway's own question is refused, and then the request itself goes round, since nothing is shared.
    gateway.send(Via::Http1, get("/")).await.stream().sent_away().await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_upstream_errors_total", &["loop"]), 1.0);
    assert_eq!(metrics.sum("ssegate_shared_alone_total", &["reason=\"loop\""]), 3.0);
    gateway.logs("this upstream leads to the gateway itself").await;
    back.abort();
}

/// The backend leads back once the stream is open: the question is refused at once, and does not go round.
#[tokio::test]
async fn an_open_stream_does_not_go_on_with_itself() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = build(&redis, &upstream, "").start().await;
    let (mut reader, mut call) = first(&gateway, &upstream, "/").await;
    call.write_chunk("retry: 100\nid: 7\ndata: 1\n\n").await;
    end(&mut call).await;
    drop(call);
    let call = upstream.call().await;
    let mut back = get("/");
    for name in ["via", "last-event-id"] {
        back = back.header(name, call.header(name));
    }
    let response = gateway.send(Via::Http1, back).await;
    assert_eq!(response.status, 508);
    call.answer("508 Loop Detected", "", "").await;
    // It may lead elsewhere again.
    let mut call = upstream.call().await;
    assert_eq!(call.header("last-event-id"), "7");
    call.write(STREAM).await;
    call.write_chunk("id: 8\ndata: 2\n\n").await;
    assert_eq!(data(&mut reader, 2).await, ["1", "2"]);
}

/// Each of two gateways asks the other, in a question of its own, which says where it has been.
#[tokio::test]
async fn gateways_that_lead_to_each_other_do_not_wait_for_each_other() {
    let redis = Redis::start().await;
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let route = |address: std::net::SocketAddr| {
        format!(
            "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{address}\" }}\n  share: {{}}\n"
        )
    };
    let one = Gateway::build(&redis).route(&route(relay.local_addr().unwrap())).start().await;
    let other = Gateway::build(&redis).route(&route(one.address("http"))).start().await;
    let back = tokio::spawn(lead_back(relay, other.address("http")));
    one.send(Via::Http1, get("/")).await.stream().sent_away().await;
    assert!(one.metrics().await.sum("ssegate_shared_alone_total", &["reason=\"loop\""]) >= 1.0);
    back.abort();
}
