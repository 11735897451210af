//! The method `forward`: a backend decides, asked with the credentials of the request.
//!
//! What is asked ([`question`]) and what the verdict means ([`access`]) is here; who sends it is the business
//! of the caller ([`AskBackend`]), which has the connections.

use std::sync::Arc;

use http::header::{ACCEPT, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE, ORIGIN, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use ssegate_auth::signed_url::LAST_EVENT_ID_KEYS;
use ssegate_auth::{Identity, Refusal};

use super::access::{Access, Denial};
use super::request::AuthRequest;
use super::settings::ForwardAuth;
use super::verdict::Verdict;

/// The header fields of a request that its question carries: its credentials, and what applications check
/// beside them. No other field may decide, since a verdict is used for all requests with the same ones.
const CARRIED: [HeaderName; 10] = [
    COOKIE,
    AUTHORIZATION,
    ACCEPT,
    ACCEPT_LANGUAGE,
    ORIGIN,
    REFERER,
    USER_AGENT,
    HeaderName::from_static("x-csrf-token"),
    HeaderName::from_static("x-requested-with"),
    HeaderName::from_static("x-xsrf-token"),
];

/// Sends questions to auth backends.
pub trait AskBackend {
    /// Asks whether a request is allowed.
    fn ask(
        &self,
        backend: &Arc<ForwardAuth>,
        request: AuthRequest<'_>,
    ) -> impl Future<Output = Verdict>;
}

/// Asks nobody: for listeners whose `auth` cannot have a backend.
#[derive(Clone, Copy, Debug)]
pub struct NoBackends;

impl AskBackend for NoBackends {
    async fn ask(&self, _: &Arc<ForwardAuth>, _: AuthRequest<'_>) -> Verdict {
        Verdict::NotNow("no auth backend can be asked here")
    }
}

/// The header fields of the question whether `request` is allowed. `target` is its target for the backend:
/// that of the request without the tokens of other methods, and without the id of a last event, which decides
/// nothing.
pub fn question(request: AuthRequest<'_>, target: &Uri) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for name in CARRIED {
        for value in request.headers.get_all(&name) {
            fields.append(&name, value.clone());
        }
    }
    let target = without_last_event_id(target);
    let method = request.method.as_str();
    // The names of nginx and of Traefik and Caddy.
    for (name, value) in [
        ("x-original-method", method),
        ("x-original-uri", &target),
        ("x-forwarded-method", method),
        ("x-forwarded-uri", &target),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            fields.insert(HeaderName::from_static(name), value);
        }
    }
    fields
}

fn without_last_event_id(target: &Uri) -> String {
    let path = target.path();
    let is_kept = |part: &&str| {
        let key = part.split_once('=').map_or(*part, |(key, _)| key);
        let key = percent_decode_str(key).decode_utf8_lossy();
        !LAST_EVENT_ID_KEYS.contains(&&*key)
    };
    let query: Vec<&str> = target.query().unwrap_or_default().split('&').filter(is_kept).collect();
    match query.join("&") {
        query if query.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// What a verdict means for a request.
///
/// # Errors
/// The backend refuses, or has not decided.
pub(super) fn access(
    backend: &Arc<ForwardAuth>,
    verdict: Verdict,
    request: AuthRequest<'_>,
) -> Result<Access, Denial> {
    let fields = match verdict {
        Verdict::Allowed(fields) => fields,
        Verdict::Refused(response) if response.status.is_redirection() && is_stream(request) => {
            // A client of a stream would follow it, and take the login page for the stream.
            return Err(Denial::Refused(Refusal::Missing));
        }
        Verdict::Refused(response) => return Err(Denial::Response(response)),
        Verdict::NotNow(why) => return Err(Denial::NotNow(why)),
    };
    let mut identity = Identity::default();
    for name in &backend.copy_headers {
        let value = fields.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
        if let Some(value) = value {
            identity.attributes.insert(name.as_str().to_owned(), value.to_owned());
        }
    }
    let id = backend.id.as_ref().and_then(|name| identity.attributes.get(name.as_str()));
    identity.id = id.filter(|id| !id.is_empty()).cloned();
    let forwards = vec![Arc::clone(backend)];
    Ok(Access { identity, ends: None, is_ambient: is_ambient(request.headers), forwards })
}

/// Whether a browser may have added a credential by itself: a cookie, or a password that it knows.
fn is_ambient(headers: &HeaderMap) -> bool {
    let is_bearer = |value: &HeaderValue| {
        let scheme = value.as_bytes().split(|&byte| byte == b' ').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"bearer")
    };
    headers.contains_key(COOKIE) || !headers.get_all(AUTHORIZATION).iter().all(is_bearer)
}

fn is_stream(request: AuthRequest<'_>) -> bool {
    request.headers.get_all(ACCEPT).iter().any(|accept| {
        let mut ranges = accept.as_bytes().split(|&byte| byte == b',');
        ranges
            .any(|range| range.trim_ascii().to_ascii_lowercase().starts_with(b"text/event-stream"))
    })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::{is_ambient, question};
    use crate::auth::AuthRequest;

    #[test]
    fn a_question_carries_the_credentials_and_where_the_request_goes() {
        let request = Request::post("/events?channel=a&lastEventId=7&Last%2dEvent-ID=8&x=%20")
            .header("cookie", "session=1")
            .header("authorization", "Bearer t")
            .header("content-length", "5")
            .header("last-event-id", "7")
            .header("x-original-uri", "/elsewhere")
            .body(())
            .expect("a request");
        let fields = question(AuthRequest::new(&request), request.uri());
        let of = |name: &str| fields.get(name).map(|value| value.to_str().expect("text"));
        assert_eq!(of("cookie"), Some("session=1"));
        assert_eq!(of("authorization"), Some("Bearer t"));
        assert_eq!(of("x-original-uri"), Some("/events?channel=a&x=%20"));
        assert_eq!(of("x-forwarded-uri"), Some("/events?channel=a&x=%20"));
        assert_eq!(of("x-forwarded-method"), Some("POST"));
        assert_eq!(fields.len(), 6, "{fields:?}");
    }

    #[test]
    fn a_browser_adds_cookies_and_passwords_by_itself() {
        for (fields, expected) in [
            (&[][..], false),
            (&[("cookie", "a=b")], true),
            (&[("authorization", "Basic eDp5")], true),
            (&[("authorization", "bearer t")], false),
            (&[("authorization", "Bearer t"), ("cookie", "a=b")], true),
        ] {
            let mut request = Request::get("/");
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let request = request.body(()).expect("a request");
            assert_eq!(is_ambient(request.headers()), expected, "{fields:?}");
        }
    }
}
