//! What a terminal shows at the start: what is open where, and something to try.

use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, SocketAddr};

use ssegate::config::Settings;
use ssegate::route::{RouteSettings, Target};
use ssegate::source::SourceLocation;

use super::output;
use super::sub::target;

/// Shows it on a terminal. On a pipe the log tells the same, for machines.
pub(super) fn show(settings: &Settings) {
    if io::stderr().is_terminal() {
        output::to_stderr(text(settings));
    }
}

fn text(settings: &Settings) -> String {
    let mut text = format!("ssegate {}\n\n", env!("CARGO_PKG_VERSION"));
    let mut row = |name: &str, value: &str| text.push_str(&format!("  {name:<9} {value}\n"));
    let is_demo = |route: &RouteSettings| matches!(route.target, Target::Demo);
    let name = if settings.routes.iter().any(is_demo) { "demo" } else { "open" };
    for url in settings.listeners.iter().map(target::origin) {
        row(name, &format!("{url}/"));
    }
    if let Some(url) = target::of_channel("news", settings) {
        row("stream", &url.to_string());
    }
    if let Some(admin) = &settings.admin {
        row("admin", &format!("http://{}/", admin.address));
    }
    row("events", &format!("from {:?}", settings.source.location));
    for route in &settings.routes {
        if let Target::Proxy(proxy) = &route.target {
            let upstreams: Vec<_> = proxy.upstreams.iter().map(ToString::to_string).collect();
            row("the rest", &format!("{} -> {}", route.path, upstreams.join(", ")));
        }
    }
    text.push_str("\nTry it:  ");
    text.push_str(&try_it(&settings.source.location));
    text.push('\n');
    text
}

fn try_it(location: &SourceLocation) -> String {
    match location {
        SourceLocation::Embedded(address) => redis_cli(*address),
        SourceLocation::Redis(_) => "ssegate pub news hello".into(),
    }
}

fn redis_cli(bus: SocketAddr) -> String {
    let is_default = bus.ip() == Ipv4Addr::LOCALHOST || bus.ip().is_unspecified();
    let host = if is_default { String::new() } else { format!("-h {} ", bus.ip()) };
    format!("redis-cli {host}-p {} PUBLISH news hello", bus.port())
}

#[cfg(test)]
mod tests {
    use ssegate::config::Settings;

    use super::text;

    #[test]
    fn a_newcomer_sees_urls_and_a_command() {
        let text = text(&Settings::dev(None));
        for part in [
            "https://127.0.0.1:8443/\n",
            "https://127.0.0.1:8443/events/news\n",
            "http://127.0.0.1:9464/\n",
            "redis-cli -p 6380 PUBLISH news hello\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
