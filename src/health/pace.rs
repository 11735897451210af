//! Whether more than 1% of the responses of the last minute were slow, which means that their 99th
//! percentile exceeds the limit. Pure: the caller ticks once a second and passes the counts.

use std::collections::VecDeque;

/// The length of the window in seconds.
const WINDOW: usize = 60;
/// Fewer slow responses than this per window are noise.
const LEAST_SLOW: u64 = 3;

/// A sliding window over the last minute.
#[derive(Debug)]
pub(super) struct Pace {
    // Cumulative counts at each second: all responses, and slow ones.
    seconds: VecDeque<(u64, u64)>,
    is_slow: bool,
}

/// The change after a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Same,
    /// Became slow.
    Slow {
        responses: u64,
        slow: u64,
    },
    /// Is no longer slow.
    Well,
}

impl Default for Pace {
    fn default() -> Self {
        Self { seconds: VecDeque::from([(0, 0)]), is_slow: false }
    }
}

impl Pace {
    /// Advances the window by a second. `responses` and `slow` are cumulative counts; `slow`
    /// includes requests whose response is still pending.
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
    fn it_stays_slow_until_the_slow_responses_leave_the_window() {
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
