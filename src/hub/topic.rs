//! What the hub calls a channel.

use crate::event::{Ids, Subscription};
use crate::format::Format;

/// A channel of the hub: a subscription, with the format and the ids of its events.
///
/// Two routes that read the same Redis channel in different ways have two topics, each with its own
/// frames.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topic {
    /// What the source subscribes to.
    pub subscription: Subscription,
    /// How its payloads are decoded.
    pub format: Format,
    /// Where the ids of its events come from.
    pub ids: Ids,
}
