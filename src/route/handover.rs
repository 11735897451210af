//! Streams that the backend of a route may hand over, as the route describes them.

use super::{Channels, EventsSettings};
use crate::grip::signature::Secret;

/// What a route says of the streams that its backend hands over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoverSettings {
    /// The secret that the backend and we share.
    pub key: Secret,
    /// Who signs, as the backend is told.
    pub issuer: String,
    /// How the streams are kept; the channels are the backend's to name.
    pub events: EventsSettings,
}

/// A route whose backend may hand streams over.
#[derive(Debug)]
pub struct Handover {
    /// As it was configured.
    pub settings: HandoverSettings,
    /// What turns the names that the backend gives into topics.
    pub channels: Channels,
}

impl Handover {
    pub(super) fn new(settings: HandoverSettings) -> Self {
        Self { channels: Channels::new(settings.events.clone()), settings }
    }
}
