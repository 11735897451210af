//! The `share` of a proxy route: which requests have one stream of its backend together.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ssegate_hub::{Replay, StreamSettings};

/// Event streams of a backend that several readers have together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareSettings {
    /// What has to be the same in the requests, besides scheme, host, route, path and query. Each only once.
    pub key: Vec<ShareKeyPart>,
    /// Whether a request shares a stream without the credentials that are not in the key. Otherwise it gets a
    /// stream of its own.
    pub is_anonymous: bool,
    /// What of the past a reader without a position is sent first.
    pub replay: Replay,
    /// How long the backend's stream is left open after its last reader.
    pub leave: Duration,
    /// How the stream of each reader is kept. It has `replay` and `leave` of the route.
    pub stream: Arc<StreamSettings>,
    /// How much is shared.
    pub limits: ShareLimits,
}

/// How much is shared on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareLimits {
    /// The most streams of the backend that are shared at once.
    pub upstreams: usize,
    /// The most events in the history of one stream; the oldest go first.
    pub events: usize,
    /// The most bytes in the history of one stream; the oldest events go first.
    pub bytes: usize,
}

/// A part of a request that has to be the same for a shared stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareKeyPart {
    /// A header field.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
}

impl Default for ShareSettings {
    fn default() -> Self {
        Self {
            key: Vec::new(),
            is_anonymous: false,
            replay: Replay::Newest(1),
            leave: Duration::from_secs(30),
            stream: Arc::default(),
            limits: ShareLimits { upstreams: 1_000, events: 1_000, bytes: 4 << 20 },
        }
    }
}
