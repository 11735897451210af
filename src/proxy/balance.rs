//! Which of several upstreams has its turn.

use std::cell::Cell;

use super::upstream::Upstream;

/// The upstreams of one route.
#[derive(Debug)]
pub(super) struct Balance {
    upstreams: Vec<Upstream>,
    next: Cell<usize>,
}

impl Balance {
    /// The first request of this shard goes to the upstream at `first`, modulo their number.
    pub(super) fn new(upstreams: Vec<Upstream>, first: usize) -> Self {
        debug_assert!(!upstreams.is_empty(), "the configuration wants one at least");
        Self { next: Cell::new(first % upstreams.len()), upstreams }
    }

    /// One of them, where none has its turn.
    pub(super) fn any(&self) -> &Upstream {
        &self.upstreams[0]
    }

    /// The upstreams in the order in which this request may try them: those that are up, each having
    /// its turn to be first, and then those that are down, lest all of them seem so.
    pub(super) fn turn(&self) -> impl Iterator<Item = &Upstream> + use<'_> {
        let first = self.next.get();
        let count = self.upstreams.len();
        self.next.set((first + 1) % count);
        let in_turn = move |place: usize| &self.upstreams[(first + place) % count];
        let mut order: Vec<&Upstream> = (0..count).map(in_turn).collect();
        // As they are now: one that fails meanwhile is not tried twice.
        order.sort_by_cached_key(|upstream| !upstream.is_up());
        order.into_iter()
    }
}
