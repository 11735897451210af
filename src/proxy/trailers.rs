//! The fields behind a body, of a request or of a response (RFC 9110, section 6.5).
//!
//! Whoever receives them may merge them into the headers. So none passes that could change what a
//! message means (section 6.5.1), and none that the gateway sets or strips among the headers.

use http::HeaderName;
use http_body::Frame;

use super::headers;
use crate::grip;

/// Removes from a frame what may not be a trailer. Returns whether anything is left: a body of
/// trailers that are none has no trailers. `allows_underscores`: as among the headers of the route.
pub(super) fn screen<D>(frame: &mut Frame<D>, allows_underscores: bool) -> bool {
    let Some(trailers) = frame.trailers_mut() else { return true };
    headers::remove(trailers, |name| !may_pass(name, allows_underscores));
    !trailers.is_empty()
}

fn may_pass(name: &HeaderName, allows_underscores: bool) -> bool {
    let name_text = name.as_str();
    if name_text.contains('_') {
        // What CGI, WSGI and Rack would read as a field that may not pass does not pass either.
        let read_as = HeaderName::try_from(name_text.replace('_', "-"));
        return allows_underscores && read_as.is_ok_and(|name| may_pass(&name, false));
    }
    let is_conditional = name_text.starts_with("if-");
    let is_ours = name_text.starts_with("x-forwarded-") || grip::is_grip(name);
    !(is_conditional || is_ours || headers::is_hop_by_hop(name) || FORBIDDEN.contains(&name_text))
}

/// Names that RFC 9110, section 6.5.1, forbids by their kind, and those that say who asks.
const FORBIDDEN: [&str; 43] = [
    // Framing and routing.
    "content-length",
    "host",
    "trailer",
    // How to treat a request.
    "cache-control",
    "expect",
    "last-event-id",
    "max-forwards",
    "pragma",
    "range",
    "upgrade-insecure-requests",
    // Who asks, and what is kept of it.
    "authentication-info",
    "authorization",
    "cookie",
    "proxy-authentication-info",
    "set-cookie",
    "www-authenticate",
    // What a response means.
    "age",
    "date",
    "expires",
    "location",
    "refresh",
    "retry-after",
    "vary",
    "warning",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "clear-site-data",
    "content-security-policy",
    "strict-transport-security",
    // How to read the body.
    "content-disposition",
    "content-encoding",
    "content-location",
    "content-range",
    "content-type",
    // Where the request comes from: what the gateway says of it.
    "forwarded",
    "via",
    "x-real-ip",
    "x-accel-buffering",
    "x-accel-redirect",
];

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};
    use http_body::Frame;

    use super::screen;

    fn left(names: &[&'static str], allows_underscores: bool) -> Vec<String> {
        let mut trailers = HeaderMap::new();
        for name in names {
            trailers.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        let mut frame = Frame::<()>::trailers(trailers);
        let is_left = screen(&mut frame, allows_underscores);
        let trailers = frame.into_trailers().expect("it stays one of trailers");
        assert_eq!(is_left, !trailers.is_empty());
        trailers.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn what_says_something_of_a_whole_body_passes() {
        let names = ["grpc-status", "grpc-message", "x-sum", "digest", "etag", "server-timing"];
        assert_eq!(left(&names, false), names);
    }

    #[test]
    fn what_the_gateway_sets_or_strips_and_what_changes_a_message_does_not() {
        let names = [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-anything",
            "x-real-ip",
            "via",
            "grip-sig",
            "grip_sig",
            "connection",
            "keep-alive",
            "te",
            "transfer-encoding",
            "upgrade",
            "content-length",
            "host",
            "authorization",
            "cookie",
            "set-cookie",
            "if-none-match",
            "content-type",
            "x_anything",
        ];
        assert_eq!(left(&names, false), [""; 0]);
    }

    #[test]
    fn an_underscore_passes_where_the_route_lets_it() {
        assert_eq!(left(&["x_sum", "grip_sig"], true), ["x_sum"]);
    }
}
