//! The settings of `ssegate dev`, which needs no configuration file and no Redis.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::admin::AdminSettings;
use crate::event::Format;
use crate::hub::HubSettings;
use crate::route::{
    CorsSettings, EventsSettings, EventsSource, ProxySettings, RouteSettings, Target,
    UpstreamAddress,
};
use crate::server::{ConnectionSettings, ListenerSettings, TlsSettings};
use crate::service::RequestSettings;
use crate::source::embedded::BusSettings;
use crate::source::{SourceLocation, SourceSettings};

use super::Settings;
use super::resolve::{DEFAULT_ADMIN, DRAIN, StreamDefaults, default_shards};

impl Settings {
    /// The settings of `ssegate dev`. Every listener is on the loopback interface: HTTPS with a
    /// self-signed certificate on port 8443, plain HTTP on 8080, the embedded bus on 6380.
    /// `/events?channel=…` and `/events/{channel}` are streams. All other paths go to the backend `to`
    /// (see [`upstream`](super::upstream)), or show the demo page without one.
    pub fn dev(to: Option<UpstreamAddress>) -> Self {
        let bus = BusSettings::default();
        Self {
            shards: default_shards(),
            listeners: vec![
                ListenerSettings {
                    address: local(8443),
                    tls: Some(TlsSettings::SelfSigned),
                    proxy_protocol: false,
                },
                ListenerSettings { address: local(8080), tls: None, proxy_protocol: false },
            ],
            connections: ConnectionSettings::default(),
            admin: Some(AdminSettings { address: DEFAULT_ADMIN, hosts: Vec::new() }),
            source: SourceSettings {
                location: SourceLocation::Embedded(local(6380)),
                max_event_bytes: bus.max_event_bytes,
                max_bus_memory: bus.max_memory,
            },
            hub: HubSettings::default(),
            requests: RequestSettings::default(),
            routes: vec![
                route("/events", events("{query.channel}")),
                route("/events/{channel}", events("{channel}")),
                route("/{*rest}", to.map_or(Target::Demo, proxy)),
            ],
            drain: DRAIN,
            drain_delay: Duration::ZERO,
        }
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn route(path: &str, target: Target) -> Arc<RouteSettings> {
    Arc::new(RouteSettings {
        path: path.to_owned(),
        host: None,
        methods: Vec::new(),
        target,
        cors: CorsSettings::default(),
        handover: None,
    })
}

fn events(channel: &str) -> Target {
    let defaults = StreamDefaults::default();
    Target::Events(EventsSettings {
        channels: vec![channel.to_owned()],
        format: Format::default(),
        source: EventsSource::PubSub,
        history: defaults.history,
        strip_prefix: String::new(),
        patterns: false,
        max_channels: defaults.max_channels,
        ready: defaults.ready,
        stream: defaults.stream(),
    })
}

fn proxy(upstream: UpstreamAddress) -> Target {
    Target::Proxy(ProxySettings::new(vec![upstream]))
}
