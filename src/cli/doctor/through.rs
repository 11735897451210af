//! `--through URL`: whether a stream passes what stands in front of the gateway as it is sent.

use std::time::{Duration, SystemTime};

use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, DATE, HOST,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use ssegate::config::Settings;
use ssegate::http_client::{ClientResponse, HttpClient};
use ssegate::route::{Matched, Router, Target};
use ssegate_hub::StreamSettings;
use tokio::time::Instant;

use super::arrival::Arrival;
use super::clock::ClockSample;
use super::finding::Finding;
use crate::cli::sub::target;
use crate::cli::trust;

/// How long the header may take, and then the first bytes: the gateway sends both at once.
const LIMIT: Duration = Duration::from_secs(5);
/// What a keep-alive comment may be late by.
const SLACK: Duration = Duration::from_secs(3);

const UNBUFFER: &str = "let it pass streams on at once: nginx: no proxy_ignore_headers X-Accel-Buffering, or \
                        proxy_buffering off; others: docs/TROUBLESHOOTING.md, \"Everything comes at once, or late\"";

/// Opens a stream through `url`, which is what a browser would use, and says how it came.
pub(super) async fn findings(
    settings: &Settings,
    (url, headers): (&Uri, &HeaderMap),
    insecure: bool,
) -> (Vec<Finding>, Option<ClockSample>) {
    let about = format!("through {url}");
    let client = HttpClient::new(move || trust::tls_client(insecure), LIMIT);
    let (start, sent) = (Instant::now(), SystemTime::now());
    let opening = client.get(url, with_defaults(headers.clone()));
    let response = match tokio::time::timeout(2 * LIMIT, opening).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            let mend =
                "does the name lead to this machine, and does what stands in front listen there?";
            return (vec![Finding::error(about, error.to_string(), mend)], None);
        }
        Err(_elapsed) => return (vec![no_header(settings, url, headers, about).await], None),
    };
    let date = response.http.headers().get(DATE);
    let clock = ClockSample::new(&url.to_string(), date, (sent, SystemTime::now()));
    let keep_alive = keep_alive(settings, url);
    (of_response(about, url, response, (start, keep_alive)).await, clock)
}

fn with_defaults(mut headers: HeaderMap) -> HeaderMap {
    // As browsers do: what stands in front may compress only for those who ask for it.
    let codings = (ACCEPT_ENCODING, "gzip, deflate, br, zstd");
    for (name, value) in [(ACCEPT, "text/event-stream"), (CACHE_CONTROL, "no-cache"), codings] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers
}

/// How long the streams at this path are quiet at most, if what stands in front does not change the path.
fn keep_alive(settings: &Settings, url: &Uri) -> Duration {
    let default = StreamSettings::default().keep_alive;
    let Ok(router) = Router::new(&settings.routes, None) else { return default };
    let host = url.host().map(str::to_ascii_lowercase);
    match router.find(host.as_deref(), url.path(), &Method::GET, None) {
        Matched::Route(route, _) => match &settings.routes[route.index].target {
            Target::Events(events) => events.stream.keep_alive,
            _ => default,
        },
        _ => default,
    }
}

/// The finding when not even the header came. Requests it from the gateway directly, to find out which side is slow.
async fn no_header(settings: &Settings, url: &Uri, headers: &HeaderMap, about: String) -> Finding {
    let found = "no header of the stream came, not even after ten seconds";
    match directly(settings, url, headers).await {
        Some(time) => Finding::error(
            about,
            format!(
                "{found}, while the gateway itself sends it after {time:.1?}: something in front buffers it"
            ),
            UNBUFFER,
        ),
        None => Finding::error(
            about,
            format!("{found}; nor does the gateway itself respond at this path"),
            "is the gateway running, and is it a path of a stream?",
        ),
    }
}

/// How long the gateway itself takes to send the header of the same stream, at the first listener that has it.
async fn directly(settings: &Settings, url: &Uri, headers: &HeaderMap) -> Option<Duration> {
    for listener in settings.listeners.iter().filter(|listener| listener.address.port() != 0) {
        if let Some(time) = at_origin(&target::origin(listener), url, headers).await {
            return Some(time);
        }
    }
    None
}

async fn at_origin(origin: &str, url: &Uri, headers: &HeaderMap) -> Option<Duration> {
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let direct: Uri = format!("{origin}{path}").parse().ok()?;
    let mut headers = with_defaults(headers.clone());
    // Its route may be for the public name.
    if let Some(host) = url.host().and_then(|host| HeaderValue::from_str(host).ok()) {
        headers.insert(HOST, host);
    }
    // The certificate is for the public name.
    let client = HttpClient::new(|| trust::tls_client(true), LIMIT);
    let start = Instant::now();
    let response = tokio::time::timeout(LIMIT, client.get(&direct, headers)).await.ok()?.ok()?;
    (response.http.status() == StatusCode::OK).then(|| start.elapsed())
}

async fn of_response(
    about: String,
    url: &Uri,
    mut response: ClientResponse,
    (start, keep_alive): (Instant, Duration),
) -> Vec<Finding> {
    let (status, version) = (response.http.status(), response.http.version());
    let header = |name| response.http.headers().get(name).and_then(|value| value.to_str().ok());
    let kind = header(CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
    let coding = header(CONTENT_ENCODING).map(str::to_owned);
    if status != StatusCode::OK || !kind.starts_with("text/event-stream") {
        let found = format!("no stream: {status}, Content-Type {kind:?}");
        let mend = "give the public address of a stream; -H sends a credential";
        return vec![Finding::error(about, found, mend)];
    }
    let mut findings = vec![protocol(&about, url, version)];
    if let Some(coding) = coding.filter(|coding| !coding.eq_ignore_ascii_case("identity")) {
        let found = format!("the stream comes with Content-Encoding: {coding}");
        let mend =
            "exclude text/event-stream from compression: compressors wait until they have enough";
        findings.push(Finding::error(about.clone(), found, mend));
    }
    // The beginning, and one comment or event.
    let is_enough = |arrival: &Arrival| arrival.later(apart(keep_alive)).is_some();
    let watched = (LIMIT.max(keep_alive + SLACK), is_enough);
    let arrival = Arrival::watch(response.http.body_mut(), start, watched).await;
    findings.push(judge(about, &arrival, keep_alive));
    findings
}

fn protocol(about: &str, url: &Uri, version: Version) -> Finding {
    let is_tls = url.scheme_str() == Some("https");
    match (version, is_tls) {
        (Version::HTTP_2, _) => {
            Finding::ok(about, "HTTP/2: all streams of a page share one connection")
        }
        (_, true) => Finding::warning(
            about,
            "HTTP/1.1: a browser opens at most six streams over all its tabs",
            "let what stands in front speak HTTP/2 (nginx: http2 on)",
        ),
        (_, false) => Finding::warning(
            about,
            "no TLS, so browsers speak HTTP/1.1, and open at most six streams over all their tabs",
            "serve it over https://",
        ),
    }
}

/// The gateway sends the beginning of a stream at once, and a comment whenever it was quiet for `keep_alive`.
fn judge(about: String, arrival: &Arrival, keep_alive: Duration) -> Finding {
    if let Some((end, why)) = &arrival.end {
        let why = why.as_deref().unwrap_or("the stream was ended");
        return Finding::error(
            about,
            format!("the stream broke off after {end:.1?}: {why}"),
            "what stands in front may close what is quiet, or limit the time of a response: raise its limits \
             (nginx: proxy_read_timeout) above sse.keep_alive",
        );
    }
    let Some(first) = arrival.first() else {
        let found = "the stream is open, but nothing of it comes: it is buffered";
        return Finding::error(about, found, UNBUFFER);
    };
    if first > SLACK {
        let found =
            format!("the first bytes came {first:.1?} after the request: they are buffered");
        return Finding::error(about, found, UNBUFFER);
    }
    match arrival.later(apart(keep_alive)) {
        Some(later) => Finding::ok(
            about,
            format!(
                "unbuffered: the first bytes came after {first:.1?}, the next {:.1?} later",
                later - first
            ),
        ),
        None => Finding::error(
            about,
            format!(
                "no comment came within {:?}, though one is sent each {keep_alive:?}",
                keep_alive + SLACK
            ),
            UNBUFFER,
        ),
    }
}

/// What arrives this much later than the first bytes was not part of the beginning of the stream.
fn apart(keep_alive: Duration) -> Duration {
    (keep_alive / 2).min(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::arrival::Arrival;
    use super::super::finding::FindingLevel;
    use super::judge;

    #[test]
    fn a_stream_that_is_held_back_is_an_error() {
        let at = Duration::from_millis;
        for (parts, end, level, said) in [
            (&[20, 1020][..], None, FindingLevel::Ok, "unbuffered: the first bytes came after 20"),
            (&[], None, FindingLevel::Error, "nothing of it comes: it is buffered"),
            (&[20, 40], None, FindingLevel::Error, "no comment came within 18s"),
            (&[9000, 9001], None, FindingLevel::Error, "the first bytes came 9"),
            (&[20], Some(500), FindingLevel::Error, "the stream broke off after 500"),
        ] {
            let arrival = Arrival {
                head: at(10),
                parts: parts.iter().map(|&part| (at(part), 10)).collect(),
                end: end.map(|end| (at(end), None)),
            };
            let finding = judge("through".into(), &arrival, Duration::from_secs(15));
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.found.contains(said), "{finding:?}");
        }
    }
}
