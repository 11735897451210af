//! `share`: event streams of a backend that several readers have together.

use ssegate_strict_yaml::{Count, Field, Size, TimeOrZero, mapping};

use super::stream::ReplayFile;
use crate::route::{ShareLimits, ShareSettings};

mapping! {
    /// Event streams of the backend that several readers have together: equal requests cost it one. See
    /// docs/SHARED_STREAMS.md.
    #[schemars(rename = "Share")]
    pub(crate) struct ShareFile sets ShareSettings {
        /// What has to be the same in the requests, besides scheme, host, route, path and query: `header:NAME`
        /// and `cookie:NAME`. The backend is sent these and nothing else of a request. Default: `[]`.
        key: Vec<Field<String>>,
        /// Whether a request with a credential that is not in the key (`Authorization`, a cookie) shares a stream
        /// without it. Otherwise it gets a stream of its own. Default: `false`.
        anonymous: bool => is_anonymous,
        /// The events that a reader without an id receives first: `none`, `last`, a number of events, or `all`
        /// that `limits` keeps. Default: `last`.
        replay: ReplayFile => replay,
        /// How long the backend's stream is left open after its last reader. Default: `30s`.
        leave: TimeOrZero => leave,
        /// How much is shared.
        limits: ShareLimitsFile => limits,
    }
}

mapping! {
    /// How much is shared on a route.
    #[schemars(rename = "ShareLimits")]
    pub(crate) struct ShareLimitsFile sets ShareLimits {
        /// The most streams of the backend that are shared at once. Where there are so many, the one that has had no
        /// reader for the longest time is left; where all are read, a request that needs one more gets a stream of
        /// its own. Default: `1000`.
        upstreams: Count => upstreams,
        /// The most events that are kept of one stream, for readers that come later or come back. The oldest go
        /// first. Default: `1000`.
        events: Count => events,
        /// The most bytes of these events. Default: `4MiB`.
        bytes: Size => bytes in Size::kib(1)..=Size::MAX_LENGTH,
    }
}
