//! Resolves the parsed file to the settings of the stages, and notes every mistake.
//!
//! Owns what the keys of the file cannot declare by themselves: required keys, values that are parsed or
//! depend on each other, and values that exclude each other. After a mistake the default is used, so that one
//! run finds all mistakes.

mod auth;
mod authority;
mod basic;
mod cluster_url;
mod files;
mod fleet;
mod follow;
mod forward_auth;
mod handover;
mod header_name;
mod host_list;
mod jwks;
mod keep;
mod limits;
mod listen_addresses;
mod listeners;
mod matches;
mod positions;
mod presence;
mod proxy;
mod publish;
mod recorded;
mod redis_url;
mod resolver;
mod revocation;
mod routes;
mod secret;
mod sentinel_url;
mod servers;
mod share;
mod source;
mod streams;
mod template;
mod tls;
mod upstream_address;

use std::cell::RefCell;
use std::path::Path;

use listen_addresses::ListenAddresses;
use resolver::{ResolvedServers, Resolver, SourceOrder};
use ssegate_strict_yaml::{KeyLocation, Mistakes, Sets as _};

use super::file::File;
use super::global::GlobalSettings;
use super::purpose::ConfigPurpose;
use super::settings::Settings;
use super::stream_options::StreamOptions;

pub(crate) use listen_addresses::reaches;
pub(super) use listeners::DEFAULT_ADMIN;
pub use revocation::{control_channel, control_key};
pub use source::location;
pub use upstream_address::upstream;

/// Resolves `file`. Relative paths start at `directory`. Returns `None` after a mistake that leaves no
/// usable settings; other mistakes are only noted.
pub(super) fn resolve(
    file: File,
    purpose: ConfigPurpose,
    directory: &Path,
    mistakes: &Mistakes,
) -> Option<Settings> {
    let mut global = GlobalSettings::default();
    file.set(&mut global, &KeyLocation::default(), mistakes);
    file.limits.set(&mut global, mistakes);
    let mut sse = StreamOptions::default();
    file.sse.set(&mut sse, mistakes);
    let mut resolver = Resolver {
        mistakes,
        purpose,
        directory,
        addresses: ListenAddresses::default(),
        trusts_no_proxy: true,
        order: SourceOrder::Unused,
        servers: ResolvedServers::default(),
        max_body: global.max_body,
        max_header_bytes: 0,
        secrets: RefCell::default(),
    };
    resolver.check_http1(&file.http1, &global.connections.http1);
    resolver.resolve_http2(&file.http2, &mut global.connections.http2);
    resolver.max_header_bytes = limits::max_header_bytes(&global.connections);
    global.connections.trusted_proxies = resolver.trusted_proxies(file.trusted_proxies);
    global.requests.trusted_proxies = global.connections.trusted_proxies.clone();
    global.requests.per_client = global.connections.per_client;
    // This order decides which of two equal addresses is reported as a duplicate.
    let listeners = resolver.listeners(file.listeners);
    let admin = resolver.admin(file.admin);
    let limits = file.limits.or_default();
    let bus = (&limits.bus_memory, &limits.bus_streams);
    let fleet = resolver.fleet(file.fleet);
    let recorded = resolver.recorded(file.recorded);
    let gateways = (fleet, recorded);
    let source = resolver.source(file.redis, (global.max_event_bytes, gateways), bus);
    let auth = resolver.auth(file.auth, &Some(None));
    let revocation = resolver.revocation(file.revocation);
    Some(Settings {
        shards: global.shards,
        listeners,
        connections: global.connections,
        admin,
        hub: global.hub,
        requests: global.requests,
        revocation,
        routes: resolver.routes(file.routes, &sse, &auth),
        // Those of all keys above.
        secrets: resolver.secrets.into_inner(),
        drain: global.drain,
        drain_delay: global.drain_delay,
        log: global.log,
        // Last, so that the mistakes in all other keys are noted first.
        source: source?,
    })
}
