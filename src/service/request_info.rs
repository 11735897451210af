//! The facts about a request that are needed until its response, after the request itself has been
//! moved.

use http::header::{ACCEPT, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use tokio::time::Instant;

use super::{cors, start_page};

/// The facts about a request that its response depends on.
#[derive(Debug)]
pub(super) struct RequestInfo {
    // When its header was complete.
    pub(super) received_at: Instant,
    pub(super) method: Method,
    uri: Uri,
    pub(super) version: Version,
    pub(super) origin: Option<HeaderValue>,
    // The value of Access-Control-Request-Method in a CORS preflight.
    pub(super) preflight: Option<Method>,
    pub(super) accepts_stream: bool,
    pub(super) accepts_json: bool,
    pub(super) accepts_html: bool,
    // Host is this machine, and no proxy has added a header.
    pub(super) is_local_host: bool,
}

impl RequestInfo {
    pub(super) fn new<B>(request: &Request<B>) -> Self {
        let (method, headers) = (request.method(), request.headers());
        Self {
            received_at: Instant::now(),
            method: method.clone(),
            uri: request.uri().clone(),
            version: request.version(),
            origin: headers.get(ORIGIN).cloned(),
            preflight: cors::preflight_of(method, headers),
            accepts_stream: accepts(headers, "text/event-stream"),
            accepts_json: accepts(headers, "application/json"),
            accepts_html: accepts(headers, "text/html"),
            is_local_host: start_page::is_local_host(request),
        }
    }

    /// The path without the query, which may contain secrets.
    pub(super) fn path(&self) -> &str {
        self.uri.path()
    }

    /// Whether it comes from an `EventSource`, which reconnects by itself.
    pub(super) fn is_from_event_source(&self) -> bool {
        self.method == Method::GET && self.accepts_stream
    }
}

/// Whether Accept lists this media type. Wildcards do not count.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| {
            range.split(';').next().is_some_and(|r| r.trim().eq_ignore_ascii_case(media_type))
        })
}
