//! Checks once a second whether a problem has begun or ended.

use std::collections::BTreeMap;
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
/// How many routes a log line names.
const MAX_ROUTES: usize = 3;

/// Updates the file-descriptor shortage, the backends and the slow readers. Runs as long as the
/// gateway.
pub(super) async fn watch(health: Health, shortage: DescriptorShortage, metrics: Metrics) {
    let mut interval = tokio::time::interval(CHECK_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut readers = SlowReaders::default();
    loop {
        let now = interval.tick().await;
        shortage.tick(now);
        for backend in health.backends() {
            backend.tick(now);
        }
        if let Some(trouble) = readers.update(&metrics.slow_streams_closed(), now) {
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
    closed: ByRoute,
    // The current problem, and the streams that were closed since it began.
    trouble: Option<(Incident, ByRoute)>,
    last: Option<Instant>,
    logged: Option<Instant>,
    unreported: ByRoute,
}

/// Streams by the path of their route.
#[derive(Clone, Debug, Default)]
struct ByRoute(BTreeMap<String, u64>);

impl SlowReaders {
    /// Takes the number of streams of each route that were closed since the start. Returns `Some` if the problem has
    /// changed: with the incident, or with `None` once the problem is over.
    fn update(&mut self, closed: &[(String, u64)], now: Instant) -> Option<Option<Incident>> {
        let more = self.closed.grow_to(closed);
        self.unreported.add(&more);
        let may_log = self.logged.is_none_or(|logged| now >= logged + LOG_INTERVAL);
        if self.unreported.total() > 0 && may_log {
            let closed = std::mem::take(&mut self.unreported);
            self.logged = Some(now);
            tracing::warn!(
                streams = closed.total(),
                routes = closed.largest(),
                "streams were closed because their clients read too slowly; on routes with a \
                 history they resume after reconnecting"
            );
        }
        if more.total() > 0 {
            self.last = Some(now);
            let wall = SystemTime::now();
            let (incident, in_all) = self.trouble.get_or_insert_with(|| {
                (Incident::new(CloseReason::Lagged.as_str(), "", wall), ByRoute::default())
            });
            in_all.add(&more);
            let (streams, routes) = (in_all.total(), in_all.largest());
            let text =
                format!("{streams} streams were closed: their clients read too slowly; {routes}");
            incident.go_on(text, wall);
            return Some(Some(incident.clone()));
        }
        let is_over = self.last.is_some_and(|last| now >= last + READERS_RECOVERED_AFTER);
        (is_over && self.trouble.take().is_some()).then_some(None)
    }
}

impl ByRoute {
    /// Takes the current counts, and returns by how much they have grown. The count of a route begins again at 0 if a
    /// reload removes the route and a later one adds it.
    fn grow_to(&mut self, counts: &[(String, u64)]) -> Self {
        let mut more = Self::default();
        for (route, count) in counts {
            let before = self.0.insert(route.clone(), *count).unwrap_or_default();
            let grown = if *count < before { *count } else { *count - before };
            if grown > 0 {
                more.0.insert(route.clone(), grown);
            }
        }
        more
    }

    fn add(&mut self, more: &Self) {
        for (route, count) in &more.0 {
            *self.0.entry(route.clone()).or_default() += count;
        }
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The routes with the most streams, each with its number.
    fn largest(&self) -> String {
        let mut routes: Vec<_> = self.0.iter().collect();
        routes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let named =
            routes.iter().take(MAX_ROUTES).map(|(route, count)| format!("{route}: {count}"));
        let mut text = named.collect::<Vec<_>>().join(", ");
        if routes.len() > MAX_ROUTES {
            text.push_str(", and others");
        }
        text
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
            let closed = [("/a".to_owned(), closed)];
            let trouble = readers.update(&closed, start + Duration::from_secs(seconds));
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

    #[test]
    fn the_slow_reader_warning_says_since_when_and_on_which_routes() {
        let (mut readers, start) = (SlowReaders::default(), Instant::now());
        let mut update = |seconds, closed: &[(&str, u64)]| {
            let closed: Vec<_> =
                closed.iter().map(|(at, count)| ((*at).to_owned(), *count)).collect();
            readers.update(&closed, start + Duration::from_secs(seconds)).flatten()
        };
        let first = update(1, &[("/a", 3)]).expect("a trouble");
        let second = update(2, &[("/a", 4), ("/b", 9)]).expect("it goes on").to_string();
        assert!(
            second.contains("13 streams were closed: ")
                && second.contains("; /b: 9, /a: 4; since ")
        );
        let since = |text: &str| text.split("; since ").nth(1).map(|rest| rest[..20].to_owned());
        assert_eq!(since(&second), since(&first.to_string()), "since the first, not the last");
        let many = [("/a", 4), ("/b", 9), ("/c", 1), ("/d", 1)];
        let many = update(3, &many).expect("it goes on").to_string();
        assert!(many.contains("/b: 9, /a: 4, /c: 1, and others; since "), "{many}");
        // After a reload.
        let again = update(4, &[("/a", 4), ("/b", 2)]).expect("it goes on").to_string();
        assert!(again.contains("17 streams"), "{again}");
    }
}
