//! What one of several servers adds to the metrics that are there once for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use prometheus::IntGauge;

use super::Metrics;

/// The share of one server in the gauges.
#[derive(Debug, Default)]
pub(super) struct ServerShare {
    pub(super) channels: GaugeShare,
    pub(super) history_bytes: GaugeShare,
    pub(super) stream_connections: GaugeShare,
    pub(super) recorded_waiting: GaugeShare,
    /// By state, in the order in which the states are told.
    pub(super) sentinels: [GaugeShare; 4],
    connection: ServerConnection,
}

/// What one server has added to a gauge.
#[derive(Debug, Default)]
pub(super) struct GaugeShare(AtomicI64);

/// Whether the server is connected, and whether the others are.
#[derive(Debug, Default)]
struct ServerConnection {
    // `None`: there is one server.
    name: Option<Arc<str>>,
    index: usize,
    all: Arc<[AtomicBool]>,
}

impl GaugeShare {
    /// Sets the share to `value`.
    pub(super) fn set(&self, gauge: &IntGauge, value: i64) {
        gauge.add(value - self.0.swap(value, Ordering::Relaxed));
    }
}

impl Metrics {
    /// The metrics for each of these servers, in order.
    pub fn for_servers(&self, names: &[Arc<str>]) -> Vec<Self> {
        if names.len() < 2 {
            return vec![self.clone()];
        }
        let all: Arc<[AtomicBool]> = names.iter().map(|_| AtomicBool::new(false)).collect();
        let one = |(index, name): (usize, &Arc<str>)| {
            self.0.server_connected.with_label_values(&[name]).set(0);
            let (name, all) = (Some(Arc::clone(name)), Arc::clone(&all));
            let connection = ServerConnection { name, index, all };
            let share = ServerShare { connection, ..ServerShare::default() };
            Self(Arc::clone(&self.0), Arc::new(share))
        };
        names.iter().enumerate().map(one).collect()
    }

    /// The source has connected or disconnected.
    pub fn source_connected(&self, is_connected: bool) {
        let ServerConnection { name, index, all } = &self.1.connection;
        let mut are_all = is_connected;
        if let (Some(name), Some(own)) = (name, all.get(*index)) {
            own.store(is_connected, Ordering::Relaxed);
            self.0.server_connected.with_label_values(&[name]).set(i64::from(is_connected));
            are_all = all.iter().all(|one| one.load(Ordering::Relaxed));
        }
        self.0.source_connected.set(i64::from(are_all));
    }
}

#[cfg(test)]
mod tests {
    use ssegate_hub::Observer as _;

    use crate::metrics::Metrics;

    #[test]
    fn gauges_are_the_sums_of_the_servers_and_each_is_told_by_its_name() {
        let metrics = Metrics::new().expect("metrics");
        let servers = metrics.for_servers(&["url".into(), "orders".into()]);
        let [first, second] = &servers[..] else { panic!("two") };
        first.channels(3);
        second.channels(4);
        first.channels(2);
        first.source_connected(true);
        let line = |line: &str| {
            let text = metrics.render().expect("text");
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        };
        line("ssegate_channels 6");
        line("ssegate_redis_connected 0");
        line("ssegate_redis_server_connected{server=\"url\"} 1");
        line("ssegate_redis_server_connected{server=\"orders\"} 0");
        second.source_connected(true);
        line("ssegate_redis_connected 1");
        assert_eq!(metrics.figures().channels, 6);
    }

    #[test]
    fn one_server_has_no_series_of_its_own() {
        let metrics = Metrics::new().expect("metrics");
        let only = metrics.for_servers(&["url".into()]).remove(0);
        only.source_connected(true);
        let text = metrics.render().expect("text");
        assert!(text.contains("ssegate_redis_connected 1"), "{text}");
        assert!(!text.contains("ssegate_redis_server_connected{"), "{text}");
    }
}
