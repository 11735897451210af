//! What a reload hands to the shards.

use std::sync::Arc;

use tokio::sync::watch;

use crate::route::Router;
use crate::server::ConnectionSettings;
use crate::service::RequestSettings;

/// The part of a new configuration that shards apply.
#[derive(Clone, Debug)]
pub(super) struct ConfigChange {
    pub(super) router: Arc<Router>,
    pub(super) connections: ConnectionSettings,
    pub(super) requests: RequestSettings,
}

/// Sends changes to the shards. Holds the newest; `None` before the first.
pub(super) type ConfigChanges = watch::Sender<Option<ConfigChange>>;
