//! `fleet`: several gateways at the same Redis.

use ssegate_strict_yaml::mapping;

use crate::source::fleet::FleetSettings;

mapping! {
    /// Several gateways at the same Redis: a client resumes at any of them. They tell each other how far they are
    /// on the channels `ssegate:mark` and `ssegate:fleet:*`.
    #[schemars(rename = "Fleet")]
    pub(crate) struct FleetFile sets FleetSettings {
        /// The secret with which gateways sign what they tell each other, the same on all of them: at least 32
        /// bytes, plain or after `base64:`. Default: none; whoever may publish to these channels is believed.
        key: String,
    }
}
