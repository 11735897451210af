//! What a pump hands to the source of shared streams, on another thread.

use std::sync::Arc;

use ssegate_sse::Event;
use tokio::time::Instant;

use super::upstream::SharedUpstream;

/// A piece of one shared stream.
#[derive(Debug)]
pub(super) struct SharedPiece {
    pub(super) upstream: Arc<SharedUpstream>,
    pub(super) received: Instant,
    pub(super) what: SharedPieceKind,
}

/// What has happened on a shared stream.
#[derive(Debug)]
pub(super) enum SharedPieceKind {
    /// The backend has sent these events; `None`: one that is too large.
    Events(Vec<Option<Event>>),
    /// The backend was away, and it is not known what it has sent meanwhile.
    Away,
}
