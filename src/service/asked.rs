//! What is kept of a request until it is answered, when the request itself has been handed on.

use http::header::{ACCEPT, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use tokio::time::Instant;

use super::{cors, start_page};

/// How a request wants to be answered.
#[derive(Debug)]
pub(super) struct Asked {
    // When its head was complete.
    pub(super) began: Instant,
    pub(super) method: Method,
    uri: Uri,
    pub(super) version: Version,
    pub(super) origin: Option<HeaderValue>,
    // The method that a browser asks about before it uses it.
    pub(super) preflight: Option<Method>,
    pub(super) accepts_stream: bool,
    pub(super) accepts_json: bool,
    pub(super) accepts_page: bool,
    // By its Host, and without a proxy before us.
    pub(super) is_of_this_machine: bool,
}

impl Asked {
    pub(super) fn by<B>(request: &Request<B>) -> Self {
        let (method, headers) = (request.method(), request.headers());
        Self {
            began: Instant::now(),
            method: method.clone(),
            uri: request.uri().clone(),
            version: request.version(),
            origin: headers.get(ORIGIN).cloned(),
            preflight: cors::preflight_of(method, headers),
            accepts_stream: accepts(headers, "text/event-stream"),
            accepts_json: accepts(headers, "application/json"),
            accepts_page: accepts(headers, "text/html"),
            is_of_this_machine: start_page::is_of_this_machine(request),
        }
    }

    /// Its path, without the query, which may have a secret in it.
    pub(super) fn path(&self) -> &str {
        self.uri.path()
    }

    /// Whether the client would come back for a stream that cannot be had now.
    pub(super) fn is_for_a_stream(&self) -> bool {
        self.method == Method::GET && self.accepts_stream
    }
}

/// Whether the client names this media type among those that it accepts.
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
