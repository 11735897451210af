//! What every response gets at its end: the time that it took, and no body for a HEAD.

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Response};
use tokio::time::Instant;

use super::body::ResponseBody;
use crate::metrics::RouteMetrics;

/// Records the duration of the request: at the end of a backend's body, or now.
pub(super) fn time(
    received_at: Instant,
    metrics: Arc<RouteMetrics>,
    mut response: Response<ResponseBody>,
) -> Response<ResponseBody> {
    match response.body_mut() {
        ResponseBody::Upstream(body) => body.time(received_at, metrics),
        _ => metrics.request_ended(received_at.elapsed()),
    }
    response
}

/// Removes the body of a response to HEAD and keeps its Content-Length (RFC 9110, section 9.3.2).
/// Over HTTP/1.1 hyper does this, too.
pub(super) fn remove_body(response: &mut Response<ResponseBody>) {
    if let Some(length) = response.body_mut().take_bytes() {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}
