//! Requests that two parties could read differently are refused.
//!
//! hyper refuses most of them, and settles what has both lengths or bare line feeds before we see it.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Version};

use super::rejection::Rejection;
use crate::server::http2::authority::is_port;

/// One transfer coding, `chunked`, or none (RFC 9112, section 6.1). hyper takes it as chunked where
/// that is the last one; a backend that knows the others would read another body.
pub(super) fn transfer_coding(headers: &HeaderMap) -> Result<(), Rejection> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes);
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Rejection::TransferCoding),
    }
}

/// A CONNECT has no body, and so announces none: what follows it goes through the tunnel (RFC 9110,
/// section 9.3.6; RFC 8441, section 4). A backend that is asked for the tunnel with a GET would wait
/// for a body of that length, and take the next request for it.
pub(super) fn tunnel<B>(request: &Request<B>) -> Result<(), Rejection> {
    let has_length = request.headers().contains_key(CONTENT_LENGTH);
    if request.method() == Method::CONNECT && has_length {
        return Err(Rejection::TunnelLength);
    }
    Ok(())
}

/// A scheme that we serve, where the request names one: `:scheme`, or an absolute target.
pub(super) fn scheme<B>(request: &Request<B>) -> Result<(), Rejection> {
    let is_served = |scheme: &str| {
        ["http", "https"].into_iter().any(|served| scheme.eq_ignore_ascii_case(served))
    };
    if request.uri().scheme_str().is_none_or(is_served) { Ok(()) } else { Err(Rejection::Scheme) }
}

/// The host that the request is for, without its port, in lower case.
///
/// HTTP/1.1 must name exactly one (RFC 9112, section 3.2); where HTTP/2 has `:authority` and
/// `Host`, they must agree (RFC 9113, section 8.3.1).
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
    if is_unequivocal(&authority) {
        Ok(Some(Cow::Owned(authority.host().to_ascii_lowercase())))
    } else {
        Err(Rejection::Host)
    }
}

/// Whether everybody reads the same in it: one name or address, and a port that is one or none. A
/// user is nobody's host, and a comma would make two of one where hosts are listed.
fn is_unequivocal(authority: &Authority) -> bool {
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

/// The name of a host as most clients write it, in lower case and perhaps with a port: there is
/// nothing to be read in it. `None`: it must be looked at closely.
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
        fn a_plain_name_is_what_a_close_look_finds(name in "[a-z0-9.:-]{0,12}") {
            if let Some(plain) = plain_name(&name) {
                let authority: http::uri::Authority = name.parse().expect("an authority");
                prop_assert_eq!(authority.host(), plain);
            }
        }
    }

    #[test]
    fn a_host_is_found_however_it_is_written() {
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
