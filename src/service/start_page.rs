//! The page for whoever has just started the gateway and looks at it, while its backend is not there yet.
//!
//! In place of a plain 502, and only for a browser on the gateway's own machine: a visitor is told
//! nothing of where the backend is.

use std::fmt::Write as _;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, FORWARDED, HOST, VIA};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use super::asked::Asked;
use super::body::ResponseBody;
use super::rejection::Rejection;
use crate::proxy::ProxyError;
use crate::route::{Route, Target};

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// Whether a request names this machine, and came here by nobody else.
pub(super) fn is_of_this_machine<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let header = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let authority = request.uri().authority().cloned().or(header);
    let is_local = authority.is_some_and(|authority| {
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        ["localhost", "127.0.0.1", "::1"].contains(&host.as_str())
    });
    is_local && !is_forwarded(headers)
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    let names = [FORWARDED, VIA];
    let others = ["x-forwarded-for", "x-real-ip"];
    names.iter().any(|name| headers.contains_key(name))
        || others.iter().any(|name| headers.contains_key(*name))
}

/// The backend that could not be connected to, where this page is the answer to that.
pub(super) fn cause<'r>(
    rejection: &'r Rejection,
    asked: &Asked,
    is_local: bool,
) -> Option<&'r ProxyError> {
    let is_page = asked.method == Method::GET && asked.accepts_page && asked.is_of_this_machine;
    match rejection {
        Rejection::Upstream(error) if is_local && is_page && error.kind() == "connect" => {
            Some(error)
        }
        _ => None,
    }
}

/// The page: what failed, what to do, and what works without a backend.
pub(super) fn page(
    error: &ProxyError,
    route: &Route,
    all: &[Arc<Route>],
) -> Response<ResponseBody> {
    let (upstream, path) = (escaped(error.upstream()), escaped(&route.settings.path));
    let mut streams = String::new();
    for route in all.iter().filter(|route| matches!(route.settings.target, Target::Events(_))) {
        let path = escaped(&route.settings.path);
        writeln!(streams, "<li><code>{path}</code>").expect("a string takes any text");
    }
    let body = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>ssegate runs</title>\
         <meta name=viewport content='width=device-width'>\
         <style>body{{font:16px/1.5 system-ui;margin:3em auto;max-width:44em;padding:0 1em;\
         color-scheme:light dark}}code,pre{{font:14px/1.5 ui-monospace,monospace}}\
         pre{{padding:.7em 1em;border:1px solid #8886;border-radius:6px}}</style>\
         <h1>ssegate runs, and its backend does not</h1>\
         <p>Nothing answers at <code>{upstream}</code>, where <code>{path}</code> of the configuration \
         leads (502: {cause}).\
         <p>Start your application there, or say where it is: with <code>upstream</code> of that route, \
         or, for the gateway.yaml of the repository, in the environment:\
         <pre>BACKEND_URL=http://127.0.0.1:3000 ssegate</pre>\
         <p>Event streams need no backend:<ul>{streams}</ul>\
         <p>Follow a channel in one terminal, and publish in another:\
         <pre>ssegate sub news\nssegate pub news hello</pre>\
         <p><code>ssegate dev</code> shows the same in a page. Visitors from elsewhere get a plain 502 \
         in place of this one.\n",
        cause = escaped(error),
    );
    let mut response = Response::new(ResponseBody::whole(body));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

fn escaped(text: impl ToString) -> String {
    let text = text.to_string();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::is_of_this_machine;

    #[test]
    fn only_who_names_this_machine_and_comes_directly_is_here() {
        for (host, header, expected) in [
            ("localhost:8080", None, true),
            ("127.0.0.1:8080", None, true),
            ("[::1]:8080", None, true),
            ("app.example", None, false),
            ("localhost.app.example", None, false),
            ("localhost", Some("x-forwarded-for"), false),
            ("localhost", Some("forwarded"), false),
            ("localhost", Some("via"), false),
            ("", None, false),
        ] {
            let mut request = Request::get("/").header("host", host);
            if let Some(name) = header {
                request = request.header(name, "x");
            }
            let request = request.body(()).expect("a request");
            assert_eq!(is_of_this_machine(&request), expected, "{host} {header:?}");
        }
    }
}
