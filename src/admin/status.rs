//! The status page: what an operator looks at first.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::with_type;
use crate::health::Health;

/// The page. It has no script, and nothing in it comes from a client.
pub(super) fn page(health: &Health, urls: &[String]) -> Response<Full<Bytes>> {
    let mut rows = String::new();
    let mut row = |name: &str, value: &str| {
        writeln!(rows, "<tr><th>{name}<td>{value}").expect("a string takes any text");
    };
    row("Redis", if health.is_source_ready() { "delivers" } else { "is away" });
    row("This gateway", if health.is_draining() { "is stopping" } else { "takes streams" });
    for url in urls {
        row("Listens on", url);
    }
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>ssegate</title>\
         <meta name=viewport content='width=device-width'>\
         <style>body{{font:16px/1.5 system-ui;margin:3em auto;max-width:40em;padding:0 1em;\
         color-scheme:light dark}}th{{text-align:left;padding-right:2em;font-weight:500}}</style>\
         <h1>ssegate {}</h1><table>{rows}</table>\
         <p><a href=/metrics>metrics</a> · <a href='/readyz?verbose'>readiness</a> · \
         <a href=/livez>liveness</a></p>\n",
        env!("CARGO_PKG_VERSION"),
    );
    with_type(StatusCode::OK, "text/html; charset=utf-8", page)
}
