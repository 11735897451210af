//! The settings of streams that the backend of a route hands over.

use super::{Channels, EventsSettings};
use crate::grip::signature::Secret;

/// The `handover` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoverSettings {
    /// The secret that the gateway shares with the backend.
    pub key: Secret,
    /// The `iss` claim of `Grip-Sig`.
    pub issuer: String,
    /// The settings of the streams. `channels` is empty: the backend names the channels.
    pub events: EventsSettings,
}

/// A route whose backend may hand streams over.
#[derive(Debug)]
pub struct RouteHandover {
    /// Its settings.
    pub settings: HandoverSettings,
    /// Turns the channel names of a response into topics.
    pub channels: Channels,
}

impl RouteHandover {
    pub(super) fn new(settings: HandoverSettings) -> Self {
        Self { channels: Channels::new(settings.events.clone()), settings }
    }
}
