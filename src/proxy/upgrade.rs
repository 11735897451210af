//! Protocol upgrades: `Upgrade` over HTTP/1.1 (RFC 9110, section 7.8), and extended CONNECT over
//! HTTP/2 (RFC 8441).
//!
//! The request goes to the backend over HTTP/1.1 in either case, even on a route with `http2:
//! true`. Does not know the tunnel that follows.

use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::upgrade::OnUpgrade;
use ssegate_http2::ConnectProtocol;

use super::error::Failure;
use super::headers;
use super::websocket::Challenge;

/// A client's upgrade request.
#[derive(Debug)]
pub(super) enum Upgrade {
    /// Over HTTP/1.1: the connection itself switches protocols.
    Http1 { protocols: HeaderValue, client: OnUpgrade },
    /// A WebSocket over HTTP/2: the bodies of request and response carry its bytes.
    Http2(Challenge),
}

impl Upgrade {
    /// The upgrade that this request asks for, if any.
    ///
    /// Over HTTP/1.1 `Upgrade` is ignored on a request with a body, as RFC 9110, section 7.8,
    /// allows: a backend that switched before it has read the body would read it as the new
    /// protocol. HAProxy does the same.
    ///
    /// `is_http2`, the backend speaks HTTP/2: only a WebSocket is forwarded as an upgrade. Most
    /// such backends accept only HTTP/2 on their port, and would fail a request that they can serve
    /// without the upgrade.
    pub(super) fn requested<B: Body>(request: &mut Request<B>, is_http2: bool) -> Option<Self> {
        if is_extended_connect(request) {
            return Some(Self::Http2(Challenge::new()));
        }
        if !request.body().is_end_stream() {
            return None;
        }
        let protocols = protocols(request.version(), request.headers(), is_http2)?;
        Some(Self::Http1 { protocols, client: hyper::upgrade::on(request) })
    }

    /// Makes the request an HTTP/1.1 upgrade request. It has no body, so `Content-Length` is
    /// removed: a backend that does not switch would otherwise read the next request as the body.
    pub(super) fn apply_to<B>(&self, request: &mut Request<B>) {
        let protocols = match self {
            Self::Http1 { protocols, .. } => protocols.clone(),
            Self::Http2(challenge) => {
                *request.method_mut() = Method::GET;
                challenge.add_to(request.headers_mut());
                HeaderValue::from_static("websocket")
            }
        };
        let headers = request.headers_mut();
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocols);
    }

    /// Checks that the backend has switched to a requested protocol, and rewrites its response for
    /// the client.
    ///
    /// # Errors
    /// It switched to another protocol, or failed the WebSocket handshake.
    pub(super) fn accept<B>(&self, response: &mut Response<B>) -> Result<(), Failure> {
        let headers = response.headers_mut();
        let accepted = headers.get(UPGRADE).cloned();
        let accepted = accepted.ok_or(Failure::NoSwitch("its 101 response has no Upgrade"))?;
        headers::remove_hop_by_hop(headers);
        match self {
            Self::Http1 { protocols, .. } => {
                if !tokens(protocols)
                    .any(|requested| accepted.as_bytes().eq_ignore_ascii_case(requested))
                {
                    return Err(Failure::NoSwitch("it switched to another protocol"));
                }
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(UPGRADE, accepted);
            }
            Self::Http2(challenge) => {
                if !accepted.as_bytes().eq_ignore_ascii_case(b"websocket") {
                    return Err(Failure::NoSwitch("it switched to another protocol"));
                }
                if !challenge.is_met(headers) {
                    return Err(Failure::NoSwitch("wrong or missing Sec-WebSocket-Accept"));
                }
                headers.remove(SEC_WEBSOCKET_ACCEPT);
                *response.status_mut() = StatusCode::OK;
            }
        }
        Ok(())
    }
}

/// Whether this is an extended CONNECT for a WebSocket (RFC 8441). Any other CONNECT is rejected
/// before.
pub fn is_extended_connect<B>(request: &Request<B>) -> bool {
    let protocol = request.extensions().get::<ConnectProtocol>();
    request.method() == Method::CONNECT && protocol.is_some_and(|p| p.as_str() == "websocket")
}

/// The requested protocols that are forwarded; with `is_http2` only `websocket`. Never `h2c`: the
/// client could then send requests to the backend that bypass the gateway (request smuggling).
fn protocols(version: Version, headers: &HeaderMap, is_http2: bool) -> Option<HeaderValue> {
    if version != Version::HTTP_11 || !headers::has_option(headers, "upgrade") {
        return None;
    }
    let requested = headers.get_all(UPGRADE).iter().flat_map(tokens);
    let is_forwarded = |token: &&[u8]| match is_http2 {
        true => token.eq_ignore_ascii_case(b"websocket"),
        false => !token.eq_ignore_ascii_case(b"h2c"),
    };
    let requested: Vec<&[u8]> = requested.filter(is_forwarded).collect();
    if requested.is_empty() {
        None
    } else {
        HeaderValue::from_bytes(&requested.join(&b", "[..])).ok()
    }
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let tokens = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    tokens.filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Version};

    use super::protocols;

    #[test]
    fn h2c_is_never_forwarded() {
        for (connection, upgrade, expected) in [
            ("Upgrade", "websocket", Some("websocket")),
            ("keep-alive, upgrade", "h2c, WebSocket", Some("WebSocket")),
            ("Upgrade, HTTP2-Settings", "h2c", None),
            ("keep-alive", "websocket", None),
            ("upgrade", "", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("connection", HeaderValue::from_static(connection));
            headers.insert("upgrade", HeaderValue::from_static(upgrade));
            let requested = protocols(Version::HTTP_11, &headers, false);
            assert_eq!(
                requested,
                expected.map(HeaderValue::from_static),
                "{connection}: {upgrade}"
            );
            assert_eq!(protocols(Version::HTTP_2, &headers, false), None);
        }
    }

    #[test]
    fn only_websocket_is_forwarded_to_an_http2_backend() {
        for (upgrade, expected) in
            [("foo", None), ("h2c, foo", None), ("TLS/1.0, WebSocket", Some("WebSocket"))]
        {
            let mut headers = HeaderMap::new();
            headers.insert("connection", HeaderValue::from_static("upgrade"));
            headers.insert("upgrade", HeaderValue::from_static(upgrade));
            let requested = protocols(Version::HTTP_11, &headers, true);
            assert_eq!(requested, expected.map(HeaderValue::from_static), "{upgrade}");
        }
    }
}
