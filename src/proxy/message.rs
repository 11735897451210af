//! Rewrites a client's request for the backend, and a backend's response for the client.
//!
//! Knows headers and targets only; bodies and connections are handled elsewhere in the proxy.

use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body;

use super::error::Failure;
use super::expect::{self, ContinueGate};
use super::forwarded::{self, Peer};
use super::headers;
use super::location::LocationRewriter;
use crate::grip;
use crate::route::ProxySettings;
use crate::server::interim::Interim;
use ssegate_http2::field_value::expects_continue;

/// What the gateway adds to a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct GatewayFields<'a> {
    /// The peer that sent the request, for the forwarded fields; `None`: it is the gateway's own.
    pub(super) peer: Option<Peer<'a>>,
    /// Further fields; each replaces the client's.
    pub(super) fields: &'a [(HeaderName, HeaderValue)],
}

/// What the exchange needs later of a request that was rewritten for the backend.
#[derive(Debug, Default)]
pub(super) struct PreparedRequest {
    /// Holds the body back until 100 (Continue), if the client sent `Expect: 100-continue`.
    pub(super) continue_gate: Option<ContinueGate>,
    /// Rewrites `Location` and its siblings in the response; `None`: they are forwarded unchanged.
    pub(super) rewriter: Option<LocationRewriter>,
}

/// Rewrites a client's request for the backend: removes hop-by-hop fields, adds the forwarded
/// fields and the gateway's own, and sets the target. `scheme` is that of an HTTP/2 upstream;
/// `None`: HTTP/1.1.
///
/// Fields that the client's `Connection` names are removed before the gateway adds its own, so that
/// no client can remove those.
pub(super) fn prepare_request<B: Body>(
    request: &mut Request<B>,
    settings: &ProxySettings,
    gateway_fields: GatewayFields<'_>,
    scheme: Option<Scheme>,
) -> PreparedRequest {
    let is_http1 = scheme.is_none();
    let has_body = !request.body().is_end_stream();
    let version = request.version();
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let headers = request.headers_mut();
    let is_expected = has_body && is_http1 && expects_continue(headers);
    let wants_trailers = headers::accepts_trailers(headers);
    headers::remove_hop_by_hop(headers);
    headers::join_cookies(headers);
    if let Some(host) = authority.and_then(|host| HeaderValue::try_from(host).ok()) {
        headers.insert(HOST, host);
    }
    if let Some(peer) = gateway_fields.peer {
        forwarded::set_forwarded(headers, peer);
    }
    for (name, value) in gateway_fields.fields {
        headers.insert(name, value.clone());
    }
    forwarded::append_via(headers, version);
    if let Some(host) = &settings.host {
        headers.insert(HOST, host.clone());
    } else if !headers.contains_key(HOST) {
        // A client's HTTP/1.0 request may lack Host; the HTTP/1.1 request must have it (RFC 9112,
        // section 3.2).
        headers.insert(HOST, upstream_host(settings));
    }
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if is_http1 {
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
    }
    if !is_expected {
        headers.remove(EXPECT);
    }
    // Without this hyper sends no body with a GET.
    if has_body && is_http1 && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let peer = gateway_fields.peer.filter(|_| settings.rewrites_location);
    let rewriter = peer.map(|peer| LocationRewriter::for_request(request, peer.is_tls));
    set_target(request, scheme);
    PreparedRequest {
        continue_gate: is_expected.then(|| expect::continue_gate(request)),
        rewriter: rewriter.flatten(),
    }
}

/// The `Host` of a request that came without one: the authority of the first upstream.
fn upstream_host(settings: &ProxySettings) -> HeaderValue {
    let authority = settings.upstreams[0].authority();
    HeaderValue::try_from(authority).unwrap_or(HeaderValue::from_static("localhost"))
}

/// Forwards an interim (1xx) response, without hop-by-hop and GRIP fields, and without
/// `Content-Length`, which a 1xx response must not have (RFC 9110, section 8.6).
pub(super) fn forward_interim(to: &Interim, status: StatusCode, mut headers: HeaderMap) {
    headers::remove_hop_by_hop(&mut headers);
    headers::remove(&mut headers, |name| *name == CONTENT_LENGTH || grip::is_grip(name));
    to.send(status, headers);
}

/// Rewrites a backend's response for the client. Returns how long the backend keeps an idle
/// connection open, if its `Keep-Alive` field says so.
///
/// # Errors
/// The response has a transfer coding other than chunked.
pub(super) fn prepare_response<B>(response: &mut Response<B>) -> Result<Option<Duration>, Failure> {
    // The version is that of the backend's connection; the client's is set by the server.
    *response.version_mut() = Version::HTTP_11;
    let is_without_body = response.status() == StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let is_chunked = is_chunked(headers)?;
    // Transfer-Encoding overrides Content-Length, and both together look like request smuggling
    // (RFC 9112, section 6.3). A 204 has no Content-Length (RFC 9110, section 8.6).
    if is_chunked || is_without_body {
        headers.remove(CONTENT_LENGTH);
    } else {
        normalize_content_length(headers);
    }
    let keep_alive = keep_alive(headers);
    headers::remove_hop_by_hop(headers);
    Ok(keep_alive)
}

/// Whether the body has the chunked transfer coding.
///
/// # Errors
/// It has another coding, which would have to be decoded, or several, in one field or in many (RFC
/// 9110, section 5.3).
fn is_chunked(headers: &HeaderMap) -> Result<bool, Failure> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(Failure::TransferCoding),
    }
}

/// Reduces `Content-Length` to one valid value: repeated equal values become one, and an invalid or
/// ambiguous one is removed (RFC 9110, section 8.6). hyper validates it only where there is a body.
fn normalize_content_length(headers: &mut HeaderMap) {
    let mut fields = headers.get_all(CONTENT_LENGTH).iter();
    let is_settled = match (fields.next(), fields.next()) {
        (None, _) => true,
        (Some(only), None) => parse_number(only.as_bytes()).is_some(),
        (Some(_), Some(_)) => false,
    };
    if is_settled {
        return;
    }
    let fields = headers.get_all(CONTENT_LENGTH).iter();
    let mut lengths =
        fields.flat_map(|field| field.as_bytes().split(|&b| b == b',')).map(parse_number);
    let first = lengths.next().flatten();
    match first.filter(|_| lengths.all(|length| length == first)) {
        Some(length) => drop(headers.insert(CONTENT_LENGTH, length.into())),
        None => drop(headers.remove(CONTENT_LENGTH)),
    }
}

/// A number of ASCII digits, with optional whitespace around them.
fn parse_number(text: &[u8]) -> Option<u64> {
    let digits = text.trim_ascii();
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if is_number { str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

/// Sets the request target. The path is forwarded byte for byte: as `origin-form` over HTTP/1.1
/// (RFC 9112, section 3.2.1), as `:path` over HTTP/2, where `Host` becomes `:authority` and
/// `:scheme` is set.
fn set_target<B>(request: &mut Request<B>, scheme: Option<Scheme>) {
    let path = request.uri().path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    if scheme.is_none() {
        *request.uri_mut() = Uri::from(path);
        *request.version_mut() = Version::HTTP_11;
        return;
    }
    let host = request.headers_mut().remove(HOST);
    let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = http::uri::Parts::default();
    parts.scheme = scheme;
    parts.authority = Some(host.unwrap_or_else(|| Authority::from_static("localhost")));
    parts.path_and_query = Some(path);
    *request.uri_mut() = Uri::from_parts(parts).expect("scheme, authority and path make a URI");
    *request.version_mut() = Version::HTTP_2;
}

/// The `timeout` of `Keep-Alive`, less one second: a request sent just as the backend closes the
/// idle connection would be lost. Node sends 5 seconds.
fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let mut parameters = value.split(',').filter_map(|parameter| parameter.split_once('='));
    let (_, timeout) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))?;
    let timeout = Duration::from_secs(timeout.trim().parse().ok()?);
    Some(timeout.saturating_sub(Duration::from_secs(1)))
}
