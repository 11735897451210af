//! What revoking needs on each thread: the shards, the source and the admin listener.

use ssegate_hub::ChannelName;
use tokio::sync::mpsc;

use crate::admin::Revoking;
use crate::auth::{ControlSettings, RevocationNotice, RevocationSettings, Revocations, SharedAuth};
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::source::SourceLocation;
use crate::source::control::{ControlPublisher, ControlReader, OutgoingRevocation};

/// What each thread needs for revoking.
pub(super) struct RevocationParts {
    /// The revocations for each shard, in the order of the shards; `None` where nothing can be revoked.
    pub(super) notices: Vec<Option<mpsc::Receiver<RevocationNotice>>>,
    /// For the source; `None`: there is no control channel.
    pub(super) control: Option<ControlParts>,
    /// For the admin listener; `None`: nothing can be revoked.
    pub(super) revoking: Option<Revoking>,
}

/// What the follower of the control channel needs.
pub(super) struct ControlParts {
    pub(super) channel: ChannelName,
    pub(super) reader: ControlReader,
    /// What the admin listener publishes.
    pub(super) outgoing: mpsc::Receiver<OutgoingRevocation>,
}

impl RevocationParts {
    /// The parts for these settings. Also sets the revocations in `auth`, which the shards get afterwards.
    pub(super) fn new(settings: &Settings, auth: &mut SharedAuth, metrics: &Metrics) -> Self {
        let Some(RevocationSettings { control, remember }) = &settings.revocation else {
            let notices = (0..settings.shards).map(|_| None).collect();
            return Self { notices, control: None, revoking: None };
        };
        let (revocations, notices) = Revocations::new(settings.shards, metrics.clone());
        auth.revocations = Some(revocations);
        let ends = control.as_ref().map(|ControlSettings { channel, key }| {
            let reader = ControlReader::new(auth.clone(), key.clone(), metrics.clone());
            let (publisher, outgoing) = ControlPublisher::new(key.clone());
            (ControlParts { channel: channel.clone(), reader, outgoing }, publisher)
        });
        let (control, publisher) = ends.unzip();
        // The embedded bus has no other gateways.
        let is_alone = matches!(settings.source.location, SourceLocation::Embedded(_));
        let publisher = publisher.filter(|_| !is_alone);
        let revoking = Some(Revoking::new(auth.clone(), publisher, *remember));
        Self { notices: notices.into_iter().map(Some).collect(), control, revoking }
    }
}
