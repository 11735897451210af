//! The second hub, whose channels are streams of backends that readers share.

use ssegate_hub::{Hub, HubSettings, ShardLink};

use super::tasks::Tasks;
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::service::{SharedPieces, SharedSource, SharedStreams};

/// What feeds the hub of shared streams.
pub(super) struct SharedParts {
    pub(super) streams: SharedStreams,
    pub(super) hub: Hub,
    pieces: SharedPieces,
    metrics: Metrics,
}

impl SharedParts {
    /// The hub, and one link for each shard.
    pub(super) fn new(settings: &Settings, metrics: &Metrics) -> (Self, Vec<ShardLink>) {
        let (streams, pieces) = SharedStreams::new(metrics.clone());
        let observer = metrics.for_shared_hub();
        let (hub, links) = Hub::new(hub_settings(&settings.hub), settings.shards, observer);
        (Self { streams, hub, pieces, metrics: metrics.clone() }, links)
    }

    /// Starts the hub and its source.
    pub(super) fn start(self, tasks: &mut Tasks) {
        let Self { streams, hub, pieces, metrics } = self;
        let source = SharedSource::new(hub.clone(), (streams, pieces), metrics);
        tasks.spawn("the hub of shared streams", async move { hub.run().await });
        tasks.spawn("the source of shared streams", source.run());
    }
}

/// The same bounds as for the events routes, a second time. The number of channels is bounded by `share` of each
/// route.
pub(super) fn hub_settings(events: &HubSettings) -> HubSettings {
    let HubSettings { history_memory, queue_memory, .. } = *events;
    HubSettings { max_channels: usize::MAX, history_memory, queue_memory, ..HubSettings::default() }
}
