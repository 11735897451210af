//! `presence`: who listens to the channels of an events route.

use ssegate_strict_yaml::{Time, mapping};

use crate::route::PresenceSettings;

mapping! {
    /// Who listens to the channels of an events route, over all gateways: at the path of a stream with `/presence`
    /// behind it, for those who may listen. See docs/PRESENCE.md.
    #[schemars(rename = "Presence", extend("required" = ["identify"]))]
    pub(crate) struct PresenceFile sets PresenceSettings {
        /// What a listener is called, from its credential: `{auth.id}`, `{claim.name}`, also within other text. A
        /// listener with several streams is one.
        identify: String,
        /// Whether streams are sent an `event: presence` when a listener joins or leaves. Default: `false`.
        events: bool => has_events,
        /// How long a listener stays after its last stream has ended, so that one that reconnects does not leave
        /// and join. Longer than `retry`. Default: `5s`.
        grace: Time => grace,
        /// The most listeners of one channel. More are neither counted nor told of. Default: `10000`.
        #[schemars(range(min = 1, max = 100_000))]
        max_members: usize => max_members in 1..=100_000,
    }
}
