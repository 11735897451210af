//! Which trailer fields are forwarded, in requests and responses (RFC 9110, section 6.5).
//!
//! A recipient may merge trailers into the header section. So no field is forwarded that could
//! change the meaning of the message (section 6.5.1), nor one that the gateway sets or strips as a
//! header.
//!
//! Over HTTP/1.1, to a backend and to a client, only those pass that `Trailer` has announced, and none behind a
//! `Content-Length`, which the message keeps: hyper, which writes it, sends no others (1.12, `src/proto/h1/encode.rs`:
//! `Kind::Chunked(None)` drops them). The gateway cannot announce them itself, since the header has left before
//! the trailers arrive. They may be lost at any hop (section 6.5.1), so a sender that needs them announces them.
//! Over HTTP/2 all pass.

use http::HeaderName;
use http_body::Frame;

use super::headers;
use crate::grip;

/// Removes the fields that must not be trailers. Returns `false` if no trailer is left: the body
/// then ends without a trailer section. `allows_underscores`: the route's `underscores_in_headers`.
pub(super) fn filter<D>(frame: &mut Frame<D>, allows_underscores: bool) -> bool {
    let Some(trailers) = frame.trailers_mut() else { return true };
    headers::remove(trailers, |name| !may_pass(name, allows_underscores));
    !trailers.is_empty()
}

fn may_pass(name: &HeaderName, allows_underscores: bool) -> bool {
    if let Some(name) = headers::read_as(name) {
        // What CGI, WSGI and Rack would read as a field that may not pass does not pass either.
        return allows_underscores && may_pass(&name, false);
    }
    let is_conditional = name.as_str().starts_with("if-");
    let is_ours = headers::is_reserved(name) || grip::is_grip(name);
    !(is_conditional || is_ours || FORBIDDEN.contains(&name.as_str()))
}

/// Fields that RFC 9110, section 6.5.1, forbids by category, beside the reserved ones.
const FORBIDDEN: [&str; 37] = [
    // Request modifiers.
    "cache-control",
    "expect",
    "last-event-id",
    "max-forwards",
    "pragma",
    "range",
    "upgrade-insecure-requests",
    // Authentication and cookies.
    "authentication-info",
    "authorization",
    "cookie",
    "proxy-authentication-info",
    "set-cookie",
    "www-authenticate",
    // Response control data.
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
    // Content format.
    "content-disposition",
    "content-encoding",
    "content-location",
    "content-range",
    "content-type",
    // Instructions to proxies.
    "x-accel-buffering",
    "x-accel-redirect",
];

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};
    use http_body::Frame;

    use super::filter;

    fn left(names: &[&'static str], allows_underscores: bool) -> Vec<String> {
        let mut trailers = HeaderMap::new();
        for name in names {
            trailers.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        let mut frame = Frame::<()>::trailers(trailers);
        let is_left = filter(&mut frame, allows_underscores);
        let trailers = frame.into_trailers().expect("still a trailers frame");
        assert_eq!(is_left, !trailers.is_empty());
        trailers.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn fields_about_the_whole_body_are_forwarded() {
        let names = ["grpc-status", "grpc-message", "x-sum", "digest", "etag", "server-timing"];
        assert_eq!(left(&names, false), names);
    }

    #[test]
    fn fields_that_the_gateway_sets_or_that_change_the_message_are_removed() {
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
    fn a_name_with_an_underscore_is_forwarded_if_the_route_allows_it() {
        assert_eq!(left(&["x_sum", "grip_sig"], true), ["x_sum"]);
    }
}
