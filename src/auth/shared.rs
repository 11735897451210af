//! What the authenticators of all routes and shards share.

use std::time::SystemTime;

use ssegate_auth::revocation::Revocation;

use super::access::Access;
use super::jwks::RemoteKeySets;
use super::passwords::PasswordVerifier;
use super::revocations::{EndedStreams, RevocationOrigin, Revocations};
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
    /// The recent verdicts of auth backends.
    pub verdicts: VerdictCache,
    /// What has been revoked; `None` where nothing can be.
    pub revocations: Option<Revocations>,
}

impl SharedAuth {
    /// Revokes: from now on the matching credentials are refused, auth backends are asked again, and the matching
    /// streams end. Returns those streams; `None` if this is a repetition, or nothing can be revoked.
    pub async fn revoke(
        &self,
        revocation: Revocation,
        origin: RevocationOrigin,
    ) -> Option<EndedStreams> {
        let revocations = self.revocations.as_ref()?;
        if !revocations.remember(&revocation, origin) {
            return None;
        }
        // Before the streams end: the backend is asked again about a client that reconnects.
        self.verdicts.clear();
        Some(revocations.announce(revocation).await)
    }

    /// Whether one of the credentials of `access`, as presented now, has been revoked.
    pub fn is_revoked(&self, access: &Access) -> bool {
        self.revocations.as_ref().is_some_and(|revocations| {
            let now = SystemTime::now();
            access.identities().any(|identity| revocations.refuses(identity, now))
        })
    }
}
