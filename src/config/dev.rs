//! The settings of `ssegate dev`, which needs no configuration file and no Redis.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ssegate_bus::BusSettings;

use super::global::GlobalSettings;
use super::resolve::DEFAULT_ADMIN;
use super::settings::Settings;
use super::stream_options::StreamOptions;
use crate::admin::AdminSettings;
use crate::route::{
    CorsSettings, ProxySettings, RouteSettings, ServerChoice, ServerList, Target, UpstreamAddress,
};
use crate::server::{ListenerSettings, TlsSettings};
use crate::source::fleet::FleetSettings;
use crate::source::{SourceLocation, SourceSettings};

impl Settings {
    /// The settings of `ssegate dev`. Every listener is on the loopback interface: HTTPS with a
    /// self-signed certificate on port 8443, plain HTTP on 8080, the embedded bus on 6380.
    /// `/events?channel=…` and `/events/{channel}` are streams. All other paths go to the backend `to`
    /// (see [`upstream`](super::upstream)), or show the demo page without one.
    pub fn dev(to: Option<UpstreamAddress>) -> Self {
        let global = GlobalSettings::default();
        Self {
            shards: global.shards,
            listeners: vec![
                ListenerSettings {
                    address: local(8443),
                    tls: Some(TlsSettings::SelfSigned),
                    proxy_protocol: false,
                },
                ListenerSettings { address: local(8080), tls: None, proxy_protocol: false },
            ],
            connections: global.connections,
            secrets: Vec::new(),
            admin: Some(AdminSettings {
                address: DEFAULT_ADMIN,
                hosts: Vec::new(),
                auth: None,
                page_publishes: true,
            }),
            source: SourceSettings {
                location: SourceLocation::Embedded(local(6380)),
                further: Vec::new(),
                servers: ServerList::default(),
                max_event_bytes: global.max_event_bytes,
                max_bus_memory: BusSettings::default().max_memory,
                max_bus_streams: BusSettings::default().max_stream_bytes,
                recorded: crate::source::recorded::RecordedSettings::default(),
                fleet: Some(FleetSettings::default()),
                node_fleet: None,
            },
            hub: global.hub,
            requests: global.requests,
            revocation: None,
            routes: vec![
                route("/events", events("{query.channel}")),
                route("/events/{channel}", events("{channel}")),
                route("/{*rest}", to.map_or(Target::Demo, proxy)),
            ],
            drain: global.drain,
            drain_delay: global.drain_delay,
            log: global.log,
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
        auth: None,
        cors: CorsSettings::default(),
        handover: None,
        keep: None,
        share: None,
        presence: None,
    })
}

fn events(channel: &str) -> Target {
    let place = (String::new(), ServerChoice::First);
    Target::Events(StreamOptions::default().events(vec![channel.to_owned()], place))
}

fn proxy(upstream: UpstreamAddress) -> Target {
    Target::Proxy(ProxySettings::new(vec![upstream]))
}
