//! `/readyz`: whether load balancers should send clients to this gateway.
//!
//! `?verbose` adds a line for each check in the format of Kubernetes' own endpoints: `[+]` passes,
//! `[!]` passes and something of it does not work, `[-]` fails, with the cause and since when; one with the master, if sentinels name it; and a line with `[!]`
//! for each warning, which does not affect the status.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::text;
use crate::health::{Health, ReadinessCheck, Warning};
use crate::query;

/// Whether the checks and warnings are asked for.
pub(super) fn is_verbose(query: &str) -> bool {
    query::parse(query).iter().any(|(key, _)| key == "verbose")
}

/// Responds 200 if every check that is not excluded passes, else 503.
pub(super) fn respond(health: &Health, query: &str, is_verbose: bool) -> Response<Full<Bytes>> {
    let query = query::parse(query);
    let is_excluded =
        |check: &str| query.iter().any(|(key, value)| key == "exclude" && value == check);
    let mut report = String::new();
    let mut is_ready = true;
    for ReadinessCheck { name, about, passes, is_degraded, detail } in health.checks() {
        let (mark, verdict) = match (is_excluded(name), passes) {
            (true, _) => ("[+]", "excluded"),
            (false, true) if is_degraded => ("[!]", "degraded"),
            (false, true) => ("[+]", "ok"),
            (false, false) => ("[-]", "failed"),
        };
        is_ready &= passes || is_excluded(name);
        let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
        report += &format!("{mark} {about} {verdict}{detail}\n");
    }
    if let Some(master) = health.master() {
        report += &format!("[+] sentinels ok: {master}\n");
    }
    for Warning { about, detail } in health.warnings() {
        report += &format!("[!] {about}: {detail}\n");
    }
    let verdict = if is_ready { "ready\n" } else { "not ready\n" };
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, if is_verbose { report + verdict } else { verdict.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::StatusCode;
    use http_body_util::BodyExt as _;

    use super::respond;
    use crate::health::{Health, Incident};

    #[test]
    fn the_gateway_is_ready_while_redis_is_connected_and_it_is_not_draining() {
        let health = Health::default();
        let status = |query| respond(&health, query, true).status();
        assert_eq!(status(""), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status("exclude=redis"), StatusCode::OK);
        health.set_source_ready(true);
        assert_eq!(status(""), StatusCode::OK);
        health.set_draining();
        assert_eq!(status("verbose"), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status("exclude=drain"), StatusCode::OK);
    }

    #[tokio::test]
    async fn with_the_embedded_bus_no_redis_is_mentioned() {
        let health = Health::default();
        health.set_embedded_source();
        let report = respond(&health, "verbose", true).into_body().collect().await.expect("a body");
        let report = String::from_utf8_lossy(&report.to_bytes()).into_owned();
        assert!(report.starts_with("[+] embedded bus ok\n"), "{report}");
        assert!(!report.contains("redis"), "{report}");
    }

    #[tokio::test]
    async fn what_redis_refuses_is_no_plus_though_the_gateway_is_ready() {
        let health = Health::default();
        health.set_source_ready(true);
        health.source_failed("permission", "SUBSCRIBE to the channel \"a\": NOPERM");
        let response = respond(&health, "verbose", true);
        assert_eq!(response.status(), StatusCode::OK);
        let report = response.into_body().collect().await.expect("a body").to_bytes();
        let report = String::from_utf8_lossy(&report).into_owned();
        assert!(report.starts_with("[!] redis degraded: permission: SUBSCRIBE to"), "{report}");
    }

    #[test]
    fn the_gateway_is_not_ready_while_out_of_file_descriptors() {
        let health = Health::default();
        health.set_source_ready(true);
        let shortage = Incident::new("file_descriptors", "256 may be open", SystemTime::now());
        health.set_shortage(Some(shortage));
        assert_eq!(respond(&health, "", false).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(respond(&health, "exclude=descriptors", false).status(), StatusCode::OK);
        health.set_shortage(None);
        assert_eq!(respond(&health, "", false).status(), StatusCode::OK);
    }
}
