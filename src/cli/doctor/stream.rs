//! `--stream PATH`: whether an event stream of a backend arrives as it is written, or something buffers it.

use std::time::Duration;

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use ssegate::config::Settings;
use ssegate::route::{Matched, Router, Target};
use tokio::time::Instant;

use super::arrival::Arrival;
use super::exchange::Backend;
use super::finding::Finding;
use super::upstreams::{self, LIMIT};

/// Parts that arrive this far apart were not buffered.
const APART: Duration = Duration::from_millis(300);

const UNBUFFER: &str = "behind each event, PHP: ob_flush(); flush(); with zlib.output_compression off; nginx before it: \
                        the header X-Accel-Buffering: no, or fastcgi_buffering off or proxy_buffering off";

/// Requests `path` at each upstream of its route with GET, and watches for `limit` when the parts come.
pub(super) async fn findings(
    settings: &Settings,
    (path, headers): (&str, &HeaderMap),
    limit: Duration,
) -> Vec<Finding> {
    let about = format!("stream {path}");
    let backends = match backends(settings, path) {
        Ok(backends) => backends,
        Err(why) => {
            return vec![Finding::error(about, why, "give the path of a stream of a backend")];
        }
    };
    let mut findings = Vec::new();
    for backend in backends {
        findings.push(finding(&backend, (path, headers.clone()), limit).await);
    }
    findings
}

/// The upstreams of the proxy route that has this path.
fn backends(settings: &Settings, path: &str) -> Result<Vec<Backend>, String> {
    let router = Router::new(&settings.routes, None).map_err(|error| error.to_string())?;
    let (only_path, _) = path.split_once('?').unwrap_or((path, ""));
    let Matched::Route(route, _) = router.find(None, only_path, &Method::GET, None) else {
        return Err("no route has this path".to_owned());
    };
    match &settings.routes[route.index].target {
        Target::Proxy(proxy) => Ok(upstreams::of_proxy(route.index, proxy).collect()),
        Target::Events(_) | Target::Publish(_) | Target::Demo => {
            Err(format!("routes[{}] has this path, and is no proxy route", route.index))
        }
    }
}

async fn finding(
    backend: &Backend,
    (path, mut headers): (&str, HeaderMap),
    limit: Duration,
) -> Finding {
    let about = format!("stream {path} of {}", backend.address);
    for (name, value) in [(ACCEPT, "text/event-stream"), (CACHE_CONTROL, "no-cache")] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    let start = Instant::now();
    let limit = limit.max(LIMIT);
    let mut response = match backend.exchange(Method::GET, path, headers, limit).await {
        Ok(response) => response,
        Err(error) => return upstreams::failure(about, backend, error),
    };
    let status = response.http.status();
    if status != StatusCode::OK {
        let mend = "an EventSource gives up on anything but 200; -H sends a credential";
        return Finding::error(about, format!("responds {status}"), mend);
    }
    let header = |name| response.http.headers().get(name).and_then(|value| value.to_str().ok());
    let kind = header(CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
    let coding = header(CONTENT_ENCODING).map(str::to_owned);
    let is_enough = |arrival: &Arrival| arrival.later(APART).is_some();
    let arrival = Arrival::watch(response.http.body_mut(), start, (limit, is_enough)).await;
    if !kind.starts_with("text/event-stream") {
        let found = format!("not an event stream: Content-Type is {kind:?}");
        return Finding::error(about, found, "send Content-Type: text/event-stream");
    }
    judge(about, &arrival, coding.as_deref())
}

fn judge(about: String, arrival: &Arrival, coding: Option<&str>) -> Finding {
    let Some(first) = arrival.first() else {
        return match &arrival.end {
            Some(_) => Finding::warning(
                about,
                "it ended without a byte",
                "a stream stays open: an EventSource asks for this one again and again",
            ),
            None => Finding::warning(
                about,
                "no byte came, though its header did: it is quiet, or something collects it",
                UNBUFFER,
            ),
        };
    };
    if arrival.came_at_once() {
        let found =
            format!("all of it came at once, {first:.1?} after the request: something collects it");
        return Finding::error(about, found, UNBUFFER);
    }
    if let Some((end, None)) = &arrival.end
        && *end < Duration::from_secs(1)
    {
        return Finding::warning(
            about,
            format!("it ended after {end:.1?}"),
            "a script that ends is no stream: an EventSource asks for it again every few seconds. Publish instead \
             (docs/PUBLISHING.md), or let it run",
        );
    }
    if let Some(coding) = coding.filter(|coding| !coding.eq_ignore_ascii_case("identity")) {
        let found = format!("it comes with Content-Encoding: {coding}");
        return Finding::warning(about, found, "exclude text/event-stream from compression");
    }
    let next = match arrival.later(APART) {
        Some(later) => format!("the next {:.1?} later", later - first),
        None => "and it is open".to_owned(),
    };
    Finding::ok(about, format!("unbuffered: the first bytes came after {first:.1?}, {next}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::arrival::Arrival;
    use super::super::finding::FindingLevel;
    use super::judge;

    #[test]
    fn a_stream_that_is_collected_or_over_is_said() {
        let at = Duration::from_millis;
        for (parts, end, coding, level, said) in [
            (
                &[5, 1005][..],
                None,
                None,
                FindingLevel::Ok,
                "unbuffered: the first bytes came after 5",
            ),
            (&[5], None, None, FindingLevel::Ok, "unbuffered"),
            (&[5, 1005], Some(2005), None, FindingLevel::Ok, "unbuffered"),
            (&[3005], Some(3010), None, FindingLevel::Error, "all of it came at once"),
            (&[5], Some(6), None, FindingLevel::Warning, "it ended after 6"),
            (&[], Some(6), None, FindingLevel::Warning, "it ended without a byte"),
            (&[], None, None, FindingLevel::Warning, "no byte came"),
            (
                &[5],
                None,
                Some("gzip"),
                FindingLevel::Warning,
                "it comes with Content-Encoding: gzip",
            ),
            (&[5], None, Some("identity"), FindingLevel::Ok, "unbuffered"),
        ] {
            let arrival = Arrival {
                head: at(4),
                parts: parts.iter().map(|&part| (at(part), 10)).collect(),
                end: end.map(|end| (at(end), None)),
            };
            let finding = judge("stream".into(), &arrival, coding);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.found.contains(said), "{finding:?}");
        }
    }
}
