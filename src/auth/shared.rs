//! What the authenticators of all routes and shards share.

use super::jwks::RemoteKeySets;
use super::passwords::PasswordVerifier;
use super::stream_quota::StreamQuota;
use super::verdict_cache::VerdictCache;

/// What the authenticators of all routes and shards share. A cheap handle; it survives reloads.
#[derive(Clone, Debug, Default)]
pub struct SharedAuth {
    /// How many streams each identity has open.
    pub quota: StreamQuota,
    /// The keys from URLs.
    pub key_sets: RemoteKeySets,
    /// The users of files, and the thread that verifies their passwords.
    pub passwords: PasswordVerifier,
    /// What auth backends said a moment ago.
    pub verdicts: VerdictCache,
}
