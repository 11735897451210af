//! The opening handshake of a WebSocket over HTTP/1.1 (RFC 6455, section 4), for clients that open
//! theirs over HTTP/2, where there is none of it (RFC 8441, section 5).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::{HeaderMap, HeaderValue};

/// What a server that speaks WebSocket puts behind the key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A challenge that only a WebSocket server answers.
#[derive(Debug)]
pub(super) struct Challenge {
    key: String,
}

impl Challenge {
    /// A fresh one. It is no secret, only unlike others.
    pub(super) fn new() -> Self {
        let mut nonce = [0; 16];
        fastrand::fill(&mut nonce);
        Self { key: STANDARD.encode(nonce) }
    }

    /// Puts it to the server.
    pub(super) fn ask(&self, headers: &mut HeaderMap) {
        let key = HeaderValue::try_from(&self.key).expect("Base64 is plain text");
        headers.insert(SEC_WEBSOCKET_KEY, key);
    }

    /// Whether the server has answered it.
    pub(super) fn is_met(&self, headers: &HeaderMap) -> bool {
        let answer = headers.get(SEC_WEBSOCKET_ACCEPT);
        answer.is_some_and(|answer| answer.as_bytes() == accept(&self.key).as_bytes())
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
    fn the_example_of_the_standard_is_met() {
        // RFC 6455, section 1.3.
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn only_the_right_answer_meets_a_challenge() {
        let challenge = Challenge::new();
        let mut headers = HeaderMap::new();
        assert!(!challenge.is_met(&headers));
        for (answer, expected) in [(accept(&challenge.key), true), (accept("another"), false)] {
            let answer = HeaderValue::try_from(answer).expect("text");
            headers.insert("sec-websocket-accept", answer);
            assert_eq!(challenge.is_met(&headers), expected);
        }
    }
}
