//! What the histories of all channels hold together, and which of them goes first: the least
//! recently used.
//!
//! A channel that is used does not move here, so an event costs nothing but an addition. Where it
//! stands is put right when it comes to the front.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::hub::inbox::ChannelIndex;

/// A channel, and not another one that has its index later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::hub) struct ChannelIncarnation {
    pub(in crate::hub) channel: ChannelIndex,
    /// The number at which the channel was opened.
    pub(in crate::hub) opened: u64,
}

/// The channels that keep history, in a line, each in it once.
#[derive(Debug)]
pub(in crate::hub) struct HistoryBudget {
    held: usize,
    most: usize,
    // By the number at which they were used last, as far as it is known here.
    line: BinaryHeap<Reverse<(u64, ChannelIncarnation)>>,
    // Channels that were closed since the line was last cleared of them: that many of it at most.
    closed: usize,
}

impl HistoryBudget {
    pub(in crate::hub) fn new(most: usize) -> Self {
        Self { held: 0, most, line: BinaryHeap::new(), closed: 0 }
    }

    /// Holds so much at most from now on.
    pub(in crate::hub) fn hold(&mut self, most: usize) {
        self.most = most;
    }

    /// A channel begins to keep something.
    pub(in crate::hub) fn enter(&mut self, keeper: ChannelIncarnation, used: u64) {
        self.line.push(Reverse((used, keeper)));
    }

    /// A channel was closed. Now and then, the closed ones leave the line.
    pub(in crate::hub) fn left(&mut self, is_open: impl Fn(ChannelIncarnation) -> bool) {
        self.closed += 1;
        if self.closed > self.line.len() / 2 {
            self.line.retain(|Reverse((_, keeper))| is_open(*keeper));
            self.closed = 0;
        }
    }

    /// A history went from `before` to `after` bytes.
    pub(in crate::hub) fn account(&mut self, before: usize, after: usize) {
        self.held = self.held + after - before;
    }

    /// Channels in the line, closed ones that are still in it included.
    #[cfg(test)]
    pub(in crate::hub) fn line(&self) -> usize {
        self.line.len()
    }

    /// What is held, in bytes.
    pub(in crate::hub) fn held(&self) -> usize {
        self.held
    }

    /// The next whose history is to go, while too much is held; it leaves the line. `last_use`
    /// answers at which number a channel was used last; `None`: it is gone, and leaves the line.
    pub(in crate::hub) fn next_to_go(
        &mut self,
        last_use: impl Fn(ChannelIncarnation) -> Option<u64>,
    ) -> Option<ChannelIndex> {
        while self.held > self.most {
            let Reverse((known, keeper)) = self.line.pop()?;
            match last_use(keeper) {
                Some(used) if used > known => self.enter(keeper, used),
                Some(_) => return Some(keeper.channel),
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
    fn the_least_recently_used_goes_first() {
        let mut memory = HistoryBudget::new(10);
        for channel in 0..3 {
            memory.enter(ChannelIncarnation { channel, opened: 0 }, u64::from(channel));
        }
        let last_use =
            |keeper: ChannelIncarnation| [Some(9), Some(5), None][keeper.channel as usize];
        assert_eq!(memory.next_to_go(last_use), None, "nothing is held");
        memory.account(0, 11);
        assert_eq!(memory.next_to_go(last_use), Some(1));
        assert_eq!(memory.next_to_go(last_use), Some(0));
        assert_eq!(memory.next_to_go(last_use), None, "all have left the line");
        memory.account(11, 10);
        memory.enter(ChannelIncarnation { channel: 1, opened: 0 }, 5);
        assert_eq!(memory.next_to_go(last_use), None, "it fits");
    }
}
