//! The `Sec-WebSocket-Key` handshake with the backend (RFC 6455, section 4), on behalf of clients
//! that open a WebSocket over HTTP/2, which has no such handshake (RFC 8441, section 5).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::{HeaderMap, HeaderValue};

/// Appended to the key before it is hashed (RFC 6455, section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A random key to which only a WebSocket server knows the response.
#[derive(Debug)]
pub(super) struct Challenge {
    key: String,
}

impl Challenge {
    /// A new random key. It need not be secret, only unpredictable enough to differ from others.
    pub(super) fn new() -> Self {
        let mut nonce = [0; 16];
        fastrand::fill(&mut nonce);
        Self { key: STANDARD.encode(nonce) }
    }

    /// Adds `Sec-WebSocket-Key` to a request.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        let key = HeaderValue::try_from(&self.key).expect("Base64 is ASCII");
        headers.insert(SEC_WEBSOCKET_KEY, key);
    }

    /// Whether the `Sec-WebSocket-Accept` of the response matches the key.
    pub(super) fn is_met(&self, headers: &HeaderMap) -> bool {
        let accepted = headers.get(SEC_WEBSOCKET_ACCEPT);
        accepted.is_some_and(|value| value.as_bytes() == accept(&self.key).as_bytes())
    }
}

fn accept(key: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{Challenge, accept};

    #[test]
    fn the_example_of_the_rfc_is_reproduced() {
        // RFC 6455, section 1.3.
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn only_the_right_accept_value_matches() {
        let challenge = Challenge::new();
        let mut headers = HeaderMap::new();
        assert!(!challenge.is_met(&headers));
        for (value, expected) in [(accept(&challenge.key), true), (accept("another"), false)] {
            let value = HeaderValue::try_from(value).expect("text");
            headers.insert("sec-websocket-accept", value);
            assert_eq!(challenge.is_met(&headers), expected);
        }
    }
}
