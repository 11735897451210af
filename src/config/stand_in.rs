//! Stand-in: what the commands need of the configuration, without reading any.

use std::path::Path;
use std::time::Duration;

use super::Settings;
use crate::admin::AdminSettings;
use crate::event::Format;
use crate::hub::{HistorySettings, HubSettings, StreamSettings};
use crate::route::{CorsSettings, EventsSettings, ProxySettings, RouteSettings, Target};
use crate::server::{ConnectionSettings, ListenerSettings, TlsSettings};
use crate::source::{SourceLocation, SourceSettings};

/// Every mistake of a configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigErrors(String);

/// Reads the file at `path`.
pub fn load(path: impl AsRef<Path>) -> Result<Settings, ConfigErrors> {
    let path = path.as_ref();
    match std::fs::read_to_string(path) {
        Ok(text) if text.contains("mistake") => Err(ConfigErrors("a mistake\nanother".into())),
        Ok(_) => Ok(Settings::dev(None)),
        Err(error) => Err(ConfigErrors(format!("{}: {error}", path.display()))),
    }
}

/// A backend: `http://host:port`, or what is wrong with it.
pub fn upstream(text: &str) -> Result<http::Uri, String> {
    let uri: http::Uri = text.parse().map_err(|_| format!("{text:?} is not a URL"))?;
    if uri.scheme_str() == Some("http") { Ok(uri) } else { Err(format!("{text:?} is not HTTP")) }
}

/// The JSON Schema (draft-07) of gateway.yaml.
pub fn schema() -> String {
    "{}".into()
}

impl Settings {
    /// What `ssegate dev` serves, in front of the backend `to`.
    pub fn dev(to: Option<http::Uri>) -> Self {
        let local = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let events = |channel: &str| {
            Target::Events(EventsSettings {
                channels: vec![channel.into()],
                format: Format::Raw,
                history: Some(HistorySettings::default()),
                strip_prefix: String::new(),
                patterns: false,
                max_channels: 100,
                stream: StreamSettings::default(),
            })
        };
        let connect_timeout = Duration::from_secs(2);
        let proxy = |upstream| Target::Proxy(ProxySettings { upstream, connect_timeout });
        let route = |path: &str, target| RouteSettings {
            path: path.into(),
            host: None,
            methods: Vec::new(),
            target,
            cors: CorsSettings::default(),
        };
        Self {
            shards: 1,
            listeners: vec![
                ListenerSettings { address: local(8443), tls: Some(TlsSettings::SelfSigned) },
                ListenerSettings { address: local(8080), tls: None },
            ],
            connections: ConnectionSettings::default(),
            admin: Some(AdminSettings { address: local(9464), hosts: Vec::new() }),
            source: SourceSettings {
                location: SourceLocation::Embedded(local(6380)),
                max_event_bytes: 16 << 20,
            },
            hub: HubSettings::default(),
            routes: vec![
                route("/events", events("{query.channel}")),
                route("/events/{channel}", events("{channel}")),
                route("/{*rest}", to.map_or(Target::Demo, proxy)),
            ],
            drain: Duration::from_secs(30),
        }
    }
}
