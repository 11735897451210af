//! Whether more than one in a hundred responses of the last minute was slow: the 99th percentile is
//! then above the limit by which they were called slow. Pure: it is told of each second.

use std::collections::VecDeque;

/// Seconds that are looked back at.
const WINDOW: usize = 60;
/// Fewer slow responses than this in a minute are no sign of anything.
const LEAST_SLOW: u64 = 3;

/// The last minute.
#[derive(Debug)]
pub(super) struct Pace {
    // Up to each second: all responses, and those that were slow.
    seconds: VecDeque<(u64, u64)>,
    is_slow: bool,
}

/// What a second has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Same,
    /// It is slow from now on.
    Slow {
        responses: u64,
        slow: u64,
    },
    /// It is no longer.
    Well,
}

impl Default for Pace {
    fn default() -> Self {
        Self { seconds: VecDeque::from([(0, 0)]), is_slow: false }
    }
}

impl Pace {
    /// A second has passed. `responses` and `slow` count from the start; a response that has not come
    /// yet may be slow already.
    pub(super) fn tick(&mut self, responses: u64, slow: u64) -> Turn {
        if self.seconds.len() > WINDOW {
            self.seconds.pop_front();
        }
        let (before, slow_before) = self.seconds.front().copied().unwrap_or_default();
        let (more, more_slow) = (responses - before, slow - slow_before);
        self.seconds.push_back((responses, slow));
        let is_slow = more_slow >= LEAST_SLOW && more_slow * 100 > more;
        match (std::mem::replace(&mut self.is_slow, is_slow), is_slow) {
            (false, true) => Turn::Slow { responses: more.max(more_slow), slow: more_slow },
            (true, false) => Turn::Well,
            _ => Turn::Same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LEAST_SLOW, Pace, Turn, WINDOW};

    #[test]
    fn it_is_slow_for_a_minute_after_the_last_slow_ones() {
        let mut pace = Pace::default();
        assert_eq!(pace.tick(100, 0), Turn::Same);
        assert_eq!(pace.tick(100, LEAST_SLOW - 1), Turn::Same, "too few");
        assert_eq!(pace.tick(100, LEAST_SLOW), Turn::Slow { responses: 100, slow: 3 });
        for _ in 3..WINDOW {
            assert_eq!(pace.tick(100, LEAST_SLOW), Turn::Same);
        }
        let turns: Vec<_> = (0..4).map(|_| pace.tick(100, LEAST_SLOW)).collect();
        assert_eq!(turns.iter().filter(|turn| **turn == Turn::Well).count(), 1, "{turns:?}");
    }
}
