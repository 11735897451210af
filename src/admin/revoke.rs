//! `POST /revoke`: ends the streams of a user, a token, a session, a channel, or all.
//!
//! The body is JSON: exactly one of `sub`, `token`, `sid`, `channel` and `all: true`, with `sub` perhaps
//! `block: true`. Its type must be `application/json`, which no form of a foreign page can send, and a page's
//! script only after a preflight, which the admin listener refuses.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use serde_json::{Map, Value, json};
use ssegate_auth::revocation::{MAX_MESSAGE_BYTES, Revocation, RevocationTarget};
use tokio::time::timeout;

use super::{text, with_type};
use crate::auth::{RevocationOrigin, SharedAuth};
use crate::source::control::ControlPublisher;

/// How long the body of a request may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

const KEYS: [&str; 6] = ["sub", "block", "token", "sid", "channel", "all"];

const EXPECTED: &str = "400 Bad Request: send JSON with one of sub, token, sid, channel and all, such as \
                        {\"sub\": \"42\"}, {\"sub\": \"42\", \"block\": true} or {\"all\": true}\n";

/// What the admin listener needs to revoke.
#[derive(Clone, Debug)]
pub struct Revoking {
    auth: SharedAuth,
    // `None`: there are no other gateways to tell.
    publisher: Option<ControlPublisher>,
    remember: Duration,
}

impl Revoking {
    /// Remembers revocations for `remember`, and tells other gateways through `publisher`.
    pub fn new(auth: SharedAuth, publisher: Option<ControlPublisher>, remember: Duration) -> Self {
        Self { auth, publisher, remember }
    }

    /// Revokes here, then publishes to the other gateways. Responds with the number of streams that ended here and of
    /// gateways that received it, or with the reason why it could not be published.
    async fn revoke(&self, target: RevocationTarget) -> Response<Full<Bytes>> {
        let Ok(revocation) = Revocation::new(target, SystemTime::now(), self.remember) else {
            return text(StatusCode::BAD_REQUEST, EXPECTED);
        };
        tracing::info!(nonce = revocation.nonce(), "revoked on the admin listener");
        let streams = self.auth.revoke(revocation.clone(), RevocationOrigin::Admin).await;
        let ended = match streams {
            Some(streams) => streams.count().await,
            None => 0,
        };
        let Some(publisher) = &self.publisher else {
            return json(StatusCode::OK, &json!({"ended": ended}));
        };
        let not_stored = match publisher.publish(&revocation).await {
            Ok(published) => match published.not_stored {
                None => {
                    let told = published.gateways;
                    return json(StatusCode::OK, &json!({"ended": ended, "gateways": told}));
                }
                Some(error) => error,
            },
            Err(error) => error,
        };
        tracing::error!(error = not_stored, "a revocation may not have reached the other gateways");
        json(StatusCode::BAD_GATEWAY, &json!({"ended": ended, "error": not_stored}))
    }
}

/// Responds to a request for `/revoke`, whose `Host` and `Origin` are allowed.
pub(super) async fn respond(
    revoking: Option<&Revoking>,
    request: Request<hyper::body::Incoming>,
) -> Response<Full<Bytes>> {
    let Some(revoking) = revoking else {
        const ERROR: &str = "404 Not Found: add `revocation: {}` to gateway.yaml to revoke\n";
        return text(StatusCode::NOT_FOUND, ERROR);
    };
    if request.method() != Method::POST {
        let mut response =
            text(StatusCode::METHOD_NOT_ALLOWED, "405 Method Not Allowed: use POST\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    if !is_json(request.headers().get(CONTENT_TYPE)) {
        const ERROR: &str =
            "415 Unsupported Media Type: send JSON, with Content-Type: application/json\n";
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, ERROR);
    }
    let body = Limited::new(request.into_body(), MAX_MESSAGE_BYTES).collect();
    let target = match timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => target(&body.to_bytes()),
        // Too long, broken off, or too slow.
        Ok(Err(_)) | Err(_) => None,
    };
    match target {
        Some(target) => revoking.revoke(target).await,
        None => text(StatusCode::BAD_REQUEST, EXPECTED),
    }
}

fn is_json(kind: Option<&HeaderValue>) -> bool {
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

fn target(body: &[u8]) -> Option<RevocationTarget> {
    let members: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let is_known = members.keys().all(|key| KEYS.contains(&key.as_str()));
    // A misspelt key must not be ignored: without `block`, for example, less would be revoked than was meant.
    RevocationTarget::from_claims(&members).ok().filter(|_| is_known)
}

fn json(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    with_type(status, "application/json", format!("{value}\n"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use ssegate_auth::revocation::RevocationTarget;

    use super::{is_json, target};

    #[test]
    fn a_body_names_one_target_and_nothing_else() {
        let subject = |is_blocked| RevocationTarget::Subject { id: "42".into(), is_blocked };
        for (body, expected) in [
            (r#"{"sub":"42"}"#, Some(subject(false))),
            (r#"{"sub":42,"block":false}"#, Some(subject(false))),
            (r#" {"block":true,"sub":"42"} "#, Some(subject(true))),
            (r#"{"token":"t"}"#, Some(RevocationTarget::Token("t".into()))),
            (r#"{"sid":"s"}"#, Some(RevocationTarget::Session("s".into()))),
            (r#"{"channel":"c"}"#, Some(RevocationTarget::Channel("c".into()))),
            (r#"{"all":true}"#, Some(RevocationTarget::All)),
            (r#"{"all":false}"#, None),
            (r#"{"sub":"42","blocked":true}"#, None),
            (r#"{"sub":"42","token":"t"}"#, None),
            (r#"{"token":"t","block":true}"#, None),
            (r#"{"sub":["42"]}"#, None),
            (r#"["sub","42"]"#, None),
            ("sub=42", None),
            ("{}", None),
            ("", None),
        ] {
            assert_eq!(target(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn only_the_type_that_no_form_can_send_is_json() {
        for (kind, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/plain", false),
            ("text/plain; application/json", false),
            ("application/x-www-form-urlencoded", false),
            ("application/jsonp", false),
            ("", false),
        ] {
            let kind = HeaderValue::from_static(kind);
            assert_eq!(is_json(Some(&kind)), expected, "{kind:?}");
        }
        assert!(!is_json(None));
    }
}
