//! Requests that two parties could read differently are refused.
//!
//! hyper refuses most of them, and settles what has both lengths or bare line feeds before we see it.

use http::header::{HOST, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, Version};

use super::rejection::Rejection;

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

/// The host that the request is for, without its port, in lower case.
///
/// HTTP/1.1 must name exactly one (RFC 9112, section 3.2); where HTTP/2 has `:authority` and
/// `Host`, they must agree (RFC 9113, section 8.3.1).
pub(super) fn host<B>(request: &Request<B>) -> Result<Option<String>, Rejection> {
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
    let authority: Authority = host.parse().map_err(|_invalid| Rejection::Host)?;
    if host.contains('@') {
        return Err(Rejection::Host);
    }
    Ok(Some(authority.host().to_ascii_lowercase()))
}
