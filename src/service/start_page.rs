//! The page for whoever has just started the gateway and looks at it, while its backend is not there yet.
//!
//! In place of a plain 502, for a browser that seems to be on the gateway's own machine. That cannot be
//! known: a proxy on this machine that adds no field of its own looks the same. So the page has nothing
//! in it that a visitor must not know; where the backend is, and why it failed, is in the log.

use http::header::{FORWARDED, HOST, VIA};
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};

use super::asked::Asked;
use super::body::ResponseBody;
use super::html;
use super::rejection::Rejection;

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// Whether a request names this machine, and seems to have come directly. Browsers do not use HTTP/1.0,
/// and nginx does unless it is told otherwise.
pub(super) fn is_of_this_machine<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let header = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let authority = request.uri().authority().cloned().or(header);
    let is_local = authority.is_some_and(|authority| {
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        ["localhost", "127.0.0.1", "::1"].contains(&host.as_str())
    });
    is_local && request.version() > Version::HTTP_10 && !is_forwarded(headers)
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    let names = [FORWARDED, VIA];
    let others = ["x-forwarded-for", "x-real-ip"];
    names.iter().any(|name| headers.contains_key(name))
        || others.iter().any(|name| headers.contains_key(*name))
}

/// Whether this page is the response: the backend cannot be connected to.
pub(super) fn is_meant(rejection: &Rejection, asked: &Asked, is_local: bool) -> bool {
    let is_page = asked.method == Method::GET && asked.accepts_page && asked.is_of_this_machine;
    let is_down = matches!(rejection, Rejection::Upstream(error) if error.kind() == "connect");
    is_local && is_page && is_down
}

/// What to do, and what works without a backend.
const PAGE: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>ssegate runs</title>\
         <meta name=viewport content='width=device-width'>\
         <style>body{font:16px/1.5 system-ui;margin:3em auto;max-width:44em;padding:0 1em;\
         color-scheme:light dark}code,pre{font:14px/1.5 ui-monospace,monospace}\
         pre{padding:.7em 1em;border:1px solid #8886;border-radius:6px}</style>\
         <h1>ssegate runs, and its backend does not</h1>\
         <p>502: the backend of this route cannot be reached. The log says where it is looked for, and \
         why that failed.\
         <p>Start your application, or say where it is: with <code>upstream</code> of the route, or, for \
         the gateway.yaml of the repository, in the environment:\
         <pre>BACKEND_URL=http://127.0.0.1:3000 ssegate</pre>\
         <p>Event streams need no backend. Follow a channel in one terminal, and publish in another:\
         <pre>ssegate sub news\nssegate pub news hello</pre>\
         <p><code>ssegate dev</code> shows the same in a page.\n";

/// The page.
pub(super) fn page() -> Response<ResponseBody> {
    let mut response = html::page(PAGE, POLICY);
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

#[cfg(test)]
mod tests {
    use http::{Request, Version};

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
        // As nginx asks with nothing but `proxy_pass`.
        let request = Request::get("/").version(Version::HTTP_10).header("host", "127.0.0.1:8080");
        assert!(!is_of_this_machine(&request.body(()).expect("a request")));
    }
}
