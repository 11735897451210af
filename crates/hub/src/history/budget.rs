//! What the histories of all channels hold together, and which one is evicted first: the least recently
//! used.
//!
//! A channel that is used is not moved in the queue, so an event costs one addition. Its place is corrected
//! when it comes to the front.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::subject::ChannelIndex;

/// A channel, distinguished from a later one with the same index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChannelIncarnation {
    pub(crate) index: ChannelIndex,
    /// The newest number when it was opened.
    pub(crate) opened: u64,
}

/// The memory of all histories, and the channels that use it, each once.
#[derive(Debug)]
pub(crate) struct HistoryBudget {
    held: usize,
    max_bytes: usize,
    // By the number of their last use, as far as it is known here.
    queue: BinaryHeap<Reverse<(u64, ChannelIncarnation)>>,
    // Channels closed since closed ones were last removed from the queue: a bound of how many are in it.
    closed: usize,
}

impl HistoryBudget {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { held: 0, max_bytes, queue: BinaryHeap::new(), closed: 0 }
    }

    pub(crate) fn set_max_bytes(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
    }

    /// Adds a channel that keeps its first record, at its number.
    pub(crate) fn enter(&mut self, channel: ChannelIncarnation, used: u64) {
        self.queue.push(Reverse((used, channel)));
    }

    /// A channel was closed. Now and then, all closed ones are removed from the queue.
    pub(crate) fn note_closed(&mut self, is_open: impl Fn(ChannelIncarnation) -> bool) {
        self.closed += 1;
        if self.closed > self.queue.len() / 2 {
            self.queue.retain(|Reverse((_, channel))| is_open(*channel));
            self.closed = 0;
        }
    }

    /// A history went from `before` to `after` bytes.
    pub(crate) fn account(&mut self, before: usize, after: usize) {
        self.held = self.held + after - before;
    }

    /// Channels in the queue, closed ones that are still in it included.
    #[cfg(test)]
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// What the histories hold, in bytes.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Takes the next channel whose history is to be evicted; `None` when what is held is within the
    /// bound. `last_use` returns the number at which a channel was used last, `None` for a closed one.
    pub(crate) fn evict(
        &mut self,
        last_use: impl Fn(ChannelIncarnation) -> Option<u64>,
    ) -> Option<ChannelIndex> {
        while self.held > self.max_bytes {
            let Reverse((known, channel)) = self.queue.pop()?;
            match last_use(channel) {
                Some(used) if used > known => self.enter(channel, used),
                Some(_) => return Some(channel.index),
                None => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{ChannelIncarnation, HistoryBudget};

    #[test]
    fn the_least_recently_used_history_is_evicted_first() {
        let mut budget = HistoryBudget::new(10);
        for index in 0..3 {
            budget.enter(ChannelIncarnation { index, opened: 0 }, u64::from(index));
        }
        let last_use =
            |channel: ChannelIncarnation| [Some(9), Some(5), None][channel.index as usize];
        assert_eq!(budget.evict(last_use), None, "nothing is held");
        budget.account(0, 11);
        assert_eq!(budget.evict(last_use), Some(1));
        assert_eq!(budget.evict(last_use), Some(0));
        assert_eq!(budget.evict(last_use), None, "the queue is empty");
        budget.account(11, 10);
        budget.enter(ChannelIncarnation { index: 1, opened: 0 }, 5);
        assert_eq!(budget.evict(last_use), None, "it fits");
    }
}
