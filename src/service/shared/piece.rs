//! What a pump hands to the source of shared streams, across threads.

use std::sync::Arc;

use ssegate_sse::Event;
use tokio::time::Instant;

use super::upstream::SharedUpstream;

/// Something of one shared stream.
#[derive(Debug)]
pub(super) struct SharedPiece {
    pub(super) upstream: Arc<SharedUpstream>,
    pub(super) received: Instant,
    pub(super) what: SharedPieceKind,
}

/// What has happened on a shared stream.
#[derive(Debug)]
pub(super) enum SharedPieceKind {
    /// The backend has sent these; `None`: one that is too large.
    Events(Vec<Option<Event>>),
    /// The backend was away, and nobody knows what it has sent meanwhile.
    Away,
}
