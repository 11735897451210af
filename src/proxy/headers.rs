//! The headers of a forwarded message (RFC 9110, section 7.6).

use std::rc::Rc;

use http::header::{
    CONNECTION, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request};

use crate::server::connection::ConnectionState;

/// Headers that are about one connection only.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Headers that tell where a request comes from. A stranger's are never believed.
const FORWARDED: [&str; 6] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Makes a client's request one of ours: its own connection's headers go, `Host` stays, and where
/// it came from is told by us.
pub(super) fn forward_request<B>(request: &mut Request<B>, connection: &Rc<ConnectionState>) {
    let host = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let headers = request.headers_mut();
    remove_hop_by_hop(headers);
    if let Some(host) = host.and_then(|host| HeaderValue::try_from(host).ok()) {
        headers.insert(HOST, host);
    }
    for name in FORWARDED {
        headers.remove(name);
    }
    let peer = connection.peer().ip().to_canonical().to_string();
    let scheme = if connection.is_tls() { "https" } else { "http" };
    let set = |headers: &mut HeaderMap, name: &'static str, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    let host = headers.get(HOST).cloned();
    set(headers, "x-forwarded-for", HeaderValue::try_from(peer).ok());
    set(headers, "x-forwarded-proto", Some(HeaderValue::from_static(scheme)));
    set(headers, "x-forwarded-host", host);
}

/// Makes a backend's response one of ours.
pub(super) fn forward_response(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // What a client may not make us take away: the framing, and whom the request is for.
        .filter(|name| *name != HOST && *name != http::header::CONTENT_LENGTH)
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::remove_hop_by_hop;

    #[test]
    fn what_is_about_one_connection_stays_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Secret, host, content-length"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-secret", "1"),
            ("host", "a.example"),
            ("content-length", "2"),
            ("accept", "*/*"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        for name in [header::HOST, header::CONTENT_LENGTH, header::ACCEPT] {
            assert!(headers.remove(&name).is_some(), "{name}");
        }
        assert!(headers.is_empty(), "{headers:?}");
    }
}
