//! The facts about a request that are needed until its response, after the request itself has been
//! moved.

use std::cell::RefCell;

use http::header::{ACCEPT, FORWARDED, HOST, ORIGIN, VIA};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use tokio::time::Instant;

use super::cors;
use super::request_log::RequestLog;
use crate::proxy::gateways_passed;

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
    // It has passed another gateway, or this one.
    pub(super) is_via_gateway: bool,
    // Host is this machine, and no proxy has added a header.
    pub(super) is_local_host: bool,
    // `None`: it is not logged, or the log was passed on.
    log: RefCell<Option<Box<RequestLog>>>,
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
            is_via_gateway: gateways_passed(headers).is_some(),
            is_local_host: is_local_host(request),
            log: RefCell::default(),
        }
    }

    /// Sets its lines in the access log.
    pub(super) fn log_in(&self, log: Option<Box<RequestLog>>) {
        self.log.replace(log);
    }

    /// Adds something to its line in the access log, if it is logged.
    pub(super) fn note(&self, note: impl FnOnce(&mut RequestLog)) {
        if let Some(log) = &mut *self.log.borrow_mut() {
            note(log);
        }
    }

    /// Whether it is logged.
    pub(super) fn is_logged(&self) -> bool {
        self.log.borrow().is_some()
    }

    /// Takes its lines in the access log, for the response or stream.
    pub(super) fn take_log(&self) -> Option<Box<RequestLog>> {
        self.log.take()
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
pub(super) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| {
            range.split(';').next().is_some_and(|r| r.trim().eq_ignore_ascii_case(media_type))
        })
}

/// Whether the host of the request is this machine, and the request was not forwarded. HTTP/1.0
/// counts as forwarded: browsers do not use it, but nginx does by default.
fn is_local_host<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let header = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let authority = request.uri().authority().cloned().or(header);
    let is_local_host = authority.is_some_and(|authority| {
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        ["localhost", "127.0.0.1", "::1"].contains(&host.as_str())
    });
    is_local_host && request.version() > Version::HTTP_10 && !is_forwarded(headers)
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    let names = [FORWARDED, VIA];
    let others = ["x-forwarded-for", "x-real-ip"];
    names.iter().any(|name| headers.contains_key(name))
        || others.iter().any(|name| headers.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use http::{Request, Version};

    use super::is_local_host;

    #[test]
    fn only_direct_requests_to_this_machine_are_local() {
        for (host, header, expected) in [
            ("localhost:8080", None, true),
            ("127.0.0.1:8080", None, true),
            ("[::1]:8080", None, true),
            ("app.example", None, false),
            ("localhost.app.example", None, false),
            ("localhost", Some("x-forwarded-for"), false),
            ("localhost", Some("forwarded"), false),
            ("localhost", Some("via"), false),
            ("", None, false),
        ] {
            let mut request = Request::get("/").header("host", host);
            if let Some(name) = header {
                request = request.header(name, "x");
            }
            let request = request.body(()).expect("a request");
            assert_eq!(is_local_host(&request), expected, "{host} {header:?}");
        }
        // What nginx sends with a bare `proxy_pass`.
        let request = Request::get("/").version(Version::HTTP_10).header("host", "127.0.0.1:8080");
        assert!(!is_local_host(&request.body(()).expect("a request")));
    }
}
