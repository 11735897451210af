//! What the shards share of authentication.

use super::stream_quota::StreamQuota;
use super::verdict_cache::VerdictCache;

/// What the shards share of authentication. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct SharedAuth {
    /// How many streams each identity has open.
    pub streams: StreamQuota,
    /// What auth backends said a moment ago.
    pub verdicts: VerdictCache,
}
