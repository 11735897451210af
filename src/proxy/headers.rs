//! The headers of a forwarded message (RFC 9110, section 7.6).

use http::header::{CONNECTION, COOKIE, HeaderName, TE};
use http::{HeaderMap, HeaderValue};

/// Headers that are about one connection only. `Trailer` is not: it names fields of the message.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    match name.as_str() {
        "connection"
        | "keep-alive"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "proxy-connection"
        | "te"
        | "transfer-encoding"
        | "upgrade" => true,
        // Part of `Upgrade: h2c`, which a backend must not be talked into by a client.
        "http2-settings" => true,
        _ => false,
    }
}

/// Headers that the `Connection` header may not name: whom the request is for, its framing, and who
/// asks. A client that had them taken away here would be another one for the backend.
const KEPT: [&str; 13] = [
    "authorization",
    "content-length",
    "cookie",
    "forwarded",
    "host",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
    "expect",
    "trailer",
];

/// Takes away what concerns the connection that the message came on.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = options(headers)
        // What it says as a rule: of the one there is no field, the other goes in any case.
        .filter(|option| !["close", "keep-alive"].contains(option))
        .filter_map(|name| name.parse().ok())
        .filter(|name: &HeaderName| !KEPT.contains(&name.as_str()))
        .collect();
    remove(headers, |name| is_hop_by_hop(name) || named.contains(name));
}

/// Takes away every header whose name is meant. Most messages have none of them: it is cheaper to
/// look at the few names that are there than to look up those that may be.
pub(super) fn remove(headers: &mut HeaderMap, is_meant: impl Fn(&HeaderName) -> bool) {
    let meant: Vec<HeaderName> = headers.keys().filter(|name| is_meant(name)).cloned().collect();
    for name in meant {
        headers.remove(name);
    }
}

/// Whether `Connection` says this of its connection.
pub(super) fn has_option(headers: &HeaderMap, option: &str) -> bool {
    options(headers).any(|named| named.eq_ignore_ascii_case(option))
}

/// What `Connection` says of its connection.
fn options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Whether the client reads trailers (RFC 9110, section 10.1.4).
pub(super) fn accepts_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(TE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        coding.split(';').next().is_some_and(|c| c.trim().eq_ignore_ascii_case("trailers"))
    })
}

/// A name that CGI and its kin (PHP, WSGI, Rack) cannot tell from another: `x_forwarded_for` from
/// `x-forwarded-for`. A client could speak with it as if it were us.
pub(super) fn ambiguous_name(headers: &HeaderMap) -> Option<&HeaderName> {
    headers.keys().find(|name| name.as_str().contains('_'))
}

/// Over HTTP/2 each cookie may have a field of its own; for HTTP/1.1 they must be one (RFC 9113,
/// section 8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let cookies: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&cookies.join(&b"; "[..]));
    headers.insert(COOKIE, joined.expect("valid values, and a separator of plain text"));
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::{accepts_trailers, ambiguous_name, join_cookies, remove_hop_by_hop};

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
    fn names_that_look_like_ours_to_a_backend_are_found() {
        for (name, expected) in [("x_forwarded_for", true), ("x-kept", false), ("a-b_c", true)] {
            let mut headers = HeaderMap::new();
            headers.append(name, HeaderValue::from_static("1"));
            assert_eq!(ambiguous_name(&headers).is_some(), expected, "{name}");
        }
    }

    #[test]
    fn a_client_says_that_it_reads_trailers() {
        for (te, expected) in
            [("trailers", true), ("gzip, Trailers;q=1", true), ("gzip", false), ("", false)]
        {
            let mut headers = HeaderMap::new();
            headers.append("te", HeaderValue::from_static(te));
            assert_eq!(accepts_trailers(&headers), expected, "{te}");
        }
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
            ("http2-settings", "AAMAAABk"),
            ("proxy-connection", "keep-alive"),
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
