//! The channels without subscribers, which are followed for a while longer.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::subject::ChannelIndex;

/// The channels without subscribers that are still followed.
#[derive(Default)]
pub(super) struct Lingering {
    // By the end and by the start of their linger.
    by_end: BTreeSet<(Instant, ChannelIndex)>,
    by_start: BTreeSet<(Instant, ChannelIndex)>,
}

/// The linger of one channel.
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

    /// The channel that has been without subscribers for longest.
    pub(super) fn longest(&self) -> Option<ChannelIndex> {
        self.by_start.first().map(|&(_, channel)| channel)
    }

    /// The channel whose linger ends first, and when.
    pub(super) fn next_end(&self) -> Option<(Instant, ChannelIndex)> {
        self.by_end.first().copied()
    }
}
