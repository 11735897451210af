//! The method `forward`: a backend decides, asked with the credentials of the request.
//!
//! What is asked ([`question`]) and what the verdict means ([`access`]) is here; who sends it is the business
//! of the caller ([`AskBackend`]), which has the connections.

use std::sync::Arc;

use http::header::{
    ACCEPT, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE, FORWARDED, ORIGIN, REFERER, USER_AGENT,
};
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

/// What trusted proxies say of the client. They decide, too: an application may allow a network, or demand
/// https.
const FORWARDED_BY_PROXIES: [HeaderName; 5] = [
    FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];

/// The header fields of the question whether `request` is allowed. `is_from_proxy`: a trusted proxy has sent it.
pub fn question(request: AuthRequest<'_>, is_from_proxy: bool) -> HeaderMap {
    let mut fields = HeaderMap::new();
    let by_proxies = FORWARDED_BY_PROXIES.into_iter().filter(|_| is_from_proxy);
    for name in CARRIED.into_iter().chain(by_proxies) {
        for value in request.headers.get_all(&name) {
            fields.append(&name, value.clone());
        }
    }
    fields
}

/// The header fields of the question that say what it is about, under the names of nginx and of Traefik and
/// Caddy. `target` is that of the request without the tokens of other methods; the id of a last event, which
/// decides nothing, is left out. `None` if a header field cannot hold it.
pub fn subject(request: AuthRequest<'_>, target: &Uri) -> Option<[(HeaderName, HeaderValue); 4]> {
    let method = HeaderValue::from_str(request.method.as_str()).ok()?;
    // A target may have bytes beyond ASCII.
    let target = HeaderValue::from_bytes(without_last_event_id(target).as_bytes()).ok()?;
    Some([
        (HeaderName::from_static("x-original-method"), method.clone()),
        (HeaderName::from_static("x-original-uri"), target.clone()),
        (HeaderName::from_static("x-forwarded-method"), method),
        (HeaderName::from_static("x-forwarded-uri"), target),
    ])
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
        Verdict::Refused(response) if response.status.is_redirection() && request.is_stream => {
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

#[cfg(test)]
mod tests {
    use http::Request;

    use super::{is_ambient, question, subject};
    use crate::auth::AuthRequest;

    #[test]
    fn a_question_carries_the_credentials_and_where_the_request_goes() {
        let request = Request::post("/events?channel=a&lastEventId=7&Last%2dEvent-ID=8&x=%20")
            .header("cookie", "session=1")
            .header("authorization", "Bearer t")
            .header("content-length", "5")
            .header("last-event-id", "7")
            .header("x-original-uri", "/elsewhere")
            .header("x-forwarded-for", "192.0.2.7")
            .body(())
            .expect("a request");
        let seen = AuthRequest::new(&request);
        let names = |is_from_proxy| {
            let fields = question(seen, is_from_proxy);
            let mut names: Vec<_> = fields.keys().map(|name| name.as_str().to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(names(false), ["authorization", "cookie"]);
        assert_eq!(names(true), ["authorization", "cookie", "x-forwarded-for"]);
        let subject = subject(seen, request.uri()).expect("a target");
        let of = |wanted: &str| {
            let found = subject.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.to_str().expect("text"))
        };
        assert_eq!(of("x-original-uri"), Some("/events?channel=a&x=%20"));
        assert_eq!(of("x-forwarded-uri"), Some("/events?channel=a&x=%20"));
        assert_eq!(of("x-forwarded-method"), Some("POST"));
        let beyond: http::Uri = "/admin?x=\u{e4}".parse().expect("a target");
        assert!(super::subject(seen, &beyond).is_some());
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
