//! Whether more than 1% of the responses of the last minute were slow, which means that their 99th
//! percentile exceeds the limit. Pure: the caller ticks once a second and passes the counts.

use std::collections::VecDeque;

/// The length of the window in seconds.
const WINDOW: usize = 60;
/// Fewer slow responses than this per window are noise.
const MIN_SLOW: u64 = 3;

/// A sliding window over the last minute.
#[derive(Debug)]
pub(super) struct LatencyWindow {
    // Cumulative counts at each second: all responses, and slow ones.
    seconds: VecDeque<(u64, u64)>,
    is_slow: bool,
}

/// The change after a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LatencyChange {
    Unchanged,
    /// Became slow.
    Slow {
        responses: u64,
        slow: u64,
    },
    /// Is no longer slow.
    Recovered,
}

impl Default for LatencyWindow {
    fn default() -> Self {
        Self { seconds: VecDeque::from([(0, 0)]), is_slow: false }
    }
}

impl LatencyWindow {
    /// Advances the window by a second. `responses` and `slow` are cumulative counts; `slow`
    /// includes requests whose response is still pending.
    pub(super) fn tick(&mut self, responses: u64, slow: u64) -> LatencyChange {
        if self.seconds.len() > WINDOW {
            self.seconds.pop_front();
        }
        let (before, slow_before) = self.seconds.front().copied().unwrap_or_default();
        let (more, more_slow) = (responses - before, slow - slow_before);
        self.seconds.push_back((responses, slow));
        let is_slow = more_slow >= MIN_SLOW && more_slow * 100 > more;
        match (std::mem::replace(&mut self.is_slow, is_slow), is_slow) {
            (false, true) => {
                LatencyChange::Slow { responses: more.max(more_slow), slow: more_slow }
            }
            (true, false) => LatencyChange::Recovered,
            _ => LatencyChange::Unchanged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LatencyChange, LatencyWindow, MIN_SLOW, WINDOW};

    #[test]
    fn it_stays_slow_until_the_slow_responses_leave_the_window() {
        let mut window = LatencyWindow::default();
        assert_eq!(window.tick(100, 0), LatencyChange::Unchanged);
        assert_eq!(window.tick(100, MIN_SLOW - 1), LatencyChange::Unchanged, "too few");
        assert_eq!(window.tick(100, MIN_SLOW), LatencyChange::Slow { responses: 100, slow: 3 });
        for _ in 3..WINDOW {
            assert_eq!(window.tick(100, MIN_SLOW), LatencyChange::Unchanged);
        }
        let changes: Vec<_> = (0..4).map(|_| window.tick(100, MIN_SLOW)).collect();
        assert_eq!(
            changes.iter().filter(|change| **change == LatencyChange::Recovered).count(),
            1,
            "{changes:?}"
        );
    }
}
