//! Where the messages of a pub/sub connection go, and where its state is reported.
//!
//! Outlives the connections, one after the other; knows nothing of how they are opened.

use std::rc::Rc;

use ssegate_hub::Hub;

use super::check::PubSubState;
use super::error::SourceError;
use super::fleet::FleetMember;
use super::retry::FailureLog;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::source::intake::Intake;

/// Feeds the hub from one pub/sub connection after the other.
#[derive(Debug)]
pub(super) struct PubSubFeed {
    pub(super) hub: Hub,
    pub(super) intake: Intake,
    // `None`: this gateway is on its own.
    pub(super) fleet: Option<FleetMember>,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    pub(super) state: Rc<PubSubState>,
    pub(super) failures: FailureLog,
}

impl PubSubFeed {
    /// The connection was lost: everything is subscribed again on the next one.
    pub(super) fn lose(&mut self, error: &SourceError) {
        self.intake.flush();
        if let Some(fleet) = &mut self.fleet {
            fleet.lose();
        }
        self.hub.lose();
        self.health.set_source_ready(false);
        self.metrics.source_connected(false);
        self.failures.report(error, "lost the connection to Redis");
    }
}
