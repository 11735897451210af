//! The backends' own event streams that one shard relays.
//!
//! They have no subscription in the hub, but need the same as its streams: a comment when they are
//! quiet, an abort when nothing can be written, and an orderly end when the gateway drains. One timer
//! does that for all of them.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use ssegate_hub::{StreamKey, TIMER_TICK, TimedStreams, drain_evenly};
use tokio::time::{Instant, MissedTickBehavior};

use super::backend_stream::BackendStreamState;

/// The backend streams of one shard: a cheap handle.
#[derive(Clone, Debug)]
pub(super) struct BackendStreams(Rc<TimedStreams<Rc<BackendStreamState>>>);

/// An entry in [`BackendStreams`]; dropping it removes the stream.
#[must_use]
pub(super) struct BackendStreamGuard {
    streams: BackendStreams,
    key: StreamKey,
}

impl BackendStreams {
    pub(super) fn new() -> Self {
        Self(Rc::new(TimedStreams::new(Instant::now())))
    }

    /// Adds a stream, which is visited for the first time at `first`.
    pub(super) fn insert(
        &self,
        stream: Rc<BackendStreamState>,
        first: Instant,
    ) -> BackendStreamGuard {
        let key = self.0.insert(stream, first);
        BackendStreamGuard { streams: self.clone(), key }
    }

    /// Visits the streams that are due. Never returns.
    pub(super) async fn run(&self) {
        let mut tick = tokio::time::interval(TIMER_TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let now = Instant::now();
            self.0.visit_due(now, |stream| stream.visit(now));
        }
    }

    /// Ends all streams in order, spread evenly over `over`. None may be opened meanwhile.
    pub(super) async fn drain(&self, over: Duration) {
        drain_evenly(self.0.keys(), over, |due| {
            due.iter().filter_map(|key| self.0.get(*key)).for_each(|stream| stream.drain());
        })
        .await;
    }
}

impl Drop for BackendStreamGuard {
    fn drop(&mut self) {
        drop(self.streams.0.remove(self.key));
    }
}

impl fmt::Debug for BackendStreamGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendStreamGuard").field("key", &self.key).finish_non_exhaustive()
    }
}
