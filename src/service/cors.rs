//! The CORS protocol (Fetch standard, section 3.2): which pages may read the answer.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
    VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::body::ResponseBody;
use crate::route::CorsSettings;

/// Whether the request is a browser's question before another one.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight: what a stream needs, for a day. Where the origin is not allowed there
/// is no header, and the browser refuses.
pub(super) fn preflight(settings: &CorsSettings, headers: &HeaderMap) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if allow(settings, headers, response.headers_mut()) {
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD"),
            (ACCESS_CONTROL_ALLOW_HEADERS, "authorization, cache-control, last-event-id"),
            (ACCESS_CONTROL_MAX_AGE, "86400"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// Lets the page that asks read the answer, if the route allows its origin; answers whether.
pub(super) fn allow(
    settings: &CorsSettings,
    request: &HeaderMap,
    response: &mut HeaderMap,
) -> bool {
    if settings.origins.is_empty() {
        return false;
    }
    // Also for an origin that is not allowed: a cache must not give its answer to another.
    response.append(VARY, HeaderValue::from_static("origin"));
    let Some(origin) = request.get(ORIGIN) else {
        return false;
    };
    let is_any = settings.origins.iter().any(|allowed| allowed == "*");
    let is_named = settings.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
    if !is_any && !is_named {
        return false;
    }
    let allowed = if is_named { origin.clone() } else { HeaderValue::from_static("*") };
    response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    if settings.credentials && is_named {
        response.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    true
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::allow;
    use crate::route::CorsSettings;

    #[test]
    fn an_allowed_origin_is_named_and_no_other() {
        let origin = |origin: &'static str| {
            HeaderMap::from_iter([(http::header::ORIGIN, HeaderValue::from_static(origin))])
        };
        let settings = |origins: &[&str], credentials| CorsSettings {
            origins: origins.iter().map(ToString::to_string).collect(),
            credentials,
        };
        for (settings, request, expected) in [
            (
                settings(&["https://a.example"], true),
                origin("https://a.example"),
                Some(("https://a.example", true)),
            ),
            (
                settings(&["https://a.example"], false),
                origin("https://a.example"),
                Some(("https://a.example", false)),
            ),
            (settings(&["https://a.example"], true), origin("https://b.example"), None),
            (settings(&["https://a.example"], true), origin("null"), None),
            (settings(&["*"], false), origin("https://b.example"), Some(("*", false))),
            (settings(&[], false), origin("https://b.example"), None),
            (settings(&["*"], false), HeaderMap::new(), None),
        ] {
            let mut response = HeaderMap::new();
            let is_allowed = allow(&settings, &request, &mut response);
            let named = response.get("access-control-allow-origin");
            assert_eq!(is_allowed, expected.is_some());
            assert_eq!(named.map(|v| v.to_str().expect("text")), expected.map(|(o, _)| o));
            assert_eq!(
                response.contains_key("access-control-allow-credentials"),
                expected.is_some_and(|(_, credentials)| credentials)
            );
        }
    }
}
