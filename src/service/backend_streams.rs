//! The backends' own event streams that one shard relays.
//!
//! They have no subscription in the hub, but need the same as its streams: a comment when they are
//! quiet, an abort when nothing can be written, and an orderly end when the gateway drains. One timer
//! does that for all of them.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use ssegate_hub::{CLOSE_GRACE, CloseReason, StreamKey, TimedStreams, drain_evenly};
use tokio::time::Instant;

use super::backend_stream_state::BackendStreamState;

/// The backend streams of one shard: a cheap handle.
#[derive(Clone, Debug)]
pub(super) struct BackendStreams(Rc<BackendStreamsShared>);

#[derive(Debug)]
struct BackendStreamsShared {
    streams: TimedStreams<Rc<BackendStreamState>>,
    // The gateway is stopping: streams that are opened from now on end as soon as they can.
    is_draining: Cell<bool>,
}

/// An entry in [`BackendStreams`]; dropping it removes the stream.
#[must_use]
pub(super) struct BackendStreamGuard {
    streams: BackendStreams,
    key: StreamKey,
}

/// Ends a backend's stream from outside its body. A cheap handle, which does not keep the stream open.
#[derive(Clone, Debug)]
pub(super) struct BackendStreamEnder {
    streams: BackendStreams,
    key: StreamKey,
}

impl BackendStreamEnder {
    /// Ends the stream after the event that is being sent. Does nothing once it has ended.
    pub(super) fn end(&self, reason: CloseReason) {
        let streams = &self.streams.0.streams;
        if let Some(stream) = streams.get(self.key) {
            let now = Instant::now();
            stream.end(reason, now);
            streams.schedule(self.key, now + CLOSE_GRACE);
        }
    }
}

impl BackendStreamGuard {
    /// Returns a handle that ends the stream.
    pub(super) fn ender(&self) -> BackendStreamEnder {
        BackendStreamEnder { streams: self.streams.clone(), key: self.key }
    }
}

impl BackendStreams {
    pub(super) fn new() -> Self {
        let streams = TimedStreams::new(Instant::now());
        Self(Rc::new(BackendStreamsShared { streams, is_draining: Cell::new(false) }))
    }

    /// Adds a stream, which is visited for the first time at `first`. While the gateway drains, the
    /// stream is ended in order at once.
    pub(super) fn insert(
        &self,
        stream: Rc<BackendStreamState>,
        first: Instant,
    ) -> BackendStreamGuard {
        if self.0.is_draining.get() {
            // Its request was forwarded before the drain began. `drain` has its keys already, and
            // the time over which it spreads them may be over.
            stream.drain();
        }
        let key = self.0.streams.insert(stream, first);
        BackendStreamGuard { streams: self.clone(), key }
    }

    /// Visits every stream at `now`: the write timeout may have become shorter.
    pub(super) fn reschedule(&self, now: Instant) {
        self.0.streams.reschedule(now);
    }

    /// Visits the streams that are due. Called every [`TIMER_TICK`](ssegate_hub::TIMER_TICK).
    pub(super) fn visit_due(&self, now: Instant, write_timeout: Duration) {
        self.0.streams.visit_due(now, |stream| stream.visit(now, write_timeout));
    }

    /// Ends all streams in order, spread evenly over `over`. Those that are opened from now on end at
    /// once.
    pub(super) async fn drain(&self, over: Duration) {
        self.0.is_draining.set(true);
        let streams = &self.0.streams;
        drain_evenly(streams.keys(), over, |due| {
            due.iter().filter_map(|key| streams.get(*key)).for_each(|stream| stream.drain());
        })
        .await;
    }
}

impl Drop for BackendStreamGuard {
    fn drop(&mut self) {
        drop(self.streams.0.streams.remove(self.key));
    }
}

impl fmt::Debug for BackendStreamGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendStreamGuard").field("key", &self.key).finish_non_exhaustive()
    }
}
