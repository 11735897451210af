//! The method `forward`: a backend decides, asked with the credentials of the request.
//!
//! This file decides what a question contains ([`carried`], [`subject`]) and what its verdict means ([`access`]). The
//! caller, which has the connections, sends it ([`AskBackend`]).

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use smallvec::smallvec;
use ssegate_auth::signed_url::LAST_EVENT_ID_KEYS;
use ssegate_auth::{Identity, Refusal};

use super::access::{Access, Denial};
use super::request::AuthRequest;
use super::settings::ForwardAuth;
use super::verdict::Verdict;
use crate::query;

/// Sends questions to auth backends.
pub trait AskBackend {
    /// Returns the verdict on a request if it is known already.
    fn known(&self, backend: &Arc<ForwardAuth>, request: AuthRequest<'_>) -> Option<Verdict>;

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
    fn known(&self, _: &Arc<ForwardAuth>, _: AuthRequest<'_>) -> Option<Verdict> {
        None
    }

    async fn ask(&self, _: &Arc<ForwardAuth>, _: AuthRequest<'_>) -> Verdict {
        Verdict::NotNow("no auth backend can be asked here")
    }
}

/// The header fields of a request that its question may have: first the credentials and what applications check
/// beside them, then what trusted proxies say of the client. The verdict may depend on no other field, because it is
/// used for all requests in which these are the same.
pub(super) const CARRIED: [&str; 15] = [
    "accept",
    "accept-language",
    "authorization",
    "cookie",
    "origin",
    "referer",
    "user-agent",
    "x-csrf-token",
    "x-requested-with",
    "x-xsrf-token",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// The place of the first field that proxies set. The verdict may depend on these, too: an application may allow one
/// network only, or require https.
const OF_PROXY: u8 = 10;

/// The header fields of a request that its question has, in the order in which the client sent them, each with its
/// place in [`CARRIED`]. `is_from_proxy`: a trusted proxy has sent the request.
// One pass over the fields of the request costs less than a look-up of each name.
pub(super) fn carried<'a>(
    request: AuthRequest<'a>,
    is_from_proxy: bool,
) -> impl Iterator<Item = (u8, &'a HeaderValue)> {
    let fields = request.headers.iter();
    fields.filter_map(move |(name, value)| {
        let place = place(name.as_str())?;
        (place < OF_PROXY || is_from_proxy).then_some((place, value))
    })
}

/// The place of a name in [`CARRIED`].
// Several times as fast as a linear search: the compiler compares lengths first.
fn place(name: &str) -> Option<u8> {
    Some(match name {
        "accept" => 0,
        "accept-language" => 1,
        "authorization" => 2,
        "cookie" => 3,
        "origin" => 4,
        "referer" => 5,
        "user-agent" => 6,
        "x-csrf-token" => 7,
        "x-requested-with" => 8,
        "x-xsrf-token" => 9,
        "forwarded" => 10,
        "x-forwarded-for" => 11,
        "x-forwarded-host" => 12,
        "x-forwarded-proto" => 13,
        "x-real-ip" => 14,
        _ => return None,
    })
}

/// The header fields with the method and target of the request, under the names that nginx, Traefik and Caddy use.
/// `target` is the [`asked_target`], which may have bytes beyond ASCII. `None` if a header field cannot hold it.
pub(super) fn subject(method: &str, target: &[u8]) -> Option<[(HeaderName, HeaderValue); 4]> {
    let method = HeaderValue::from_str(method).ok()?;
    let target = HeaderValue::from_bytes(target).ok()?;
    Some([
        (HeaderName::from_static("x-original-method"), method.clone()),
        (HeaderName::from_static("x-original-uri"), target.clone()),
        (HeaderName::from_static("x-forwarded-method"), method),
        (HeaderName::from_static("x-forwarded-uri"), target),
    ])
}

/// The target of a request for a question. `target` is that of the request, without the tokens of other methods. The
/// last event id is removed, since no verdict depends on it.
pub(super) fn asked_target(target: &Uri) -> Cow<'_, str> {
    let path = target.path();
    let Some(asked) = target.query().filter(|query| !query.is_empty()) else { return path.into() };
    let kept = query::without(asked, &LAST_EVENT_ID_KEYS);
    match (&kept, target.path_and_query()) {
        (Cow::Borrowed(_), Some(whole)) => whole.as_str().into(),
        _ if kept.is_empty() => path.into(),
        _ => format!("{path}?{kept}").into(),
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
            // The client of a stream would follow the redirect, and read the login page as the stream.
            return Err(Denial::Refused(Refusal::Missing));
        }
        Verdict::Refused(response) => return Err(Denial::Response(response)),
        Verdict::NotNow(why) => return Err(Denial::NotNow(why)),
    };
    let id = backend.id.as_ref().and_then(|name| str::from_utf8(fields.get(name)?.as_bytes()).ok());
    let id = id.filter(|id| !id.is_empty()).map(str::to_owned);
    let identity = Identity { id, fields: Some(fields), ..Identity::default() };
    let forwards = smallvec![Arc::clone(backend)];
    let is_ambient = is_ambient(request.headers);
    Ok(Access { identity, is_ambient, forwards, ..Access::default() })
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

    use super::{CARRIED, OF_PROXY, asked_target, carried, is_ambient, place, subject};
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
            let places = carried(seen, is_from_proxy).map(|(place, _)| place);
            let mut names: Vec<_> = places.map(|place| CARRIED[usize::from(place)]).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names(false), ["authorization", "cookie"]);
        assert_eq!(names(true), ["authorization", "cookie", "x-forwarded-for"]);
        let subject = subject("POST", asked_target(request.uri()).as_bytes()).expect("a target");
        let of = |wanted: &str| {
            let found = subject.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.to_str().expect("text"))
        };
        assert_eq!(of("x-original-uri"), Some("/events?channel=a&x=%20"));
        assert_eq!(of("x-forwarded-uri"), Some("/events?channel=a&x=%20"));
        assert_eq!(of("x-forwarded-method"), Some("POST"));
        assert!(super::subject("GET", "/admin?x=\u{e4}".as_bytes()).is_some());
    }

    #[test]
    fn each_name_has_its_place() {
        for (number, name) in (0..).zip(CARRIED) {
            assert_eq!(place(name), Some(number), "{name}");
            let is_of_proxy = name.contains("forwarded") || name == "x-real-ip";
            assert_eq!(number >= OF_PROXY, is_of_proxy, "{name}");
        }
        assert_eq!(place("last-event-id"), None);
    }

    #[test]
    fn a_question_names_the_target_without_the_last_event() {
        for (target, expected) in [
            ("/a", "/a"),
            ("/a?", "/a"),
            ("/a?x=1&y", "/a?x=1&y"),
            ("/a?&x=%26", "/a?&x=%26"),
            ("/a?lastEventId=7", "/a"),
            ("/a?x=1&Last%2dEvent-ID=8&y=2", "/a?x=1&y=2"),
            ("/a?lasteventid=7", "/a?lasteventid=7"),
        ] {
            assert_eq!(asked_target(&target.parse().expect("a target")), expected, "{target}");
        }
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
