//! What the tasks of a source are started with, for Redis and for the embedded bus.

use ssegate_hub::Hub;
use tokio::sync::mpsc;

use super::revoking::ControlParts;
use super::tasks::Tasks;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::service::KeptStreams;
use crate::source::SourceSettings;
use crate::source::fleet::FleetSettings;
use crate::source::presence::Presence;
use crate::source::publishing::PublicationJob;
use crate::source::recorded::RecordingEnd;
use crate::webhook::Webhooks;

/// What the tasks of a source are started with.
pub(super) struct SourceParts {
    pub(super) source: SourceSettings,
    /// The fleet at this server; `None`: the gateway is on its own.
    pub(super) fleet: Option<FleetSettings>,
    /// The fleet at the nodes of a Cluster.
    pub(super) node_fleet: Option<FleetSettings>,
    pub(super) publications: mpsc::Receiver<PublicationJob>,
    pub(super) hub: Hub,
    pub(super) control: Option<ControlParts>,
    /// `None` at servers other than the first.
    pub(super) presence: Option<Presence>,
    pub(super) recording_ends: [RecordingEnd; 2],
    pub(super) kept: KeptStreams,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
}

impl SourceParts {
    /// Starts what sends webhooks.
    pub(super) fn start_webhooks(&self, tasks: &mut Tasks) -> Webhooks {
        let (webhooks, sender) = Webhooks::new(self.health.clone(), self.metrics.clone());
        tasks.spawn("the webhooks", sender.run());
        webhooks
    }
}
