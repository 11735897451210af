//! The part of a request that authentication looks at.

use http::header::HOST;
use http::{HeaderMap, Method, Request, Uri};

/// A view of a request.
#[derive(Clone, Copy, Debug)]
pub struct AuthRequest<'a> {
    /// Its method; of a WebSocket over HTTP/2 the GET that it is over HTTP/1.1 (RFC 8441).
    pub method: &'a Method,
    /// Its target.
    pub uri: &'a Uri,
    /// Its header fields.
    pub headers: &'a HeaderMap,
    /// Whether its client expects an event stream.
    pub is_stream: bool,
}

impl<'a> AuthRequest<'a> {
    /// The view of `request`.
    pub fn new<B>(request: &'a Request<B>) -> Self {
        let method = match *request.method() {
            Method::CONNECT => &Method::GET,
            _ => request.method(),
        };
        Self { method, uri: request.uri(), headers: request.headers(), is_stream: false }
    }

    /// The host that the client wrote, with its port; empty if there is none (HTTP/1.0).
    pub fn host(&self) -> &'a str {
        let authority = self.uri.authority().map(http::uri::Authority::as_str);
        let header = || self.headers.get(HOST).and_then(|host| host.to_str().ok());
        authority.or_else(header).unwrap_or_default()
    }

    /// Its path and query, as the client wrote them.
    pub fn path_and_query(&self) -> &'a str {
        self.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
    }
}
