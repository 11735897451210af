//! The settings that belong to no listener or route.

use std::thread::available_parallelism;
use std::time::Duration;

use ssegate_bus::BusSettings;
use ssegate_hub::{HubSettings, MAX_SHARDS};

use crate::log::LogSettings;
use crate::server::ConnectionSettings;
use crate::service::RequestSettings;

/// The settings of the whole gateway, with their defaults.
#[derive(Clone, Debug)]
pub(super) struct GlobalSettings {
    /// See [`Settings::shards`](super::settings::Settings::shards).
    pub(super) shards: usize,
    pub(super) connections: ConnectionSettings,
    pub(super) hub: HubSettings,
    pub(super) requests: RequestSettings,
    /// The default of a route's `max_body`, in bytes; `None`: no limit.
    pub(super) max_body: Option<u64>,
    /// The largest message from the source, in bytes.
    pub(super) max_event_bytes: usize,
    /// See [`Settings::drain`](super::settings::Settings::drain).
    pub(super) drain: Duration,
    /// See [`Settings::drain_delay`](super::settings::Settings::drain_delay).
    pub(super) drain_delay: Duration,
    pub(super) log: LogSettings,
}

impl Default for GlobalSettings {
    fn default() -> Self {
        Self {
            shards: available_parallelism().map_or(1, usize::from).min(MAX_SHARDS),
            connections: ConnectionSettings::default(),
            hub: HubSettings::default(),
            requests: RequestSettings::default(),
            max_body: None,
            max_event_bytes: BusSettings::default().max_event_bytes,
            drain: Duration::from_secs(10),
            drain_delay: Duration::ZERO,
            log: LogSettings::default(),
        }
    }
}
