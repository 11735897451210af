//! `revocation`: how credentials are revoked.

use ssegate_strict_yaml::{Time, mapping};

use crate::auth::RevocationSettings;

mapping! {
    /// How credentials are revoked before they expire: by `ssegate revoke` on all gateways, and by
    /// `POST /revoke` on the admin listener.
    #[schemars(rename = "Revocation")]
    pub(crate) struct RevocationFile sets RevocationSettings {
        /// The channel on which gateways tell each other. Needs `key`. Redis also keeps revocations, in the
        /// keys `NAME:list` and `NAME:recent`. Default: none; a revocation counts for this gateway alone,
        /// until it stops.
        control_channel: String,
        /// The secret with which revocations are signed, the same on all gateways: at least 32 bytes, plain
        /// or after `base64:`.
        key: String,
        /// How long a revocation is remembered, unless it says otherwise: as long as the longest-lived
        /// credential. Default: `24h`.
        remember: Time => remember,
    }
}
