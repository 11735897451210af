//! Round-robin load balancing over the upstreams of a route, with those marked down as last resort.

use std::cell::Cell;

use super::upstream::Upstream;

/// The upstreams of one route.
#[derive(Debug)]
pub(super) struct RoundRobin {
    upstreams: Vec<Upstream>,
    next: Cell<usize>,
}

impl RoundRobin {
    /// The first request of this shard goes to the upstream at index `first`, modulo their number.
    pub(super) fn new(upstreams: Vec<Upstream>, first: usize) -> Self {
        debug_assert!(!upstreams.is_empty(), "the configuration requires at least one");
        Self { next: Cell::new(first), upstreams }
    }

    /// An upstream to name in an error that concerns none of them.
    pub(super) fn first(&self) -> &Upstream {
        &self.upstreams[0]
    }

    /// The upstreams in the order in which to try them: those that are up, rotated for each
    /// request, and then those marked down, in case all are.
    pub(super) fn candidates(&self) -> impl Iterator<Item = &Upstream> + use<'_> {
        let (only, several) = match &*self.upstreams {
            [only] => (Some(only), Vec::new()),
            _ => (None, self.order()),
        };
        only.into_iter().chain(several)
    }

    fn order(&self) -> Vec<&Upstream> {
        let (mut up, down): (Vec<_>, Vec<_>) =
            self.upstreams.iter().partition(|upstream| upstream.is_up());
        if !up.is_empty() {
            let count = self.next.replace(self.next.get().wrapping_add(1));
            let first = count % up.len();
            up.rotate_left(first);
        }
        up.extend(down);
        up
    }
}
