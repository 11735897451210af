//! The channels without subscribers, which are followed for a while longer, or until there is no room.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::subject::ChannelIndex;

/// The channels without subscribers that are still followed.
#[derive(Default)]
pub(super) struct Lingering {
    // By the end of their linger, and by their last use.
    by_end: BTreeSet<(Instant, ChannelIndex)>,
    by_use: BTreeSet<(Instant, ChannelIndex)>,
}

/// The linger of one channel.
#[derive(Clone, Copy)]
pub(super) struct Linger {
    /// When its last subscriber left, or it was opened without one.
    pub(super) since: Instant,
    /// When it was used last, as far as it is known here.
    pub(super) used: Instant,
    /// `None`: until there is no room for it.
    pub(super) until: Option<Instant>,
}

impl Lingering {
    pub(super) fn add(&mut self, channel: ChannelIndex, linger: Linger) {
        if let Some(until) = linger.until {
            self.by_end.insert((until, channel));
        }
        self.by_use.insert((linger.used, channel));
    }

    pub(super) fn remove(&mut self, channel: ChannelIndex, linger: Linger) {
        if let Some(until) = linger.until {
            self.by_end.remove(&(until, channel));
        }
        self.by_use.remove(&(linger.used, channel));
    }

    /// The channel that was not used for longest, as far as it is known here.
    pub(super) fn longest_unused(&self) -> Option<ChannelIndex> {
        self.by_use.first().map(|&(_, channel)| channel)
    }

    /// The channel whose linger ends first, and when.
    pub(super) fn next_end(&self) -> Option<(Instant, ChannelIndex)> {
        self.by_end.first().copied()
    }
}
