//! gateway.yaml: from the text to the settings that each stage declares.

mod stand_in;

pub use stand_in::{ConfigErrors, load, schema, upstream};

use std::time::Duration;

use crate::admin::AdminSettings;
use crate::hub::HubSettings;
use crate::route::RouteSettings;
use crate::server::{ConnectionSettings, ListenerSettings};
use crate::source::SourceSettings;

/// Everything that gateway.yaml says, resolved.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads that serve connections; at least 1.
    pub shards: usize,
    /// Where clients connect.
    pub listeners: Vec<ListenerSettings>,
    /// Bounds and waits of their connections.
    pub connections: ConnectionSettings,
    /// Where operators look.
    pub admin: Option<AdminSettings>,
    /// Where events come from.
    pub source: SourceSettings,
    /// Bounds over all channels.
    pub hub: HubSettings,
    /// Which request leads where, in the order of the file.
    pub routes: Vec<RouteSettings>,
    /// How long an orderly stop may take.
    pub drain: Duration,
}
