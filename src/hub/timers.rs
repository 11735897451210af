//! When each subscriber is to be looked at next: one timer for all of a shard.
//!
//! A subscriber is in one round at a time, and costs nothing between its rounds. Events do not move
//! it: it is found to have been busy when its round comes.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// How exact the rounds are.
pub(super) const TIMER_TICK: Duration = Duration::from_millis(250);

/// A subscriber of this shard. Its place may be used again; the generation tells the two apart.
// Small: every stream has several of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct StreamKey {
    place: u32,
    generation: u32,
}

impl StreamKey {
    /// The generation counts members. It begins anew after 2^32 of them: whoever had the same place
    /// in the same generation is long forgotten.
    pub(super) fn new(place: usize, generations: &Cell<u32>) -> Self {
        let generation = generations.replace(generations.get().wrapping_add(1));
        let place = u32::try_from(place).expect("a shard has fewer streams");
        Self { place, generation }
    }

    pub(super) fn place(self) -> usize {
        self.place as usize
    }
}

#[derive(Debug)]
pub(super) struct Timers {
    started: Instant,
    due: BTreeMap<u64, Vec<StreamKey>>,
}

impl Timers {
    pub(super) fn new(now: Instant) -> Self {
        Self { started: now, due: BTreeMap::new() }
    }

    /// Looks at `member` at `at` or up to one round later.
    pub(super) fn add(&mut self, member: StreamKey, at: Instant) {
        self.due.entry(self.round_of(at) + 1).or_default().push(member);
    }

    /// Those whose time has come, one round after the other.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<Vec<StreamKey>> {
        let round = self.round_of(now);
        let first = self.due.first_entry()?;
        (*first.key() <= round).then(|| first.remove())
    }

    fn round_of(&self, at: Instant) -> u64 {
        let since_start = at.saturating_duration_since(self.started);
        u64::try_from(since_start.as_millis() / TIMER_TICK.as_millis()).unwrap_or(u64::MAX - 1)
    }
}
