//! The gateway's own HTML pages.

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, Response};

use super::body::ResponseBody;

/// A response with an HTML page that is not cached. `policy` is its Content-Security-Policy.
pub(super) fn page(text: &'static str, policy: &'static str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::bytes(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}
