//! An upstream that leads back to this gateway, through something that the configuration cannot see.

use tokio::net::TcpListener;

use super::get;
use crate::forwarding::lead_back;
use crate::support::{Gateway, Redis, Via};

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
