//! The demo page of `ssegate dev`: a live list of events, and a form to publish.
//!
//! The form publishes through the embedded bus.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body;
use tokio::time::Instant;

use super::body::ResponseBody;
use super::html;
use super::rejection::Rejection;
use crate::log_limit::LogLimit;
use crate::query;
use crate::server::connection::BodyError;
use crate::server::request_body::RequestBody;

const PAGE: &str = include_str!("page.html");
const PUBLISH_PATH: &str = "/demo/publish";
/// Protects from cross-site requests: another origin can send this header only after a CORS
/// preflight, which the demo route does not allow.
const DEMO_HEADER: &str = "x-ssegate-demo";
const MAX_PUBLISHED_BYTES: usize = 64 << 10;
/// From the header of the request to the response.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
/// The page loads nothing from other origins and cannot be framed.
const POLICY: &str = "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Serves the page and its form.
pub(super) async fn respond(
    bus: Option<SocketAddr>,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Rejection> {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/") => Ok(html::page(PAGE, POLICY)),
        (&Method::POST, PUBLISH_PATH) => publish(bus.ok_or(Rejection::NotFound)?, request).await,
        (_, "/") => Err(Rejection::Method(vec![Method::GET, Method::HEAD])),
        (_, PUBLISH_PATH) => Err(Rejection::Method(vec![Method::POST])),
        _ => Err(Rejection::NotFound),
    }
}

async fn publish<B>(
    bus: SocketAddr,
    request: Request<B>,
) -> Result<Response<ResponseBody>, Rejection>
where
    B: Body,
    B::Error: Into<BodyError>,
{
    if !is_from_the_page(request.headers()) {
        return Err(Rejection::ForeignOrigin);
    }
    let query = query::parse(request.uri().query().unwrap_or_default());
    let channel = query.into_iter().find(|(key, _)| key == "channel").map(|(_, value)| value);
    let channel = channel.ok_or(Rejection::NotFound)?;
    let body = Limited::new(request.into_body(), MAX_PUBLISHED_BYTES);
    let publishing = async {
        let payload = body.collect().await?.to_bytes();
        Ok::<_, BodyError>(publish_on(bus, &channel, payload).await?)
    };
    match tokio::time::timeout(PUBLISH_TIMEOUT, publishing).await {
        Ok(Ok(receivers)) => {
            let mut response = Response::new(ResponseBody::bytes(format!("{receivers}\n")));
            *response.status_mut() = StatusCode::OK;
            Ok(response)
        }
        Ok(Err(error)) => {
            static FAILURES: LogLimit = LogLimit::new();
            if let Some(held_back) = FAILURES.pass("publish", Instant::now()) {
                tracing::warn!(%error, held_back, "the demo page could not publish");
            }
            Err(Rejection::Publish)
        }
        Err(_elapsed) => Err(Rejection::Publish),
    }
}

async fn publish_on(bus: SocketAddr, channel: &str, payload: Bytes) -> redis::RedisResult<i64> {
    let client = redis::Client::open(format!("redis://{bus}"))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("PUBLISH").arg(channel).arg(&payload[..]).query_async(&mut connection).await
}

fn is_from_the_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    headers.contains_key(DEMO_HEADER) && site.is_none_or(|site| site == "same-origin")
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http::Request;
    use hyper::body::{Body, Frame};

    use super::{DEMO_HEADER, publish};
    use crate::server::connection::BodyError;
    use crate::service::rejection::Rejection;

    /// A body that is always pending.
    struct Never;

    impl Body for Never {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn publishing_times_out_if_the_body_does_not_arrive() {
        let request = Request::post("/demo/publish?channel=news").header(DEMO_HEADER, "1");
        let request = request.body(Never).expect("a request");
        let bus = "127.0.0.1:1".parse().expect("an address");
        assert!(matches!(publish(bus, request).await, Err(Rejection::Publish)));
    }
}
