//! `ssegate check`: validates gateway.yaml and prints a summary of it.

use clap::Args;
use ssegate::config::{Settings, Text};
use ssegate::gateway;
use ssegate::route::Target;

use super::config::ConfigFile;
use super::count::count;
use super::{CliError, connect, output};

/// Check the configuration and print every error in it
///
/// Each error comes with its line, its column and how to fix it. Certificates and keys are loaded
/// as at a start. What would not stop a start, such as a certificate that expires soon, is a
/// warning.
#[derive(Args, Debug)]
pub(crate) struct CheckCommand {
    /// Also connect to Redis, and test whether its ACL permits the channels and streams of the
    /// routes; and fetch the keys of tokens that are at a URL
    #[arg(long)]
    connect: bool,
    /// Print the configuration as understood, as YAML: variables replaced, each default filled in and marked, what sse
    /// says at each route, secrets hidden
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    pub(super) config: ConfigFile,
}

impl CheckCommand {
    pub(super) fn execute(self) -> Result<(), CliError> {
        let (settings, text) = self.config.load()?;
        for warning in
            gateway::inspect(&settings)?.into_iter().chain(self.secrets(&settings, &text))
        {
            output::to_stderr(format_args!("ssegate: warning: {warning}"));
        }
        if self.print {
            output::bytes(text.printed(&settings)?.as_bytes())?;
        } else {
            output::line(format_args!("{}: {}", self.config.path().display(), summary(&settings)))?;
        }
        if self.connect { connect::check(&settings) } else { Ok(()) }
    }

    /// Warns of secrets that others can read.
    fn secrets(&self, settings: &Settings, text: &Text) -> Vec<String> {
        if !self.config.is_readable_by_others() {
            return Vec::new();
        }
        let file = self.config.path().display();
        let written = text.written_secrets(settings).into_iter();
        let warning = |key| {
            format!(
                "{key}: the secret stands in {file}, which others than its owner can read; chmod 600 {file}, or \
                 take it from a variable: ${{NAME}}"
            )
        };
        written.map(warning).collect()
    }
}

fn summary(settings: &Settings) -> String {
    let is_events = |target: &Target| matches!(target, Target::Events(_));
    let events = settings.routes.iter().filter(|route| is_events(&route.target)).count();
    let listeners = settings.listeners.iter().map(|listener| {
        let scheme = if listener.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", listener.address)
    });
    format!(
        "ok: {}; {} and {}; events from {}; admin {}",
        listeners.collect::<Vec<_>>().join(", "),
        count(events, "events route"),
        count(settings.routes.len() - events, "other route"),
        sources(settings),
        settings
            .admin
            .as_ref()
            .map_or_else(|| "off".into(), |admin| format!("http://{}", admin.address)),
    )
}

/// The source of events; with several servers, each with its name.
fn sources(settings: &Settings) -> String {
    let source = &settings.source;
    if source.further.is_empty() {
        return format!("{:?}", source.location);
    }
    let servers = source.redis_servers().into_iter();
    // The text of a server has its name already.
    servers.map(|(_, server)| server.to_string()).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use ssegate::config::{self, Settings};

    use super::summary;

    #[test]
    fn the_summary_names_each_server() {
        const REST: &str =
            "listeners: [address: 127.0.0.1:80]\nroutes: [{path: /a, events: {channels: [a]}}]\n";
        for (redis, expected) in [
            ("{url: redis://r}", "events from r:6379; "),
            (
                "{url: redis://r, named: {orders: redis://o}}",
                "events from url, r:6379 and orders, o:6379; ",
            ),
            ("{shards: [redis://a, redis://b]}", "events from shard0, a:6379 and shard1, b:6379; "),
        ] {
            let yaml = format!("redis: {redis}\n{REST}");
            let settings = config::parse(&yaml, "gateway.yaml", &|_| None).expect("a valid file");
            let line = summary(&settings);
            assert!(line.contains(expected), "{line}");
        }
    }

    #[test]
    fn the_summary_of_a_valid_configuration_is_one_line() {
        let settings = Settings::dev(None);
        let line = summary(&settings);
        assert!(line.starts_with("ok: https://127.0.0.1:8443, http://127.0.0.1:8080; "), "{line}");
        assert!(line.contains("events from embedded://127.0.0.1:6380"), "{line}");
        assert!(!line.contains('\n'));
    }
}
