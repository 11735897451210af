//! `Max-Forwards` (RFC 9110, section 7.6.2): how many proxies a TRACE or OPTIONS may still pass. The
//! one at which it is used up answers itself.

use http::header::{ALLOW, MAX_FORWARDS};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use super::body::ResponseBody;
use super::rejection::Rejection;
use crate::route::Route;

/// What a proxy route takes where it does not say otherwise.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// Counts this hop; returns whether it is the last. What is no number is the backend's to read, and
/// other methods are not counted.
pub(super) fn is_last<B>(request: &mut Request<B>) -> bool {
    if !matches!(*request.method(), Method::OPTIONS | Method::TRACE) {
        return false;
    }
    let Some(left) = request.headers().get(MAX_FORWARDS).and_then(number) else { return false };
    match left.checked_sub(1) {
        Some(left) => {
            request.headers_mut().insert(MAX_FORWARDS, HeaderValue::from(left));
            false
        }
        None => true,
    }
}

fn number(value: &HeaderValue) -> Option<u64> {
    let digits = value.as_bytes();
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    // More than fits is more than there are proxies.
    is_number.then(|| str::from_utf8(digits).ok()?.parse().ok().or(Some(u64::MAX))).flatten()
}

/// The answer of the last hop. A TRACE would show to its client what proxies in front of us have
/// added, so it is not allowed here.
///
/// # Errors
/// The request is a TRACE.
pub(super) fn answer(method: &Method, route: &Route) -> Result<Response<ResponseBody>, Rejection> {
    let methods = &route.settings.methods;
    let methods = if methods.is_empty() { METHODS.to_vec() } else { methods.clone() };
    if *method == Method::TRACE {
        return Err(Rejection::Method(methods));
    }
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allowed = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    if let Ok(allowed) = HeaderValue::try_from(allowed) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use http::{Method, Request};

    use super::is_last;

    #[test]
    fn a_hop_is_counted_where_there_is_a_number() {
        for (method, before, last, after) in [
            (Method::OPTIONS, "3", false, "2"),
            (Method::OPTIONS, "1", false, "0"),
            (Method::TRACE, "0", true, "0"),
            (Method::TRACE, "007", false, "6"),
            (Method::OPTIONS, "99999999999999999999", false, "18446744073709551614"),
            (Method::OPTIONS, "-1", false, "-1"),
            (Method::OPTIONS, "", false, ""),
            (Method::GET, "0", false, "0"),
        ] {
            let request = Request::builder().method(method.clone()).header("max-forwards", before);
            let mut request = request.body(()).expect("a request");
            assert_eq!(is_last(&mut request), last, "{method} {before}");
            assert_eq!(request.headers()["max-forwards"], after, "{method} {before}");
        }
    }
}
