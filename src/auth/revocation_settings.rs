//! `revocation`: how credentials are revoked, as gateway.yaml says it.

use std::time::Duration;

use ssegate_auth::revocation::ControlKey;
use ssegate_hub::ChannelName;

/// How credentials are revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationSettings {
    /// How gateways tell each other; `None`: they do not, and what the admin listener revokes is revoked only here.
    pub control: Option<ControlSettings>,
    /// How long a revocation is remembered, unless it says otherwise: at least as long as credentials live.
    pub remember: Duration,
}

/// How gateways tell each other of revocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlSettings {
    /// The channel on which revocations are published. The keys in Redis that hold remembered ones begin with its
    /// name.
    pub channel: ChannelName,
    /// The key with which they are signed.
    pub key: ControlKey,
}

impl Default for RevocationSettings {
    fn default() -> Self {
        Self { control: None, remember: Duration::from_secs(24 * 60 * 60) }
    }
}
