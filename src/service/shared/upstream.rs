//! One shared stream: what its pump, its readers and the source share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::HeaderMap;
use ssegate_format::Format;
use ssegate_hub::{ChannelName, Ids, Subscription, Topic};
use tokio::sync::watch;

use super::question::QuestionKey;
use super::readers::SharedReaders;
use crate::route::ProxySettings;

/// One shared stream.
#[derive(Debug)]
pub(in crate::service) struct SharedUpstream {
    pub(super) key: QuestionKey,
    pub(super) scope: Arc<str>,
    /// The backend that is asked; a reload may give the route another one.
    pub(super) backend: Arc<ProxySettings>,
    /// Its channel in the hub. The name is unique, even among streams of the same key.
    pub(in crate::service) topic: Topic,
    /// The length of the prefix of the name that clients do not see, in bytes.
    pub(in crate::service) prefix_bytes: usize,
    phase: watch::Sender<SharedPhase>,
    pub(super) readers: Arc<SharedReaders>,
    is_followed: watch::Sender<bool>,
    // The number of its newest event in the hub.
    newest: AtomicU64,
    // Whether the hub has all of it.
    is_complete: AtomicBool,
    /// Whether it counts against the limit of its route.
    pub(super) is_counted: AtomicBool,
}

/// The phase of a shared stream.
#[derive(Clone, Debug)]
pub(in crate::service) enum SharedPhase {
    /// The backend was asked, and has not responded.
    Asked,
    /// It responds with events.
    Open(Arc<SharedOpening>),
    /// There is no stream that can be shared.
    Closed(SharedEnd),
}

/// What a reader needs to know of the backend's response.
#[derive(Debug)]
pub(in crate::service) struct SharedOpening {
    /// The fields of its header that all readers get.
    pub(in crate::service) head: HeaderMap,
    /// The id after which the backend has begun, if it was asked with one.
    pub(in crate::service) after: Option<Vec<u8>>,
}

/// Why a stream is not shared, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum SharedEnd {
    /// The backend's response cannot be shared: the request of each reader is forwarded.
    Unshared,
    /// The backend has no more events (204).
    NoContent,
    /// The backend has no events (204) after the id with which the readers have begun.
    NothingAfter,
    /// The backend cannot be reached, or has failed.
    Failed,
    /// A reload has given its route another backend.
    Replaced,
    /// Nobody reads it any more, or the gateway stops.
    Left,
}

impl SharedEnd {
    /// Whether it also applies to requests that come soon after.
    pub(super) fn is_remembered(self) -> bool {
        matches!(self, Self::Unshared | Self::NoContent | Self::NothingAfter)
    }

    /// The word for it in the metrics.
    pub(in crate::service) const fn as_str(self) -> &'static str {
        match self {
            Self::Unshared => "unshared",
            Self::NoContent => "no_content",
            Self::NothingAfter => "nothing_after",
            Self::Failed => "failed",
            Self::Replaced => "replaced",
            Self::Left => "left",
        }
    }
}

impl SharedUpstream {
    /// Creates the stream `number` of this process. `path` is the name that clients get.
    pub(super) fn new(
        key: QuestionKey,
        (scope, backend): (Arc<str>, Arc<ProxySettings>),
        (number, path): (u64, &str),
        readers: Arc<SharedReaders>,
    ) -> Self {
        let prefix = format!("{number}:");
        let room = ChannelName::MAX_BYTES - prefix.len();
        let end = path.len().min(room);
        let end = (0..=end).rev().find(|&end| path.is_char_boundary(end)).unwrap_or_default();
        let name = ChannelName::new(&format!("{prefix}{}", &path[..end]));
        let name = name.or_else(|_strange| ChannelName::new(&prefix));
        let name = name.expect("digits and a colon are a name");
        let subscription = Subscription { name, is_pattern: false };
        Self {
            key,
            scope,
            backend,
            topic: Topic { subscription, format: Format::Raw, ids: Ids::Mixed },
            prefix_bytes: prefix.len(),
            phase: watch::Sender::new(SharedPhase::Asked),
            readers,
            is_followed: watch::Sender::new(false),
            newest: AtomicU64::default(),
            is_complete: AtomicBool::default(),
            is_counted: AtomicBool::new(true),
        }
    }

    /// The name of its channel.
    pub(super) fn name(&self) -> &str {
        self.topic.subscription.name.as_str()
    }

    /// Waits until the backend has responded.
    pub(in crate::service) async fn answered(&self) -> SharedPhase {
        let mut phases = self.phase.subscribe();
        let answered = phases.wait_for(|phase| !matches!(phase, SharedPhase::Asked)).await;
        answered.map_or(SharedPhase::Closed(SharedEnd::Failed), |phase| phase.clone())
    }

    pub(in crate::service) fn phase(&self) -> SharedPhase {
        self.phase.borrow().clone()
    }

    pub(super) fn set_phase(&self, phase: SharedPhase) {
        self.phase.send_replace(phase);
    }

    /// Records that the hub takes its events from now on.
    pub(super) fn set_followed(&self) {
        self.is_followed.send_replace(true);
    }

    /// Records the number that the hub has given to its newest event.
    pub(super) fn set_newest(&self, number: u64) {
        self.newest.store(number, Ordering::Relaxed);
    }

    /// Records that the hub has all of it.
    pub(super) fn set_complete(&self) {
        self.is_complete.store(true, Ordering::Release);
    }

    /// Whether this number of the hub is that of its last event.
    pub(super) fn ends_at(&self, number: u64) -> bool {
        self.is_complete.load(Ordering::Acquire) && self.newest.load(Ordering::Relaxed) == number
    }

    /// Waits until the hub takes its events.
    pub(super) async fn followed(&self) {
        let mut followed = self.is_followed.subscribe();
        // The sender is part of this stream.
        drop(followed.wait_for(|is_followed| *is_followed).await);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::{SharedReaders, SharedUpstream};
    use crate::metrics::Metrics;
    use crate::route::{ProxySettings, ShareSettings};
    use crate::service::shared::origin::RequestOrigin;
    use crate::service::shared::question::SharedQuestion;

    #[test]
    fn clients_are_told_the_path_and_not_the_number() {
        let request = Request::get("http://a.test/").header("accept", "text/event-stream");
        let origin = RequestOrigin {
            scope: "",
            is_tls: false,
            is_trusted: false,
            has_body: false,
            identity: &[],
        };
        let request = request.body(()).expect("a request");
        let question = SharedQuestion::of(&request, origin, &ShareSettings::default());
        let question = question.expect("it is shared");
        let long = format!("/{}", "\u{fc}".repeat(300));
        for (path, expected) in [("/prices", "/prices"), ("/a\u{7f}", ""), (&*long, &long[..253])] {
            let upstream = SharedUpstream::new(
                question.key().clone(),
                ("r".into(), ProxySettings::new(Vec::new()).into()),
                (7, path),
                SharedReaders::new(Metrics::new().expect("metrics")),
            );
            assert_eq!(&upstream.name()[upstream.prefix_bytes..], expected, "{path}");
        }
    }
}
