//! A client's request made ours, and a backend's response.

use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body;

use super::error::Failure;
use super::expect::{self, Hold};
use super::forwarded::{self, Sender};
use super::headers;
use super::location::Asked;
use crate::grip;
use crate::route::ProxySettings;
use crate::server::interim::Interim;
use crate::server::request_body::expects_continue;

/// What the gateway itself says in a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ours<'a> {
    /// Where the request comes from.
    pub(super) sender: Sender<'a>,
    /// Further fields, each in place of the client's.
    pub(super) fields: &'a [(HeaderName, HeaderValue)],
}

/// What is kept of a request that goes to a backend.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Holds the body back, where the client waits for the backend's word.
    pub(super) hold: Option<Hold>,
    /// By which the addresses in the response are judged; `None`: they stay as they are.
    pub(super) asked: Option<Asked>,
}

/// Makes a client's request one of ours: its own connection's headers go, and where it came from is
/// told by us. `scheme` is that of an HTTP/2 upstream; `None`: HTTP/1.1 is spoken.
///
/// The fields that the client's `Connection` names are removed before any of ours is added, so that
/// no client can remove those.
pub(super) fn outgoing<B: Body>(
    request: &mut Request<B>,
    settings: &ProxySettings,
    ours: Ours<'_>,
    scheme: Option<Scheme>,
) -> Outgoing {
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
    for (name, value) in ours.fields {
        headers.insert(name, value.clone());
    }
    forwarded::tell(headers, ours.sender);
    forwarded::tell_via(headers, version);
    if let Some(host) = &settings.host {
        headers.insert(HOST, host.clone());
    } else if !headers.contains_key(HOST) {
        // HTTP/1.0 needs no host, and HTTP/1.1 does (RFC 9112, section 3.2).
        headers.insert(HOST, own_host(settings));
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
    // hyper would take the body of a GET for none, unless it is told.
    if has_body && is_http1 && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let asked = settings.rewrites_location.then(|| Asked::by(request, ours.sender.is_tls));
    address(request, scheme);
    Outgoing { hold: is_expected.then(|| expect::hold(request)), asked: asked.flatten() }
}

/// What a backend is called by a client that does not name it.
fn own_host(settings: &ProxySettings) -> HeaderValue {
    let authority = settings.upstreams[0].authority();
    HeaderValue::try_from(authority).unwrap_or(HeaderValue::from_static("localhost"))
}

/// Passes on what came before a response, without what concerns the backend's connection or us, and
/// without a length: an interim response has none (RFC 9110, section 8.6).
pub(super) fn pass_on_interim(to: &Interim, status: StatusCode, mut headers: HeaderMap) {
    headers::remove_hop_by_hop(&mut headers);
    headers::remove(&mut headers, |name| *name == CONTENT_LENGTH || grip::is_grip(name));
    to.send(status, headers);
}

/// Makes a backend's response one of ours. Gives how long the backend keeps the connection, where it
/// says so.
pub(super) fn incoming<B>(response: &mut Response<B>) -> Result<Option<Duration>, Failure> {
    // Of the backend's connection; what is spoken on the client's is another matter.
    *response.version_mut() = Version::HTTP_11;
    let is_without_body = response.status() == StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let is_chunked = is_chunked(headers)?;
    // The chunks say where the body ends, and a length beside them would say something else (RFC
    // 9112, section 6.3). A 204 has none (RFC 9110, section 8.6).
    if is_chunked || is_without_body {
        headers.remove(CONTENT_LENGTH);
    } else {
        settle_length(headers);
    }
    let keep_alive = keep_alive(headers);
    headers::remove_hop_by_hop(headers);
    Ok(keep_alive)
}

/// Whether the body comes in chunks.
///
/// # Errors
/// It has another coding, which would have to be undone, or several: in one field or in many (RFC 9110,
/// section 5.3).
fn is_chunked(headers: &HeaderMap) -> Result<bool, Failure> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(Failure::TransferCoding),
    }
}

/// Leaves one length where a backend announces one; several that agree are one. What is none is not
/// passed on (RFC 9110, section 8.6): hyper looks at it only where there is a body.
fn settle_length(headers: &mut HeaderMap) {
    let mut fields = headers.get_all(CONTENT_LENGTH).iter();
    let is_settled = match (fields.next(), fields.next()) {
        (None, _) => true,
        (Some(only), None) => number(only.as_bytes()).is_some(),
        (Some(_), Some(_)) => false,
    };
    if is_settled {
        return;
    }
    let fields = headers.get_all(CONTENT_LENGTH).iter();
    let mut lengths = fields.flat_map(|field| field.as_bytes().split(|&b| b == b',')).map(number);
    let first = lengths.next().flatten();
    match first.filter(|_| lengths.all(|length| length == first)) {
        Some(length) => drop(headers.insert(CONTENT_LENGTH, length.into())),
        None => drop(headers.remove(CONTENT_LENGTH)),
    }
}

/// Digits, and nothing else but the space around them.
fn number(text: &[u8]) -> Option<u64> {
    let digits = text.trim_ascii();
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if is_number { str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

/// Addresses the request to its backend. The bytes of the path go on as they came: as `origin-form`
/// over HTTP/1.1 (RFC 9112, section 3.2.1), as `:path` over HTTP/2, where `Host` is `:authority` and
/// there is a scheme.
fn address<B>(request: &mut Request<B>, scheme: Option<Scheme>) {
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

/// How long the backend keeps the connection, and a second less: a request that is sent as it closes
/// would be lost. Node says 5 seconds.
fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let mut parameters = value.split(',').filter_map(|parameter| parameter.split_once('='));
    let (_, timeout) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))?;
    let timeout = Duration::from_secs(timeout.trim().parse().ok()?);
    Some(timeout.saturating_sub(Duration::from_secs(1)))
}
