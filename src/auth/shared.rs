//! What the authenticators of all routes and shards share.

use super::jwks::RemoteKeySets;
use super::passwords::PasswordVerifier;
use super::stream_quota::StreamQuota;

/// What the authenticators of all routes and shards share. A cheap handle; it survives reloads.
#[derive(Clone, Debug, Default)]
pub struct SharedAuth {
    /// The open streams of each identity.
    pub quota: StreamQuota,
    /// The keys from URLs.
    pub key_sets: RemoteKeySets,
    /// The users of files, and the thread that verifies their passwords.
    pub passwords: PasswordVerifier,
}
