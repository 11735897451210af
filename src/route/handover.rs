//! A route whose backend may hand streams over.

use super::channels::Channels;
use super::settings::HandoverSettings;

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
        Self { channels: Channels::new(settings.events.clone(), false), settings }
    }
}
