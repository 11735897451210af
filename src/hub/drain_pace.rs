//! How many of a crowd are to have gone after some time: evenly, and no slower than need be.

use std::time::Duration;

/// Where few go, this passes between two of them and no more.
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// So many, over so long.
#[derive(Clone, Copy, Debug)]
pub(super) struct DrainPace {
    count: usize,
    over: Duration,
}

impl DrainPace {
    pub(super) fn new(count: usize, over: Duration) -> Self {
        let slowest = MAX_PAUSE.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        Self { count, over: over.min(slowest) }
    }

    /// How many are to have gone; the first goes at once.
    pub(super) fn due(self, elapsed: Duration) -> usize {
        if elapsed >= self.over {
            return self.count;
        }
        let due = self.count as u128 * elapsed.as_nanos() / self.over.as_nanos();
        usize::try_from(due).map_or(self.count, |due| due + 1).min(self.count)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::DrainPace;

    #[test]
    fn a_crowd_goes_evenly_and_a_few_soon() {
        let seconds = Duration::from_secs;
        for (count, over, elapsed, due) in [
            (5000, seconds(5), Duration::ZERO, 1),
            (5000, seconds(5), seconds(1), 1001),
            (5000, seconds(5), seconds(4), 4001),
            (5000, seconds(5), seconds(5), 5000),
            (10, seconds(3600), Duration::from_millis(450), 5),
            (10, seconds(3600), seconds(1), 10),
            (7, Duration::ZERO, Duration::ZERO, 7),
            (0, seconds(1), Duration::ZERO, 0),
        ] {
            assert_eq!(
                DrainPace::new(count, over).due(elapsed),
                due,
                "{count} {over:?} {elapsed:?}"
            );
        }
    }
}
