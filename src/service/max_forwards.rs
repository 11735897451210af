//! `Max-Forwards` (RFC 9110, section 7.6.2): limits the number of proxies that forward a TRACE or
//! OPTIONS. The proxy that receives 0 responds itself.

use http::header::{ALLOW, MAX_FORWARDS};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use super::body::ResponseBody;
use super::rejection::Rejection;
use crate::route::Route;

/// The methods in Allow for a proxy route without `methods`.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// Decrements the field, and returns whether this is the last hop. An invalid value is forwarded
/// unchanged, and the field is ignored for other methods.
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
    // A number that does not fit is more than enough.
    is_number.then(|| str::from_utf8(digits).ok()?.parse().ok().or(Some(u64::MAX))).flatten()
}

/// The response of the last hop. TRACE is rejected, since it would show the client the fields that
/// proxies in front of the gateway have added.
///
/// # Errors
/// The request is a TRACE.
pub(super) fn respond(method: &Method, route: &Route) -> Result<Response<ResponseBody>, Rejection> {
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
    fn a_valid_max_forwards_of_options_and_trace_is_decremented() {
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
