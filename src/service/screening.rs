//! Rejects requests that two parties could parse differently (request smuggling).
//!
//! hyper rejects most of them, and normalizes those with both Content-Length and Transfer-Encoding
//! or with bare line feeds.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use ssegate_http2::authority::is_port;

use super::rejection::Rejection;

/// 8 EiB, the largest size of a file in most systems.
const MAX_LENGTH: u64 = i64::MAX as u64;

/// Checks that the only transfer coding is `chunked`, if there is one (RFC 9112, section 6.1).
/// hyper decodes a message as chunked if that is the last coding; a backend that supports the
/// others would read another body.
pub(super) fn transfer_coding(headers: &HeaderMap) -> Result<(), Rejection> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes);
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Rejection::TransferCoding),
    }
}

/// Checks that `Content-Length` can be the length of a body. Parsers of 63 bits, such as those of a backend in Java
/// or Go, take a larger one for another number.
pub(super) fn length(headers: &HeaderMap) -> Result<(), Rejection> {
    let lengths = headers.get_all(CONTENT_LENGTH).iter().filter_map(|length| length.to_str().ok());
    let is_huge = |length: &str| length.parse::<u64>().is_ok_and(|length| length > MAX_LENGTH);
    if lengths.map(str::trim).any(is_huge) { Err(Rejection::Length) } else { Ok(()) }
}

/// Checks that a CONNECT has no Content-Length: the bytes after it belong to the tunnel (RFC 9110,
/// section 9.3.6; RFC 8441, section 4). It is forwarded over HTTP/1.1 as a GET with Upgrade, and
/// the backend would read the next request as its body.
pub(super) fn tunnel<B>(request: &Request<B>) -> Result<(), Rejection> {
    let has_length = request.headers().contains_key(CONTENT_LENGTH);
    if request.method() == Method::CONNECT && has_length {
        return Err(Rejection::TunnelLength);
    }
    Ok(())
}

/// Checks the scheme in `:scheme` or in an absolute request target, if there is one.
pub(super) fn scheme<B>(request: &Request<B>) -> Result<(), Rejection> {
    let is_served = |scheme: &str| {
        ["http", "https"].into_iter().any(|served| scheme.eq_ignore_ascii_case(served))
    };
    if request.uri().scheme_str().is_none_or(is_served) { Ok(()) } else { Err(Rejection::Scheme) }
}

/// Returns the host of the request in lower case, without its port.
///
/// HTTP/1.1 requires exactly one Host (RFC 9112, section 3.2). In HTTP/2, `:authority` and Host
/// have to be equal if both are present (RFC 9113, section 8.3.1).
pub(super) fn host<B>(request: &Request<B>) -> Result<Option<Cow<'_, str>>, Rejection> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let header = hosts.next().map(|host| host.to_str().map_err(|_not_text| Rejection::Host));
    let header = header.transpose()?;
    if hosts.next().is_some() {
        return Err(Rejection::Host);
    }
    let authority = request.uri().authority().map(Authority::as_str);
    let host = match (authority, header) {
        (Some(authority), Some(header)) if !authority.eq_ignore_ascii_case(header) => {
            return Err(Rejection::Host);
        }
        (Some(host), _) | (None, Some(host)) => host,
        (None, None) if request.version() == Version::HTTP_10 => return Ok(None),
        (None, None) => return Err(Rejection::Host),
    };
    if let Some(name) = plain_name(host) {
        return Ok(Some(Cow::Borrowed(name)));
    }
    let authority: Authority = host.parse().map_err(|_invalid| Rejection::Host)?;
    if is_unambiguous(&authority) {
        Ok(Some(Cow::Owned(authority.host().to_ascii_lowercase())))
    } else {
        Err(Rejection::Host)
    }
}

/// Whether all parsers read the same: a name or address, and at most one valid port. User
/// information is not allowed, nor is a comma, which would make two hosts where Host values are
/// joined.
fn is_unambiguous(authority: &Authority) -> bool {
    let (text, host) = (authority.as_str(), authority.host());
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains(','),
    };
    let is_port = match text.strip_prefix(host) {
        Some("") => true,
        Some(port) => port.strip_prefix(':').is_some_and(is_port),
        None => false,
    };
    is_host && is_port
}

/// The fast path: a host name in lower case, with or without a port, as most clients send it.
/// `None` if it has to be parsed.
fn plain_name(host: &str) -> Option<&str> {
    let (name, port) = host.split_once(':').unwrap_or((host, "80"));
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
    (is_port(port) && !name.is_empty() && name.bytes().all(is_plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::header::HOST;
    use proptest::prelude::*;

    use super::{host, plain_name};

    proptest! {
        #[test]
        fn the_fast_path_finds_the_same_host_as_the_parser(name in "[a-z0-9.:-]{0,12}") {
            if let Some(plain) = plain_name(&name) {
                let authority: http::uri::Authority = name.parse().expect("an authority");
                prop_assert_eq!(authority.host(), plain);
            }
        }
    }

    #[test]
    fn valid_hosts_are_normalized_and_ambiguous_ones_are_rejected() {
        for (written, expected) in [
            ("app.example", Some("app.example")),
            ("APP.example:8443", Some("app.example")),
            ("127.0.0.1:80", Some("127.0.0.1")),
            ("[::1]:80", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("app_1.example:65535", Some("app_1.example")),
            ("a:b@app.example", None),
            ("app.example/x", None),
            ("app.example,other", None),
            ("app.example:", None),
            ("APP.example:", None),
            ("app.example:99999", None),
            ("app.example:000080", None),
            ("app.example:+80", None),
            ("app.example:80:80", None),
            ("[::1]:", None),
            ("[::1]x", None),
            ("[a]", None),
            (":80", None),
            ("", None),
        ] {
            let request = Request::get("/").header(HOST, written).body(()).expect("a request");
            let found = host(&request).ok().flatten();
            assert_eq!(found.as_deref(), expected, "{written}");
        }
    }
}
