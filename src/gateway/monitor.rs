//! Periodic checks, once a second: whether a trouble has begun or ended.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ssegate_bus::BusStats;
use ssegate_hub::CloseReason;
use tokio::time::{Instant, MissedTickBehavior};

use crate::health::{Health, Incident};
use crate::log_limit::LOG_INTERVAL;
use crate::metrics::Metrics;
use crate::server::descriptors::DescriptorShortage;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The slow-reader warning in `/readyz` ends this long after the last stream was closed for it.
const READERS_RECOVERED_AFTER: Duration = Duration::from_secs(60);

/// Updates the file-descriptor shortage, the backends and the slow readers. Runs as long as the
/// gateway.
pub(super) async fn watch(health: Health, shortage: DescriptorShortage, metrics: Metrics) {
    let mut interval = tokio::time::interval(CHECK_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut readers = SlowReaders::default();
    let slow = CloseReason::SLOW.map(CloseReason::as_str);
    loop {
        let now = interval.tick().await;
        shortage.tick(now);
        for backend in health.backends() {
            backend.tick(now);
        }
        if let Some(trouble) = readers.update(metrics.streams_closed(&slow), now) {
            health.set_slow_readers(trouble);
        }
    }
}

/// Copies the counters of the embedded bus to the metrics. Runs as long as the gateway.
pub(super) async fn watch_bus(stats: Arc<BusStats>, metrics: Metrics) {
    let mut interval = tokio::time::interval(CHECK_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = stats.connections_closed();
    let mut refused_before = 0;
    loop {
        metrics.bus(stats.sessions(), stats.memory());
        metrics.bus_streams(stats.streams(), stats.stream_bytes());
        let refused = stats.entries_refused();
        metrics.bus_entries_refused(refused - refused_before);
        refused_before = refused;
        let now = stats.connections_closed();
        for ((reason, cuts), (_, before)) in now.into_iter().zip(before) {
            metrics.bus_connections_cut(reason, cuts - before);
        }
        before = now;
        interval.tick().await;
    }
}

/// Streams closed because their clients read too slowly. The first is logged at once, further ones
/// every ten seconds with a count.
#[derive(Debug, Default)]
struct SlowReaders {
    closed: u64,
    // The trouble, and the number of streams closed in it.
    trouble: Option<(Incident, u64)>,
    last: Option<Instant>,
    logged: Option<Instant>,
    unreported: u64,
}

impl SlowReaders {
    /// Takes the number of streams closed since the start. Returns `Some` if the trouble has
    /// changed, with `None` in it if it is over.
    fn update(&mut self, closed: u64, now: Instant) -> Option<Option<Incident>> {
        let more = closed - std::mem::replace(&mut self.closed, closed);
        self.unreported += more;
        let may_log = self.logged.is_none_or(|logged| now >= logged + LOG_INTERVAL);
        if self.unreported > 0 && may_log {
            let streams = std::mem::take(&mut self.unreported);
            self.logged = Some(now);
            tracing::warn!(
                streams,
                "streams were closed because their clients read too slowly; on routes with a \
                 history they resume after reconnecting"
            );
        }
        if more > 0 {
            self.last = Some(now);
            let (_, before) = self.trouble.take().unzip();
            let streams = before.unwrap_or_default() + more;
            let error = format!("{streams} streams were closed: their clients read too slowly");
            let trouble = Incident::new(CloseReason::Lagged.as_str(), error, SystemTime::now());
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
    fn the_slow_reader_warning_ends_a_minute_after_the_last_one() {
        let (mut readers, start) = (SlowReaders::default(), Instant::now());
        let mut update = |closed, seconds| {
            let trouble = readers.update(closed, start + Duration::from_secs(seconds));
            trouble.map(|trouble| trouble.map(|trouble| trouble.to_string()).unwrap_or_default())
        };
        assert_eq!(update(0, 0), None);
        assert!(update(3, 1).is_some_and(|text| text.contains("3 streams were closed")));
        assert_eq!(update(3, 2), None);
        assert!(update(5, 3).is_some_and(|text| text.contains("5 streams were closed")));
        let over = 3 + READERS_RECOVERED_AFTER.as_secs();
        assert_eq!(update(5, over - 1), None);
        assert_eq!(update(5, over), Some(String::new()));
        assert_eq!(update(5, over + 1), None);
    }
}
