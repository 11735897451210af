//! The CORS protocol (Fetch standard, section 3.2): which origins may read a response.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::body::ResponseBody;
use crate::route::CorsSettings;

/// The method in a CORS preflight; `None` if the request is not one.
pub(super) fn preflight_of(method: &Method, headers: &HeaderMap) -> Option<Method> {
    if *method != Method::OPTIONS || !headers.contains_key(ORIGIN) {
        return None;
    }
    let method = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(method.as_bytes()).ok()
}

/// What a page of an allowed origin may send: the methods, and the headers besides those that are always
/// allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct CorsGrant {
    methods: &'static str,
    headers: &'static str,
}

/// To an events route.
pub(super) const LISTENING: CorsGrant =
    CorsGrant { methods: "GET, HEAD", headers: "authorization, cache-control, last-event-id" };
/// To a kept stream.
pub(super) const KEEPING: CorsGrant = CorsGrant {
    methods: "GET, HEAD, DELETE",
    headers: "authorization, cache-control, last-event-id",
};
/// To a publish route.
pub(super) const PUBLISHING: CorsGrant =
    CorsGrant { methods: "POST", headers: "authorization, content-type, idempotency-key" };

/// The response to a preflight: what may be sent, cached for a day. For an origin that is not allowed the
/// headers are missing, and the browser blocks the request.
pub(super) fn preflight(
    settings: &CorsSettings,
    origin: Option<&HeaderValue>,
    CorsGrant { methods, headers }: CorsGrant,
) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if allow(settings, origin, response.headers_mut()) {
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_METHODS, methods),
            (ACCESS_CONTROL_ALLOW_HEADERS, headers),
            (ACCESS_CONTROL_MAX_AGE, "86400"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// The response to a preflight of a listed page for a backend behind `auth`: allows what the preflight asks for.
/// The request that follows needs a credential. The backend does not get the preflight: that has no credential,
/// and many scripts handle every method like GET.
pub(super) fn preflight_for_backend(
    settings: &CorsSettings,
    origin: Option<&HeaderValue>,
    requested: &HeaderMap,
) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if allow(settings, origin, response.headers_mut()) {
        for (name, allowed) in [
            (ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_ALLOW_METHODS),
            (ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_ALLOW_HEADERS),
        ] {
            if let Some(value) = requested.get(name) {
                response.headers_mut().insert(allowed, value.clone());
            }
        }
    }
    response
}

/// Adds the CORS headers if the route allows the origin. Returns whether it does.
pub(super) fn allow(
    settings: &CorsSettings,
    origin: Option<&HeaderValue>,
    response: &mut HeaderMap,
) -> bool {
    if settings.origins.is_empty() {
        return false;
    }
    // Also if the origin is not allowed: a cache must not serve this response to another origin.
    response.append(VARY, HeaderValue::from_static("origin"));
    let Some(origin) = origin else {
        return false;
    };
    if !permits(settings, Some(origin)) {
        return false;
    }
    let is_named = lists(settings, Some(origin));
    let allowed = if is_named { origin.clone() } else { HeaderValue::from_static("*") };
    response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    if settings.credentials && is_named {
        response.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    true
}

/// Whether the route allows this origin, by name or with `*`.
pub(super) fn permits(settings: &CorsSettings, origin: Option<&HeaderValue>) -> bool {
    let is_any = || settings.origins.iter().any(|allowed| allowed == "*");
    origin.is_some() && (lists(settings, origin) || is_any())
}

/// Whether the route names this origin. `*` names none.
pub(super) fn lists(settings: &CorsSettings, origin: Option<&HeaderValue>) -> bool {
    let mut origins = settings.origins.iter();
    origin.is_some_and(|origin| origins.any(|named| named.as_bytes() == origin.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::allow;
    use crate::route::CorsSettings;

    #[test]
    fn only_an_allowed_origin_gets_cors_headers() {
        let origin = |origin: &'static str| Some(HeaderValue::from_static(origin));
        let settings = |origins: &[&str], credentials| CorsSettings {
            origins: origins.iter().map(ToString::to_string).collect(),
            credentials,
        };
        for (settings, origin, expected) in [
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
            (settings(&["*"], false), None, None),
        ] {
            let mut response = HeaderMap::new();
            let is_allowed = allow(&settings, origin.as_ref(), &mut response);
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
