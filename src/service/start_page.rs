//! The start page: shown in place of a plain 502 to someone who has just started the gateway
//! without a backend.
//!
//! Only a browser that seems to run on the gateway's machine gets it. That is a guess: a proxy on
//! this machine that adds no header looks the same. So the page contains nothing that a visitor
//! must not see; the address of the backend and its error are in the log.

use http::{Method, Response, StatusCode};

use super::body::ResponseBody;
use super::html;
use super::rejection::Rejection;
use super::request_info::RequestInfo;

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// Whether to respond with this page: a local browser requests a page, and connecting to the
/// backend failed.
pub(super) fn applies(rejection: &Rejection, info: &RequestInfo, is_loopback: bool) -> bool {
    let is_page = info.method == Method::GET && info.accepts_html && info.is_local_host;
    let is_down = matches!(rejection, Rejection::Upstream(error) if error.kind() == "connect");
    is_loopback && is_page && is_down
}

/// Says how to set the backend, and what works without one.
const PAGE: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>ssegate runs</title>\
         <meta name=viewport content='width=device-width'>\
         <style>body{font:16px/1.5 system-ui;margin:3em auto;max-width:44em;padding:0 1em;\
         color-scheme:light dark}code,pre{font:14px/1.5 ui-monospace,monospace}\
         pre{padding:.7em 1em;border:1px solid #8886;border-radius:6px}</style>\
         <h1>ssegate runs, and its backend does not</h1>\
         <p>502: the backend of this route cannot be reached. Its address and the error are in the \
         log.\
         <p>Start your application, or set its address: with <code>upstream</code> of the route or, \
         in the gateway.yaml of the repository, with a variable:\
         <pre>BACKEND_URL=http://127.0.0.1:3000 ssegate</pre>\
         <p>Event streams need no backend. Subscribe to a channel in one terminal, and publish in \
         another:\
         <pre>ssegate sub news\nssegate pub news hello</pre>\
         <p><code>ssegate dev</code> has a demo page.\n";

/// The response with the page.
pub(super) fn page() -> Response<ResponseBody> {
    let mut response = html::page(PAGE, POLICY);
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
