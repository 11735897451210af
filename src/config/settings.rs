//! The resolved configuration: what the gateway starts with.

use std::sync::Arc;
use std::time::Duration;

use ssegate_hub::HubSettings;
use ssegate_strict_yaml::KeyLocation;

use crate::admin::AdminSettings;
use crate::auth::RevocationSettings;
use crate::log::LogSettings;
use crate::route::RouteSettings;
use crate::server::{ConnectionSettings, ListenerSettings};
use crate::service::RequestSettings;
use crate::source::SourceSettings;

/// The resolved configuration: gateway.yaml with every default filled in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads that serve connections; at least 1.
    pub shards: usize,
    /// The addresses that clients connect to.
    pub listeners: Vec<ListenerSettings>,
    /// Limits and timeouts of client connections.
    pub connections: ConnectionSettings,
    /// The listener for metrics and health checks; `None`: closed.
    pub admin: Option<AdminSettings>,
    /// The Redis, or embedded bus, that events come from.
    pub source: SourceSettings,
    /// Limits over all channels.
    pub hub: HubSettings,
    /// Limits of every request.
    pub requests: RequestSettings,
    /// How credentials are revoked; `None`: not at all.
    pub revocation: Option<RevocationSettings>,
    /// The routes, in the order of the file.
    // One allocation each. A single block for thousands of routes would, once freed, raise glibc's
    // M_MMAP_THRESHOLD, and memory would no longer be returned to the system (mallopt(3)).
    pub routes: Vec<Arc<RouteSettings>>,
    /// Where the file has secrets.
    pub secrets: Vec<KeyLocation>,
    /// Duration of a graceful shutdown: streams are closed evenly over it, and requests may finish.
    pub drain: Duration,
    /// How long before the drain new clients are still accepted, and their streams closed at once with
    /// a `retry`.
    pub drain_delay: Duration,
    /// The log and the access log.
    pub log: LogSettings,
}
