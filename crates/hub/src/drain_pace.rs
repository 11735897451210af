//! Ends many streams evenly over a time, so that their clients do not all come back at once.

use std::time::Duration;

use tokio::time::Instant;

/// The longest pause between the ends of two streams: where few are open, a drain is over sooner.
const MAX_PAUSE: Duration = Duration::from_millis(100);
/// How often a drain ends the streams that are due.
const DRAIN_TICK: Duration = Duration::from_millis(10);

/// Ends `streams` evenly over `over`, or sooner where they are few. `end` is called with those that are due.
///
/// They end in random order: those of one connection or client are spread, too.
pub async fn drain_evenly<T>(mut streams: Vec<T>, over: Duration, mut end: impl FnMut(&[T])) {
    fastrand::shuffle(&mut streams);
    let (pace, start) = (DrainPace::new(streams.len(), over), Instant::now());
    let mut tick = tokio::time::interval(DRAIN_TICK);
    let mut ended = 0;
    while ended < streams.len() {
        tick.tick().await;
        let due = pace.due(start.elapsed());
        if due > ended {
            end(&streams[ended..due]);
            ended = due;
        }
    }
}

/// How many of `count` streams must have ended after some time.
#[derive(Clone, Copy, Debug)]
struct DrainPace {
    count: usize,
    over: Duration,
}

impl DrainPace {
    fn new(count: usize, over: Duration) -> Self {
        let slowest = MAX_PAUSE.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        Self { count, over: over.min(slowest) }
    }

    /// How many must have ended; the first ends at once.
    fn due(self, elapsed: Duration) -> usize {
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
    fn many_streams_end_evenly_and_few_end_soon() {
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
            let pace = DrainPace::new(count, over);
            assert_eq!(pace.due(elapsed), due, "{count} streams over {over:?} after {elapsed:?}");
        }
    }
}
