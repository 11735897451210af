//! `/publish/{channel}`: publishes what is sent to it.

use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Body;

use super::text;
use crate::server::connection::BodyError;
use crate::service::AdminPublishing;

/// What the path begins with.
pub(super) const PATH: &str = "/publish/";

/// Publishes the body of a POST. `Host` and `Origin` have been checked.
pub(super) async fn respond<B>(
    publishing: Option<&AdminPublishing>,
    request: Request<B>,
) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes, Error: Into<BodyError>>,
{
    if *request.method() != Method::POST {
        let mut response =
            text(StatusCode::METHOD_NOT_ALLOWED, "405 Method Not Allowed: use POST\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let Some(publishing) = publishing else {
        const ERROR: &str = "403 Forbidden: the admin listener publishes only if admin.address in gateway.yaml \
                             is on loopback, or with admin.auth; elsewhere use a route with publish and auth\n";
        return text(StatusCode::FORBIDDEN, ERROR);
    };
    let channel = request.uri().path().strip_prefix(PATH).unwrap_or_default().to_owned();
    publishing.respond(&channel, request).await.map(Full::new)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Request, StatusCode};
    use http_body_util::{BodyExt as _, Full};

    use super::respond;

    #[tokio::test]
    async fn elsewhere_than_on_loopback_nobody_publishes() {
        let request = Request::post("/publish/news").body(Full::new(Bytes::from_static(b"x")));
        let response = respond(None, request.expect("a request")).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert!(
            String::from_utf8_lossy(&body).contains("admin.address in gateway.yaml is on loopback")
        );
    }
}
