//! One timer for all streams of a thread.
//!
//! Each stream has one deadline at a time, rounded up to a tick, and costs nothing before it is due.
//! Events do not move a deadline: a stream that was busy meanwhile is found to be so when it is due, and
//! gets its next deadline then.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// The resolution of [`Timers`], and how often their owner checks them.
pub const TIMER_TICK: Duration = Duration::from_millis(TICK_MILLIS);

/// The same in milliseconds, a part of a second.
const TICK_MILLIS: u64 = 250;

/// The deadlines of many streams, each known by its key.
#[derive(Debug)]
pub(super) struct Timers<K> {
    started: Instant,
    // By the tick, counted from `started`.
    due: BTreeMap<u64, Vec<K>>,
}

impl<K> Timers<K> {
    pub(super) fn new(now: Instant) -> Self {
        Self { started: now, due: BTreeMap::new() }
    }

    /// Makes `key` due at `at`, or up to one tick later.
    pub(super) fn add(&mut self, key: K, at: Instant) {
        self.due.entry(self.tick_of(at) + 1).or_default().push(key);
    }

    /// Makes nothing due any more.
    pub(super) fn clear(&mut self) {
        self.due.clear();
    }

    /// Takes the keys of the earliest tick that has passed; `None` when nothing is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Vec<K>> {
        let tick = self.tick_of(now);
        let first = self.due.first_entry()?;
        (*first.key() <= tick).then(|| first.remove())
    }

    fn tick_of(&self, at: Instant) -> u64 {
        let since_start = at.saturating_duration_since(self.started);
        // Not `as_millis`: a division of its 128 bits takes several times as long.
        let of_seconds = since_start.as_secs().saturating_mul(1000) / TICK_MILLIS;
        of_seconds + u64::from(since_start.subsec_millis()) / TICK_MILLIS
    }
}
