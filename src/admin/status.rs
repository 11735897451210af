//! The status page.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::with_type;
use crate::health::{Health, ReadinessCheck, Warning};

/// Escapes text for HTML: error messages of Redis and backends may contain any characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The response with the page. The page has no script, and contains nothing from clients.
pub(super) fn page(health: &Health, urls: &[String]) -> Response<Full<Bytes>> {
    let mut rows = String::new();
    let mut row = |name: &str, value: &str, is_trouble: bool| {
        let (name, value) = (escaped(name), escaped(value));
        let mark = if is_trouble { " class=trouble" } else { "" };
        writeln!(rows, "<tr{mark}><th>{name}<td>{value}").expect("a string takes any text");
    };
    for ReadinessCheck { about, passes, is_degraded, detail, .. } in health.checks() {
        let (about, well) = match about {
            "embedded bus" => ("Embedded bus", "open"),
            "redis" => ("Redis", "connected"),
            "drain" => ("Gateway", "accepting clients"),
            "redis cluster" => ("Redis Cluster", "all nodes can be used"),
            "fleet" => ("Fleet", "followed"),
            _ => ("File descriptors", "available"),
        };
        let is_trouble = !passes || is_degraded;
        row(about, detail.as_deref().unwrap_or(well), is_trouble);
    }
    if let Some(master) = health.master() {
        row("Sentinels", &master, false);
    }
    let warnings = health.warnings();
    for Warning { about, detail } in &warnings {
        row(about, detail, true);
    }
    if warnings.is_empty() {
        row("Backends, certificates, last reload", "no problems", false);
    }
    for url in urls {
        row("Listening on", url, false);
    }
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>ssegate</title>\
         <meta name=viewport content='width=device-width'>\
         <style>body{{font:16px/1.5 system-ui;margin:3em auto;max-width:40em;padding:0 1em;\
         color-scheme:light dark}}th{{text-align:left;padding-right:2em;font-weight:500}}\
         th,td{{vertical-align:top}}.trouble{{color:#c00}}</style>\
         <h1>ssegate {}</h1><table>{rows}</table>\
         <p><a href=/metrics>metrics</a> · <a href='/readyz?verbose'>readiness</a> · \
         <a href=/livez>liveness</a></p>\n",
        env!("CARGO_PKG_VERSION"),
    );
    with_type(StatusCode::OK, "text/html; charset=utf-8", page)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::page;
    use crate::health::Health;

    async fn text(health: &Health) -> String {
        let page = page(health, &[]).into_body().collect().await.expect("a body").to_bytes();
        String::from_utf8_lossy(&page).into_owned()
    }

    #[tokio::test]
    async fn a_fleet_that_is_well_is_no_trouble() {
        let health = Health::default();
        health.set_source_ready(true);
        health.expect_fleet();
        health.set_fleet_followed(None, Ok(()));
        health.set_fleet_published(None, Ok(()));
        assert!(text(&health).await.contains("<tr class=trouble><th>Fleet<td>"), "it is not warm");
        health.set_fleet_warm(true);
        health.set_sentinels(Ok("m is a:1; 3 of 3 sentinels are followed".into()));
        let page = text(&health).await;
        assert!(!page.contains("class=trouble"), "{page}");
        for row in [
            "<tr><th>Fleet<td>clients",
            "<th>File descriptors<td>available",
            "<th>Sentinels<td>m is",
        ] {
            assert!(page.contains(row), "{row}: {page}");
        }
    }

    #[tokio::test]
    async fn errors_are_shown_and_escaped() {
        let health = Health::default();
        health.source_failed("refused", "<script>alert(1)</script>");
        health.set_certificate("127.0.0.1:443", Some("it expired".into()));
        let page = text(&health).await;
        assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
        assert!(page.contains("certificate of 127.0.0.1:443<td>it expired"), "{page}");
        assert!(!page.contains("<script"), "{page}");
    }
}
