//! Whether each backend is reachable, shows a certificate that is accepted, and speaks HTTP.

use std::time::{Duration, SystemTime};

use http::header::DATE;
use http::{HeaderMap, Method, StatusCode, Uri};
use ssegate::auth::MethodSettings;
use ssegate::config::Settings;
use ssegate::route::{ProxySettings, Target, UpstreamAddress, UpstreamTls};
use tokio::task::JoinSet;

use super::clock::ClockSample;
use super::exchange::{Backend, ExchangeError};
use super::finding::Finding;

/// For connecting, TLS and the response together.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// How many backends are tried at the same time.
const MAX_AT_ONCE: usize = 16;

/// The backends of all routes, those that decide who may, and those that take webhooks, without duplicates.
pub(super) fn backends(settings: &Settings) -> Vec<Backend> {
    let mut backends: Vec<Backend> = Vec::new();
    let mut add = |backend: Backend| {
        let is_same = |other: &Backend| {
            (&other.address, &other.tls, other.is_http2, &other.host)
                == (&backend.address, &backend.tls, backend.is_http2, &backend.host)
        };
        if !backends.iter().any(is_same) {
            backends.push(backend);
        }
    };
    for (index, route) in settings.routes.iter().enumerate() {
        if let Target::Proxy(proxy) = &route.target {
            of_proxy(index, proxy).for_each(&mut add);
        }
        for method in route.auth.iter().flat_map(|auth| auth.methods()) {
            let MethodSettings::Forward(forward) = method else { continue };
            add(Backend {
                key: format!("auth.forward.url of routes[{index}]"),
                address: forward.upstream.clone(),
                tls: forward.tls.clone(),
                is_http2: false,
                host: None,
            });
        }
        let presence = route.presence.as_deref();
        for (name, webhook) in [
            ("on_occupied", presence.and_then(|it| it.on_occupied.as_deref())),
            ("on_vacated", presence.and_then(|it| it.on_vacated.as_deref())),
        ] {
            let Some(address) = webhook.and_then(|webhook| address_of(&webhook.url)) else {
                continue;
            };
            let key = format!("routes[{index}].presence.{name}");
            add(Backend { key, address, tls: UpstreamTls::default(), is_http2: false, host: None });
        }
    }
    backends
}

/// Where the server of this URL is.
fn address_of(url: &Uri) -> Option<UpstreamAddress> {
    let is_tls = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let host = url.host()?.trim_matches(['[', ']']).to_owned();
    Some(UpstreamAddress::Tcp { host, port, is_tls })
}

/// The upstreams of a proxy route.
pub(super) fn of_proxy(index: usize, proxy: &ProxySettings) -> impl Iterator<Item = Backend> {
    proxy.upstreams.iter().map(move |address| Backend {
        key: format!("routes[{index}].proxy"),
        address: address.clone(),
        tls: proxy.tls.clone(),
        is_http2: proxy.is_http2,
        host: proxy.host.clone(),
    })
}

/// Tries each backend with `HEAD /`, which has no effects (RFC 9110, section 9.2.1). Also returns what time they have.
pub(super) async fn findings(settings: &Settings) -> (Vec<Finding>, Vec<ClockSample>) {
    let mut waiting = backends(settings).into_iter().enumerate();
    let mut trying = JoinSet::new();
    let mut tried = Vec::new();
    loop {
        while trying.len() < MAX_AT_ONCE
            && let Some((index, backend)) = waiting.next()
        {
            trying.spawn(async move { (index, finding(&backend).await) });
        }
        match trying.join_next().await {
            Some(ended) => tried.push(ended.expect("the tasks neither panic nor are aborted")),
            None => break,
        }
    }
    // In the order of the file, whoever responded first.
    tried.sort_by_key(|(index, _)| *index);
    let (findings, clocks): (Vec<_>, Vec<_>) = tried.into_iter().map(|(_, found)| found).unzip();
    (findings, clocks.into_iter().flatten().collect())
}

async fn finding(backend: &Backend) -> (Finding, Option<ClockSample>) {
    let about = format!("upstream {}", backend.address);
    let sent = SystemTime::now();
    let response = match backend.exchange(Method::HEAD, "/", HeaderMap::new(), LIMIT).await {
        Ok(response) => response,
        Err(error) => return (failure(about, backend, error), None),
    };
    let date = response.http.headers().get(DATE);
    let clock = ClockSample::new(&backend.address.to_string(), date, (sent, SystemTime::now()));
    let status = response.http.status();
    let protocol = if backend.is_http2 { "HTTP/2" } else { "HTTP/1.1" };
    let unverified = match backend.tls.is_unverified && backend.address.is_tls() {
        true => "; its certificate is not verified (insecure_skip_verify)",
        false => "",
    };
    let found = format!("responds {status} to HEAD / over {protocol}{unverified}");
    let finding = match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Finding::warning(
                about,
                found,
                "it is there, but what it needs itself is not: see its log",
            )
        }
        _ if !unverified.is_empty() => Finding::warning(
            about,
            found,
            format!("name its authority with {}.tls.ca instead", backend.key),
        ),
        _ => Finding::ok(about, found),
    };
    (finding, clock)
}

/// What is wrong, and what to do, by the step that failed.
pub(super) fn failure(about: String, backend: &Backend, error: ExchangeError) -> Finding {
    let key = &backend.key;
    match error {
        ExchangeError::Connect(why) => Finding::error(
            about,
            format!("cannot connect: {why}"),
            format!("start it, or correct {key}; does a firewall let this machine through?"),
        ),
        ExchangeError::Tls(why) => Finding::error(
            about,
            format!("TLS fails: {why}"),
            format!(
                "set {key}.tls.ca to its authority, {key}.tls.server_name to its name, or use http://"
            ),
        ),
        ExchangeError::Http(why) => Finding::error(
            about,
            format!("no HTTP response: {why}"),
            format!("is it HTTP that this port speaks, and {key} right about TLS and http2?"),
        ),
    }
}
