//! The channels that nobody listens to any more, and that are followed for a while longer.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::hub::inbox::ChannelIndex;

/// The channels that nobody listens to, and that are still followed.
#[derive(Default)]
pub(super) struct Lingering {
    // Until when, and since when.
    by_end: BTreeSet<(Instant, ChannelIndex)>,
    by_start: BTreeSet<(Instant, ChannelIndex)>,
}

/// Since when a channel lingers, and until when.
#[derive(Clone, Copy)]
pub(super) struct Linger {
    pub(super) since: Instant,
    pub(super) until: Instant,
}

impl Lingering {
    pub(super) fn add(&mut self, channel: ChannelIndex, linger: Linger) {
        self.by_end.insert((linger.until, channel));
        self.by_start.insert((linger.since, channel));
    }

    pub(super) fn remove(&mut self, channel: ChannelIndex, linger: Linger) {
        self.by_end.remove(&(linger.until, channel));
        self.by_start.remove(&(linger.since, channel));
    }

    /// The one that has lingered longest.
    pub(super) fn longest(&self) -> Option<ChannelIndex> {
        self.by_start.first().map(|&(_, channel)| channel)
    }

    pub(super) fn next_end(&self) -> Option<(Instant, ChannelIndex)> {
        self.by_end.first().copied()
    }
}
