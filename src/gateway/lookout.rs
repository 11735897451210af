//! What is looked at once a second: whether a trouble has begun, goes on or is over.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior};

use crate::health::{Health, Trouble};
use crate::hub::CloseReason;
use crate::log_limit::LOG_INTERVAL;
use crate::metrics::Metrics;
use crate::server::files::Shortage;
use crate::source::embedded::BusStats;

const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Slow readers are a trouble for so long after the last one was closed.
const READERS_RECOVERED_AFTER: Duration = Duration::from_secs(60);

/// Runs as long as the gateway.
pub(super) async fn watch(health: Health, shortage: Shortage, metrics: Metrics) {
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut readers = SlowReaders::default();
    let slow = CloseReason::SLOW.map(CloseReason::as_str);
    loop {
        let now = look.tick().await;
        shortage.tick(now);
        for backend in health.backends() {
            backend.tick(now);
        }
        if let Some(trouble) = readers.look(metrics.streams_closed(&slow), now) {
            health.set_slow_readers(trouble);
        }
    }
}

/// Shows what the embedded bus counts. Runs as long as the gateway.
pub(super) async fn watch_bus(stats: Arc<BusStats>, metrics: Metrics) {
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = stats.cuts();
    loop {
        metrics.bus(stats.sessions(), stats.memory());
        let now = stats.cuts();
        for ((reason, cuts), (_, before)) in now.into_iter().zip(before) {
            metrics.bus_connections_cut(reason, cuts - before);
        }
        before = now;
        look.tick().await;
    }
}

/// Streams that are closed because their clients read too slowly: logged at once, and then every ten
/// seconds with a count.
#[derive(Debug, Default)]
struct SlowReaders {
    closed: u64,
    // In this trouble, and of those the ones that have been logged.
    trouble: Option<(Trouble, u64)>,
    last: Option<Instant>,
    logged: Option<Instant>,
    untold: u64,
}

impl SlowReaders {
    /// So many have been closed since the start. `Some`: the trouble has changed.
    fn look(&mut self, closed: u64, now: Instant) -> Option<Option<Trouble>> {
        let more = closed - std::mem::replace(&mut self.closed, closed);
        self.untold += more;
        let may_log = self.logged.is_none_or(|logged| now >= logged + LOG_INTERVAL);
        if self.untold > 0 && may_log {
            let streams = std::mem::take(&mut self.untold);
            self.logged = Some(now);
            tracing::warn!(
                streams,
                "streams were closed because their clients read too slowly; routes with a history let \
                 them resume"
            );
        }
        if more > 0 {
            self.last = Some(now);
            let (_, before) = self.trouble.take().unzip();
            let streams = before.unwrap_or_default() + more;
            let error = format!("{streams} streams were closed, whose clients read too slowly");
            let trouble = Trouble::new(CloseReason::Lagged.as_str(), error, SystemTime::now());
            self.trouble = Some((trouble.clone(), streams));
            return Some(Some(trouble));
        }
        let is_over = self.last.is_some_and(|last| now >= last + READERS_RECOVERED_AFTER);
        (is_over && self.trouble.take().is_some()).then_some(None)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{READERS_RECOVERED_AFTER, SlowReaders};

    #[test]
    fn slow_readers_are_a_trouble_until_a_minute_has_passed_without_one() {
        let (mut readers, start) = (SlowReaders::default(), Instant::now());
        let mut look = |closed, seconds| {
            let trouble = readers.look(closed, start + Duration::from_secs(seconds));
            trouble.map(|trouble| trouble.map(|trouble| trouble.to_string()).unwrap_or_default())
        };
        assert_eq!(look(0, 0), None);
        assert!(look(3, 1).is_some_and(|text| text.contains("3 streams were closed")));
        assert_eq!(look(3, 2), None);
        assert!(look(5, 3).is_some_and(|text| text.contains("5 streams were closed")));
        let over = 3 + READERS_RECOVERED_AFTER.as_secs();
        assert_eq!(look(5, over - 1), None);
        assert_eq!(look(5, over), Some(String::new()));
        assert_eq!(look(5, over + 1), None);
    }
}
