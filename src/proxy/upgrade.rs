//! A request to speak something else on the connection: `Upgrade` over HTTP/1.1 (RFC 9110, section
//! 7.8), an extended CONNECT over HTTP/2 (RFC 8441). The backend is always asked over HTTP/1.1,
//! also where other requests go to it over HTTP/2.

use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use super::error::Failure;
use super::headers;
use super::websocket::Challenge;

/// What a client wants to speak, and how it is told yes.
#[derive(Debug)]
pub(super) enum Upgrade {
    /// Over HTTP/1.1: its connection becomes what was asked for.
    Http1 { protocols: HeaderValue, client: OnUpgrade },
    /// A WebSocket over HTTP/2: its bytes are the bodies of request and response.
    Http2(Challenge),
}

impl Upgrade {
    /// What this request asks for, if it does.
    ///
    /// Over HTTP/1.1 a request with a body asks for nothing else, whatever its `Upgrade` says: a
    /// server may ignore that field (RFC 9110, section 7.8), and one that switches before it has
    /// read the body would take it for the other protocol. HAProxy does the same.
    ///
    /// Where `is_http2`, which says that the backend speaks HTTP/2, nothing but a WebSocket is asked for:
    /// most such backends speak nothing else on their port, and fail a request that could be answered.
    pub(super) fn asked<B: Body>(request: &mut Request<B>, is_http2: bool) -> Option<Self> {
        if is_extended_connect(request) {
            return Some(Self::Http2(Challenge::new()));
        }
        if !request.body().is_end_stream() {
            return None;
        }
        let protocols = protocols(request.version(), request.headers(), is_http2)?;
        Some(Self::Http1 { protocols, client: hyper::upgrade::on(request) })
    }

    /// Asks the backend. There is no body, and so no length of one: a backend that does not switch
    /// would wait for it, and take the next request for it.
    pub(super) fn ask<B>(&self, request: &mut Request<B>) {
        let protocols = match self {
            Self::Http1 { protocols, .. } => protocols.clone(),
            Self::Http2(challenge) => {
                *request.method_mut() = Method::GET;
                challenge.ask(request.headers_mut());
                HeaderValue::from_static("websocket")
            }
        };
        let headers = request.headers_mut();
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocols);
    }

    /// Checks that the backend has switched to what it was asked for, and makes its response the
    /// client's.
    pub(super) fn agree<B>(&self, response: &mut Response<B>) -> Result<(), Failure> {
        let headers = response.headers_mut();
        let answered = headers.get(UPGRADE).cloned();
        let answered = answered.ok_or(Failure::NoSwitch("it names no protocol"))?;
        headers::remove_hop_by_hop(headers);
        match self {
            Self::Http1 { protocols, .. } => {
                if !tokens(protocols).any(|asked| answered.as_bytes().eq_ignore_ascii_case(asked)) {
                    return Err(Failure::NoSwitch("it switches to another protocol"));
                }
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(UPGRADE, answered);
            }
            Self::Http2(challenge) => {
                if !answered.as_bytes().eq_ignore_ascii_case(b"websocket") {
                    return Err(Failure::NoSwitch("it switches to another protocol"));
                }
                if !challenge.is_met(headers) {
                    return Err(Failure::NoSwitch("its Sec-WebSocket-Accept is wrong"));
                }
                headers.remove(SEC_WEBSOCKET_ACCEPT);
                *response.status_mut() = StatusCode::OK;
            }
        }
        Ok(())
    }
}

/// Whether this is a WebSocket over HTTP/2. Any other CONNECT is refused before it comes here.
pub fn is_extended_connect<B>(request: &Request<B>) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    request.method() == Method::CONNECT && protocol.is_some_and(|p| p.as_str() == "websocket")
}

/// What may be spoken instead; only a WebSocket where `is_http2`. Never `h2c`: a client would speak with
/// the backend over our head.
fn protocols(version: Version, headers: &HeaderMap, is_http2: bool) -> Option<HeaderValue> {
    if version != Version::HTTP_11 || !headers::has_option(headers, "upgrade") {
        return None;
    }
    let asked = headers.get_all(UPGRADE).iter().flat_map(tokens);
    let may_be_asked = |token: &&[u8]| match is_http2 {
        true => token.eq_ignore_ascii_case(b"websocket"),
        false => !token.eq_ignore_ascii_case(b"h2c"),
    };
    let asked: Vec<&[u8]> = asked.filter(may_be_asked).collect();
    if asked.is_empty() { None } else { HeaderValue::from_bytes(&asked.join(&b", "[..])).ok() }
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
    fn h2c_is_never_asked_for() {
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
            let asked = protocols(Version::HTTP_11, &headers, false);
            assert_eq!(asked, expected.map(HeaderValue::from_static), "{connection}: {upgrade}");
            assert_eq!(protocols(Version::HTTP_2, &headers, false), None);
        }
    }

    #[test]
    fn a_backend_over_http2_is_asked_for_websockets_only() {
        for (upgrade, expected) in
            [("foo", None), ("h2c, foo", None), ("TLS/1.0, WebSocket", Some("WebSocket"))]
        {
            let mut headers = HeaderMap::new();
            headers.insert("connection", HeaderValue::from_static("upgrade"));
            headers.insert("upgrade", HeaderValue::from_static(upgrade));
            let asked = protocols(Version::HTTP_11, &headers, true);
            assert_eq!(asked, expected.map(HeaderValue::from_static), "{upgrade}");
        }
    }
}
