//! The header of a response that is kept, for its first reader and for those that come back.

use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_EXPOSE_HEADERS, AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE,
    DATE, ETAG, EXPIRES, LAST_MODIFIED, LOCATION, SET_COOKIE, TRAILER, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::about::KeptHead;
use super::stream::{KeptStream, state_word};
use crate::service::body::ResponseBody;
use crate::service::stream_head::forbid_buffering;

/// The prefix of the address of a kept stream; its id follows.
pub(in crate::service) const PREFIX: &str = "/.ssegate/kept/";
/// The id of a kept stream.
pub(in crate::service) const SSEGATE_STREAM: HeaderName = HeaderName::from_static("ssegate-stream");
/// `running`, `ended`, `cancelled` or `lost`.
const SSEGATE_STATE: HeaderName = HeaderName::from_static("ssegate-state");
/// The number of the last event.
const SSEGATE_LAST: HeaderName = HeaderName::from_static("ssegate-last");
/// Set by a backend: `no`, or `yes` in response to a request whose method is not listed.
pub(in crate::service) const SSEGATE_KEEP: HeaderName = HeaderName::from_static("ssegate-keep");
/// Set by a backend: the name of the stream.
pub(in crate::service) const SSEGATE_KEY: HeaderName = HeaderName::from_static("ssegate-key");

const EXPOSED: &str = "location, ssegate-stream, ssegate-state, ssegate-last";

/// Fields that describe the bytes as the backend sent them: the gateway has added ids.
const OF_THE_BYTES: [HeaderName; 6] = [
    CONTENT_LENGTH,
    ACCEPT_RANGES,
    ETAG,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("digest"),
];

/// Fields for the first reader only, or for the time of its response.
const OF_THE_FIRST: [HeaderName; 7] = [
    SET_COOKIE,
    HeaderName::from_static("set-cookie2"),
    DATE,
    AGE,
    EXPIRES,
    LAST_MODIFIED,
    LOCATION,
];

/// Removes the fields that a backend sets for the gateway.
pub(in crate::service) fn strip(headers: &mut HeaderMap) {
    for name in [SSEGATE_KEEP, SSEGATE_KEY, SSEGATE_STREAM, SSEGATE_STATE, SSEGATE_LAST] {
        headers.remove(name);
    }
}

/// Returns the fields of a response that later readers get.
pub(in crate::service) fn kept_head(headers: &HeaderMap) -> KeptHead {
    let mut head = KeptHead::default();
    for (name, value) in headers {
        let is_cors = name.as_str().starts_with("access-control-")
            || (name == VARY && value.as_bytes().eq_ignore_ascii_case(b"origin"));
        if is_cors {
            head.cors.append(name, value.clone());
        } else if !OF_THE_FIRST.contains(name) && !OF_THE_BYTES.contains(name) && name != TRAILER {
            head.headers.append(name, value.clone());
        }
    }
    head
}

/// Makes the header of a backend's response that of a kept stream.
pub(in crate::service) fn make_kept(
    headers: &mut HeaderMap,
    stream: &KeptStream,
    has_origin: bool,
) {
    for name in OF_THE_BYTES {
        headers.remove(name);
    }
    headers.remove(TRAILER);
    strip(headers);
    name_stream(headers, stream, has_origin);
}

fn name_stream(headers: &mut HeaderMap, stream: &KeptStream, has_origin: bool) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    forbid_buffering(headers);
    if let Ok(address) = HeaderValue::try_from(format!("{PREFIX}{}", stream.id)) {
        headers.entry(LOCATION).or_insert(address);
    }
    if let Ok(id) = HeaderValue::try_from(&*stream.id) {
        headers.insert(SSEGATE_STREAM, id);
    }
    if has_origin {
        headers.append(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
}

/// The response to a later reader, with a stream or about one.
pub(in crate::service) fn again(
    stream: &KeptStream,
    origin: Option<&HeaderValue>,
    body: ResponseBody,
) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.headers_mut() = stream.head.headers.clone();
    if origin.is_some() && origin == stream.request.origin.as_ref() {
        response.headers_mut().extend(stream.head.cors.clone());
    }
    tell_state(response.headers_mut(), stream, origin.is_some());
    response
}

fn tell_state(headers: &mut HeaderMap, stream: &KeptStream, has_origin: bool) {
    let extent = stream.log.extent();
    name_stream(headers, stream, has_origin);
    headers.insert(SSEGATE_STATE, HeaderValue::from_static(state_word(extent.end)));
    headers.insert(SSEGATE_LAST, HeaderValue::from(extent.last));
}

/// The response if no more events follow: an `EventSource` stops.
pub(in crate::service) fn nothing() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The response if no stream of this name runs: the state of the last one.
pub(in crate::service) fn nothing_of(
    stream: &KeptStream,
    origin: Option<&HeaderValue>,
) -> Response<ResponseBody> {
    let mut response = nothing();
    tell_state(response.headers_mut(), stream, origin.is_some());
    response
}

/// A stream without events, for a client that has all of a stream that has ended.
pub(in crate::service) fn all_read(
    stream: &KeptStream,
    origin: Option<&HeaderValue>,
) -> Response<ResponseBody> {
    let mut response = again(stream, origin, ResponseBody::empty());
    if !response.headers().contains_key(CONTENT_TYPE) {
        let kind = HeaderValue::from_static("text/event-stream");
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}
