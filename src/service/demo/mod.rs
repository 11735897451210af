//! The demo page of `ssegate dev`: a live list of events, and a form to publish.
//!
//! The form publishes as a request over HTTP does, through [`Publisher`].

use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body;
use tokio::time::Instant;

use ssegate_hub::ChannelName;

use super::body::ResponseBody;
use super::html;
use super::rejection::Rejection;
use crate::log_limit::LogLimit;
use crate::query;
use crate::route::{ChannelError, OWN_NAMES};
use crate::server::connection::BodyError;
use crate::server::request_body::RequestBody;
use crate::source::publishing::{Publication, PublicationKind, Publisher, Receipt};

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
    publisher: &Publisher,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Rejection> {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/") => Ok(html::page(PAGE, POLICY)),
        (&Method::POST, PUBLISH_PATH) => publish(publisher, request).await,
        (_, "/") => Err(Rejection::Method(vec![Method::GET, Method::HEAD])),
        (_, PUBLISH_PATH) => Err(Rejection::Method(vec![Method::POST])),
        _ => Err(Rejection::NotFound),
    }
}

async fn publish<B>(
    publisher: &Publisher,
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
    let channel = channel.ok_or(ChannelError::Missing)?;
    let channel = ChannelName::new(&channel).map_err(ChannelError::Invalid)?;
    if channel.as_str().starts_with(OWN_NAMES) {
        return Err(ChannelError::OwnName.into());
    }
    let body = Limited::new(request.into_body(), MAX_PUBLISHED_BYTES);
    let publishing = async {
        let kind = PublicationKind::Message(body.collect().await?.to_bytes());
        let publications = vec![Publication { channel, kind }];
        // The memory is that of one page of a developer.
        let outcome = publisher.publish(publications, None, publisher.reservation()).await?;
        match outcome.receipts.first() {
            Some(Receipt::Receivers(receivers)) => Ok::<_, BodyError>(*receivers),
            other => Err(format!("unexpected reply: {other:?}").into()),
        }
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

    use http_body_util::{BodyExt as _, Full};

    use super::{DEMO_HEADER, Publisher, publish};
    use crate::route::ChannelError;
    use crate::server::connection::BodyError;
    use crate::service::rejection::Rejection;
    use crate::source::publishing::{Publication, PublicationKind, PublicationOutcome, Receipt};
    use ssegate_hub::ChannelName;

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
        let (publisher, _publications) = Publisher::new(1 << 20);
        assert!(matches!(publish(&publisher, request).await, Err(Rejection::Publish)));
    }

    #[tokio::test]
    async fn a_message_is_published_and_the_response_has_the_number_of_receivers() {
        let request = Request::post("/demo/publish?channel=news").header(DEMO_HEADER, "1");
        let request = request.body(Full::new(Bytes::from_static(b"hello"))).expect("a request");
        let (publisher, mut jobs) = Publisher::new(1 << 20);
        let bus = async {
            let job = jobs.recv().await.expect("a message");
            let channel = ChannelName::new("news").expect("a name");
            let kind = PublicationKind::Message(Bytes::from_static(b"hello"));
            assert_eq!(job.publications, [Publication { channel, kind }]);
            let receipts = vec![Receipt::Receivers(3)];
            job.complete(Ok(PublicationOutcome { receipts, is_repeated: false }));
        };
        let (response, ()) = tokio::join!(publish(&publisher, request), bus);
        let body = response.expect("a response").into_body().collect().await.expect("a body");
        assert_eq!(body.to_bytes(), "3\n");
    }

    #[tokio::test]
    async fn a_missing_or_invalid_channel_and_a_foreign_page_are_rejected() {
        let (publisher, _publications) = Publisher::new(1 << 20);
        let publish = async |query: &str, header: &str| {
            let request = Request::post(format!("/demo/publish{query}")).header(header, "1");
            let request = request.body(Full::new(Bytes::new())).expect("a request");
            publish(&publisher, request).await.expect_err("a rejection")
        };
        for (query, header, expected) in [
            ("", DEMO_HEADER, "channel"),
            ("?channel=", DEMO_HEADER, "channel"),
            ("?channel=__keyspace@0__:x", DEMO_HEADER, "channel"),
            ("?channel=ssegate:revoke", DEMO_HEADER, "channel"),
            ("?channel=news", "x-other", "foreign_origin"),
        ] {
            assert_eq!(publish(query, header).await.as_str(), expected, "{query} {header}");
        }
        let missing = publish("", DEMO_HEADER).await;
        assert!(matches!(missing, Rejection::Channel(ChannelError::Missing)), "{missing}");
    }

    #[tokio::test]
    async fn publishing_fails_once_the_bus_has_stopped() {
        let request = Request::post("/demo/publish?channel=news").header(DEMO_HEADER, "1");
        let request = request.body(Full::new(Bytes::new())).expect("a request");
        let (publisher, jobs) = Publisher::new(1 << 20);
        drop(jobs);
        assert!(matches!(publish(&publisher, request).await, Err(Rejection::Publish)));
    }
}
