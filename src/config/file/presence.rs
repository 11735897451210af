//! `presence`: who listens to the channels of an events route.

use ssegate_strict_yaml::{Time, mapping};

use crate::route::PresenceSettings;

mapping! {
    /// Who listens to the channels of an events route, over all gateways: at the path of a stream with `/presence`
    /// behind it, for those who may listen. See docs/PRESENCE.md.
    #[schemars(rename = "Presence", extend("required" = ["identify"]))]
    pub(crate) struct PresenceFile sets PresenceSettings {
        /// What a member is called, from its credential: `{auth.id}`, `{claim.name}`, also within other text. A
        /// member with several streams is one.
        identify: String,
        /// Whether streams are sent an `event: presence` when a member joins or leaves. Default: `false`.
        events: bool => has_events,
        /// How long a member stays after its last stream has ended, so that one that reconnects does not leave
        /// and join. Longer than `retry`. Default: `5s`.
        grace: Time => grace,
        /// The most members of one channel. More are neither counted nor told of. Default: `10000`.
        #[schemars(range(min = 1, max = 100_000))]
        max_members: usize => max_members in 1..=100_000,
        /// The URL that is told when the first member of a channel has come, at whichever gateway: with POST and
        /// JSON, signed with `key`.
        on_occupied: String,
        /// The URL that is told when the last member of a channel has left. Needs `key`, too.
        on_vacated: String,
        /// The secret with which the server at these URLs verifies `Ssegate-Signature`: at least 32 bytes, plain or
        /// after `base64:`.
        key: String,
    }
}
