//! One shared stream: what its pump, its readers and the source know of it together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use ssegate_format::Format;
use ssegate_hub::{ChannelName, Ids, Subscription, Topic};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::question::QuestionKey;
use super::upstreams::SharedStreams;

/// One shared stream.
#[derive(Debug)]
pub(in crate::service) struct SharedUpstream {
    pub(super) key: QuestionKey,
    pub(super) scope: Arc<str>,
    /// Its channel in the hub. No other stream has the name, not even one of the same key.
    pub(in crate::service) topic: Topic,
    /// Bytes at the head of the name that clients do not see.
    pub(in crate::service) prefix_bytes: usize,
    phase: watch::Sender<SharedPhase>,
    readers: Mutex<ReaderCount>,
    // Of the readers, or that the hub follows its channel.
    changed: Notify,
    is_followed: watch::Sender<bool>,
}

/// How far a shared stream has come.
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
    /// What all readers get of its header.
    pub(in crate::service) head: HeaderMap,
    /// The id after which the backend has begun, if it was asked for what follows one.
    pub(in crate::service) after: Option<Vec<u8>>,
}

/// Why a stream is not shared, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum SharedEnd {
    /// The backend's response cannot be shared: each reader asks it for itself.
    Unshared,
    /// The backend says that there is nothing more to come (204).
    NoContent,
    /// The backend cannot be reached, or has failed.
    Failed,
    /// Nobody reads it any more, or the gateway stops.
    Left,
}

impl SharedEnd {
    /// The word for it in the metrics.
    pub(in crate::service) const fn as_str(self) -> &'static str {
        match self {
            Self::Unshared => "unshared",
            Self::NoContent => "no_content",
            Self::Failed => "failed",
            Self::Left => "left",
        }
    }
}

#[derive(Debug)]
struct ReaderCount {
    readers: usize,
    // Since when there is none.
    since: Instant,
    // No reader may come any more.
    is_closed: bool,
}

impl SharedUpstream {
    /// The stream `number` of this process. `path` is what clients are told it is called.
    pub(super) fn new(key: QuestionKey, scope: Arc<str>, number: u64, path: &str) -> Self {
        let prefix = format!("{number}:");
        let room = ChannelName::MAX_BYTES - prefix.len();
        let end = path.len().min(room);
        let end = (0..=end).rev().find(|&end| path.is_char_boundary(end)).unwrap_or_default();
        let name = ChannelName::new(&format!("{prefix}{}", &path[..end]));
        let name = name.or_else(|_strange| ChannelName::new(&prefix));
        let name = name.expect("digits and a colon are a name");
        let subscription = Subscription { name, is_pattern: false };
        let since = Instant::now();
        Self {
            key,
            scope,
            topic: Topic { subscription, format: Format::Raw, ids: Ids::Mixed },
            prefix_bytes: prefix.len(),
            phase: watch::Sender::new(SharedPhase::Asked),
            readers: Mutex::new(ReaderCount { readers: 0, since, is_closed: false }),
            changed: Notify::new(),
            is_followed: watch::Sender::new(false),
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

    fn lock(&self) -> MutexGuard<'_, ReaderCount> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more reader, unless the stream is closed.
    pub(super) fn add_reader(&self) -> bool {
        let mut count = self.lock();
        if !count.is_closed {
            count.readers += 1;
        }
        !count.is_closed
    }

    /// One reader less.
    pub(super) fn remove_reader(&self) {
        let mut count = self.lock();
        count.readers -= 1;
        if count.readers == 0 {
            count.since = Instant::now();
            drop(count);
            self.changed.notify_one();
        }
    }

    /// Closes the stream if it had no reader for `leave`; otherwise returns when to look again, `None` while it has one.
    fn close_if_unread(&self, leave: Duration) -> Result<(), Option<Instant>> {
        let mut count = self.lock();
        let due = count.since + leave;
        if count.readers > 0 {
            return Err(None);
        }
        if Instant::now() < due {
            return Err(Some(due));
        }
        count.is_closed = true;
        Ok(())
    }

    /// No reader may come any more.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Waits until it had no reader for the time that `leave` says, which may change, and closes it then. For one task.
    pub(super) async fn unread(&self, leave: impl Fn() -> Duration) {
        loop {
            if self.lock().is_closed {
                return;
            }
            let due = match self.close_if_unread(leave()) {
                Ok(()) => return,
                Err(due) => due,
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = async {
                    match due {
                        Some(due) => tokio::time::sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    /// Something that its pump waits for may have changed.
    pub(super) fn notify(&self) {
        self.changed.notify_one();
    }

    /// The hub takes its events from now on.
    pub(super) fn set_followed(&self) {
        self.is_followed.send_replace(true);
    }

    /// Waits until the hub takes its events.
    pub(super) async fn followed(&self) {
        let mut followed = self.is_followed.subscribe();
        // The sender is part of this stream.
        drop(followed.wait_for(|is_followed| *is_followed).await);
    }
}

/// A reader of a shared stream, or a request that waits for one. The stream stays as long as there are any.
#[derive(Debug)]
pub(in crate::service) struct SharedReader {
    pub(in crate::service) upstream: Arc<SharedUpstream>,
    streams: SharedStreams,
}

impl SharedReader {
    /// A reader that was counted.
    pub(super) fn new(upstream: Arc<SharedUpstream>, streams: &SharedStreams) -> Self {
        streams.metrics().shared_readers(1);
        Self { upstream, streams: streams.clone() }
    }
}

impl Drop for SharedReader {
    fn drop(&mut self) {
        self.streams.metrics().shared_readers(-1);
        self.upstream.remove_reader();
    }
}

#[cfg(test)]
mod tests {
    use super::{QuestionKey, SharedUpstream};

    #[test]
    fn clients_are_told_the_path_and_not_the_number() {
        let long = format!("/{}", "\u{fc}".repeat(300));
        for (path, expected) in [("/prices", "/prices"), ("/a\u{7f}", ""), (&*long, &long[..252])] {
            let upstream = SharedUpstream::new(QuestionKey::for_test(), "r".into(), 7, path);
            assert_eq!(&upstream.name()[upstream.prefix_bytes..], expected, "{path}");
        }
    }
}
