//! The header of a response that is an event stream.

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use super::body::ResponseBody;

/// The Content-Type of event streams. They are always UTF-8 (WHATWG HTML 9.2.5), but clients that
/// default to ISO 8859-1, as RFC 2616 did (PyPI's `sseclient`), need the parameter.
pub(super) const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A response with the header fields of an event stream: no cache stores it, and no proxy buffers
/// it.
pub(super) fn stream_response(body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    forbid_buffering(headers);
    response
}

/// Tells nginx and proxies that follow it not to buffer the stream.
pub(super) fn forbid_buffering(headers: &mut HeaderMap) {
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
}
