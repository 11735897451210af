//! Header fields of forwarded messages: hop-by-hop fields, `Connection` options, cookies (RFC 9110,
//! section 7.6).

use http::header::{CONNECTION, COOKIE, HeaderName, TE};
use http::{HeaderMap, HeaderValue};

/// The prefix of the fields that name the client and how it reached the proxies in front.
pub(super) const X_FORWARDED: &str = "x-forwarded-";

/// Whether this is a hop-by-hop field, which concerns one connection only (RFC 9110, section
/// 7.6.1). `Trailer` is not: it names fields of the message.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    match name.as_str() {
        "connection"
        | "keep-alive"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "proxy-connection"
        | "te"
        | "transfer-encoding"
        | "upgrade" => true,
        // Part of `Upgrade: h2c`: a client must not switch the backend's connection to HTTP/2.
        "http2-settings" => true,
        _ => false,
    }
}

/// Whether a client must not send this field under another spelling: it concerns one connection, frames or routes the
/// message, or names the client.
pub(super) fn is_reserved(name: &HeaderName) -> bool {
    let name_text = name.as_str();
    is_hop_by_hop(name)
        || name_text.starts_with(X_FORWARDED)
        || matches!(
            name_text,
            "content-length" | "forwarded" | "host" | "trailer" | "via" | "x-real-ip"
        )
}

/// Whether CGI, PHP, WSGI or Rack can read this name as a reserved one: `content_length` as `Content-Length`. Such a
/// name is removed even with `underscores_in_headers`, and even from a trusted proxy.
pub(super) fn is_reserved_alias(name: &HeaderName) -> bool {
    read_as(name).is_some_and(|name| is_reserved(&name))
}

/// The name as CGI, PHP, WSGI and Rack may read it; `None` if it has only letters, digits and hyphens. They read an
/// underscore as a hyphen; PHP a dot, too, and lighttpd any other character.
pub(super) fn read_as(name: &HeaderName) -> Option<HeaderName> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if name.as_str().bytes().all(is_plain) {
        return None;
    }
    let name: Vec<u8> =
        name.as_str().bytes().map(|byte| if is_plain(byte) { byte } else { b'-' }).collect();
    Some(HeaderName::try_from(name).expect("a hyphen may stand wherever another character may"))
}

/// Fields that are kept even if `Connection` names them, and so are all of [`X_FORWARDED`]: target, framing,
/// credentials and the client's address. Otherwise a client could make the gateway strip them, and appear to the
/// backend as another client.
const PROTECTED: [&str; 9] = [
    "authorization",
    "content-length",
    "cookie",
    "forwarded",
    "host",
    "via",
    "x-real-ip",
    "expect",
    "trailer",
];

/// Removes the hop-by-hop fields and those that `Connection` names.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = options(headers)
        // The usual options: `close` names no field, and `keep-alive` is removed anyway.
        .filter(|option| !["close", "keep-alive"].contains(option))
        .filter_map(|name| name.parse().ok())
        .filter(|name: &HeaderName| !is_protected(name.as_str()))
        .collect();
    remove(headers, |name| is_hop_by_hop(name) || named.contains(name));
}

fn is_protected(name: &str) -> bool {
    name.starts_with(X_FORWARDED) || PROTECTED.contains(&name)
}

/// Removes all fields whose name matches. Most messages have none of them, so testing the few names
/// that are present is cheaper than looking up each candidate.
pub(super) fn remove(headers: &mut HeaderMap, matches: impl Fn(&HeaderName) -> bool) {
    let matching: Vec<HeaderName> = headers.keys().filter(|name| matches(name)).cloned().collect();
    for name in matching {
        headers.remove(name);
    }
}

/// Whether `Connection` has this option.
pub(super) fn has_option(headers: &HeaderMap, option: &str) -> bool {
    options(headers).any(|named| named.eq_ignore_ascii_case(option))
}

/// The options of `Connection` (RFC 9110, section 7.6.1).
fn options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Whether the client accepts trailers: `TE: trailers` (RFC 9110, section 10.1.4).
pub(super) fn accepts_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(TE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        coding.split(';').next().is_some_and(|c| c.trim().eq_ignore_ascii_case("trailers"))
    })
}

/// The first name with an underscore. CGI, PHP, WSGI and Rack cannot tell `x_forwarded_for` from
/// `x-forwarded-for`, so a client could spoof a field that the gateway sets.
pub(super) fn ambiguous_name(headers: &HeaderMap) -> Option<&HeaderName> {
    headers.keys().find(|name| name.as_str().contains('_'))
}

/// Joins the `Cookie` fields into one: HTTP/2 allows several, HTTP/1.1 does not (RFC 9113, section
/// 8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let cookies: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&cookies.join(&b"; "[..]));
    headers.insert(COOKIE, joined.expect("valid values joined by an ASCII separator"));
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, header};

    use super::{
        accepts_trailers, ambiguous_name, is_reserved_alias, join_cookies, remove_hop_by_hop,
    };

    #[test]
    fn connection_options_cannot_remove_credentials_or_the_host() {
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
    fn names_with_an_underscore_are_ambiguous() {
        for (name, expected) in [("x_forwarded_for", true), ("x-kept", false), ("a-b_c", true)] {
            let mut headers = HeaderMap::new();
            headers.append(name, HeaderValue::from_static("1"));
            assert_eq!(ambiguous_name(&headers).is_some(), expected, "{name}");
        }
    }

    #[test]
    fn an_alias_of_a_reserved_name_has_another_character_in_place_of_a_hyphen() {
        for (name, expected) in [
            ("content_length", true),
            ("transfer_encoding", true),
            ("keep_alive", true),
            ("x-forwarded_for", true),
            ("x_real_ip", true),
            ("x.real.ip", true),
            ("x~forwarded+for", true),
            ("x.own", false),
            ("content-length", false),
            ("te", false),
            ("te_", false),
            ("content__length", false),
            ("x_own", false),
        ] {
            assert_eq!(is_reserved_alias(&HeaderName::from_static(name)), expected, "{name}");
        }
    }

    #[test]
    fn te_trailers_is_found_in_a_list_and_in_any_case() {
        for (te, expected) in
            [("trailers", true), ("gzip, Trailers;q=1", true), ("gzip", false), ("", false)]
        {
            let mut headers = HeaderMap::new();
            headers.append("te", HeaderValue::from_static(te));
            assert_eq!(accepts_trailers(&headers), expected, "{te}");
        }
    }

    #[test]
    fn cookie_fields_are_joined_into_one() {
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
    fn hop_by_hop_fields_are_removed() {
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
