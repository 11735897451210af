//! The banner that `run` and `dev` print in a terminal: the open addresses and two commands to try.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use ssegate::config::Settings;
use ssegate::route::{RouteSettings, Target};

use super::output;
use super::sub::target;

/// Prints the banner if stderr is a terminal; on a pipe the log has the same facts as JSON.
/// `publish` holds the arguments that `ssegate pub news hello` needs to reach this gateway; `None`
/// if there are none that would.
pub(super) fn show(settings: &Settings, publish: Option<&str>) {
    if io::stderr().is_terminal() {
        let program = std::env::args().next().unwrap_or_else(|| "ssegate".into());
        output::to_stderr(text(settings, &program, publish));
    }
}

fn text(settings: &Settings, program: &str, publish: Option<&str>) -> String {
    let mut text = format!("ssegate {}\n\n", env!("SSEGATE_VERSION"));
    let mut row = |name: &str, value: &str| text.push_str(&format!("  {name:<9} {value}\n"));
    let is_demo = |route: &Arc<RouteSettings>| matches!(route.target, Target::Demo);
    let name = if settings.routes.iter().any(is_demo) { "demo" } else { "open" };
    for url in settings.listeners.iter().map(target::origin) {
        row(name, &format!("{url}/"));
    }
    if let Some(url) = target::url_of_channel("news", settings) {
        row("stream", &url.to_string());
    }
    if let Some(admin) = &settings.admin {
        row("admin", &format!("http://{}/", admin.address));
    }
    row("events", &format!("from {:?}", settings.source.location));
    for route in &settings.routes {
        if let Target::Proxy(proxy) = &route.target {
            let upstreams: Vec<_> = proxy.upstreams.iter().map(ToString::to_string).collect();
            row("proxy", &format!("{} -> {}", route.path, upstreams.join(", ")));
        }
    }
    let commands = [
        target::url_of_channel("news", settings).map(|url| format!("{program} sub {url}")),
        publish.map(|more| format!("{program} pub news hello {more}").trim_end().to_owned()),
    ];
    let mut lead = "\nTry it in two terminals:\n\n";
    for command in commands.into_iter().flatten() {
        text.push_str(&format!("{lead}  {command}\n"));
        lead = "";
    }
    text
}

#[cfg(test)]
mod tests {
    use ssegate::config::Settings;

    use super::text;

    #[test]
    fn the_banner_has_urls_and_commands_to_try() {
        let text = text(&Settings::dev(None), "target/release/ssegate", Some("-c x.yaml"));
        for part in [
            "https://127.0.0.1:8443/\n",
            "https://127.0.0.1:8443/events/news\n",
            "http://127.0.0.1:9464/\n",
            "target/release/ssegate sub https://127.0.0.1:8443/events/news\n",
            "target/release/ssegate pub news hello -c x.yaml\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
