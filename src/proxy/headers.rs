//! The headers of a forwarded message (RFC 9110, section 7.6).

use std::rc::Rc;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
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

/// Headers that the `Connection` header may not name: whom the request is for, its framing, and who
/// asks. A client that had them taken away here would be another one for the backend.
const KEPT: [HeaderName; 7] = [
    AUTHORIZATION,
    CONTENT_LENGTH,
    COOKIE,
    HOST,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
];

/// Makes a client's request one of ours: its own connection's headers go, `Host` stays, and where
/// it came from is told by us.
pub(super) fn forward_request<B>(request: &mut Request<B>, connection: &Rc<ConnectionState>) {
    let host = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let headers = request.headers_mut();
    remove_hop_by_hop(headers);
    remove_ambiguous(headers);
    join_cookies(headers);
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
        .filter(|name| !KEPT.contains(name))
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// CGI and its kin (PHP, WSGI, Rack) cannot tell `x_forwarded_for` from `x-forwarded-for`, so that a
/// client could speak as if it were us.
fn remove_ambiguous(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}

/// Over HTTP/2 each cookie may have a field of its own; for HTTP/1.1 they must be one (RFC 9113,
/// section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1 {
        let joined = HeaderValue::from_bytes(&cookies.join(&b"; "[..]));
        headers.insert(COOKIE, joined.expect("valid values, and a separator of plain text"));
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::{join_cookies, remove_ambiguous, remove_hop_by_hop};

    #[test]
    fn a_client_cannot_have_its_own_credentials_taken_away() {
        let mut headers = HeaderMap::new();
        let names = "Authorization, cookie, X-Forwarded-For, x-forwarded-proto, host";
        headers.insert("connection", HeaderValue::from_static(names));
        for name in ["authorization", "cookie", "x-forwarded-for", "x-forwarded-proto", "host"] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.len(), 5, "{headers:?}");
    }

    #[test]
    fn names_that_look_like_ours_to_a_backend_are_dropped() {
        let mut headers = HeaderMap::new();
        for name in ["x_forwarded_for", "content_length", "x-forwarded_proto", "x-kept"] {
            headers.append(name, HeaderValue::from_static("1"));
        }
        remove_ambiguous(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-kept"]);
    }

    #[test]
    fn cookies_are_one_field() {
        let mut headers = HeaderMap::new();
        join_cookies(&mut headers);
        assert!(headers.is_empty());
        for cookie in ["a=1", "b=2; c=3", "d=\u{e4}"] {
            headers.append(header::COOKIE, HeaderValue::from_str(cookie).expect("a value"));
        }
        join_cookies(&mut headers);
        let cookies: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3; d=\u{e4}"]);
    }

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
