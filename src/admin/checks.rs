//! `/readyz`: whether this gateway should be sent clients.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::text;
use crate::health::Health;
use crate::query;

/// Answers 200 when every check passes that is not excluded.
pub(super) fn answer(health: &Health, query: &str) -> Response<Full<Bytes>> {
    let query = query::parse(query);
    let is_excluded =
        |check: &str| query.iter().any(|(key, value)| key == "exclude" && value == check);
    let is_verbose = query.iter().any(|(key, _)| key == "verbose");
    let mut report = String::new();
    let mut is_ready = true;
    for (check, passes) in [("redis", health.is_source_ready()), ("drain", !health.is_draining())] {
        let (mark, verdict) = match (is_excluded(check), passes) {
            (true, _) => ("[+]", "excluded"),
            (false, true) => ("[+]", "ok"),
            (false, false) => ("[-]", "failed"),
        };
        is_ready &= passes || is_excluded(check);
        report += &format!("{mark} {check} {verdict}\n");
    }
    let verdict = if is_ready { "ready\n" } else { "not ready\n" };
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, if is_verbose { report + verdict } else { verdict.to_owned() })
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::answer;
    use crate::health::Health;

    #[test]
    fn readiness_is_redis_and_drain() {
        let health = Health::default();
        let status = |query| answer(&health, query).status();
        assert_eq!(status(""), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status("exclude=redis"), StatusCode::OK);
        health.set_source_ready(true);
        assert_eq!(status(""), StatusCode::OK);
        health.set_draining();
        assert_eq!(status("verbose"), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status("exclude=drain"), StatusCode::OK);
    }
}
