//! The share of one of several servers in the metrics that the gateway has once for all.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::IntGauge;

use super::{Metrics, int};

/// Nodes of a Cluster with a series, at most.
const MAX_NODES: usize = 100;

/// The share of one server in the gauges.
#[derive(Debug, Default)]
pub(super) struct ServerShare {
    pub(super) channels: GaugeShare,
    pub(super) history_bytes: GaugeShare,
    pub(super) stream_connections: GaugeShare,
    pub(super) recorded_waiting: GaugeShare,
    /// One for each state, in the order of the counts in `Metrics::sentinels`.
    pub(super) sentinels: [GaugeShare; 4],
    /// By setting, in the order in which they are told.
    settings_differ: [GaugeShare; 2],
    connection: ServerConnection,
    // Those of its nodes that have a series.
    nodes: Mutex<BTreeSet<String>>,
}

/// What one server contributes to a gauge.
#[derive(Debug, Default)]
pub(super) struct GaugeShare(AtomicI64);

/// Whether the server is connected, for the gauge that is 1 while all are.
#[derive(Debug, Default)]
struct ServerConnection {
    // `None`: there is only one server.
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

    /// Sets how many settings another gateway has otherwise.
    pub fn settings_differ(&self, counts: [(&str, usize); 2]) {
        for ((setting, number), share) in counts.into_iter().zip(&self.1.settings_differ) {
            share.set(&self.0.settings_differ.with_label_values(&[setting]), int(number));
        }
    }

    /// Sets which nodes of the Cluster can be used. The series of all others end.
    pub fn nodes(&self, nodes: &[(&str, bool)]) {
        let server = self.1.connection.name.as_deref().unwrap_or_default();
        let mut told = self.1.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = std::mem::take(&mut *told);
        let mut nodes = nodes.to_vec();
        nodes.sort_by_key(|(node, is_up)| (*is_up, *node));
        for (node, is_up) in nodes.into_iter().take(MAX_NODES) {
            gone.remove(node);
            told.insert(node.to_owned());
            self.0.nodes.with_label_values(&[server, node]).set(i64::from(is_up));
        }
        for node in gone {
            // An error says that there is no such series.
            drop(self.0.nodes.remove_label_values(&[server, &node]));
        }
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
    fn a_node_that_owns_nothing_any_more_has_no_series() {
        let metrics = Metrics::new().expect("metrics");
        let series = || {
            let text = metrics.render().expect("text");
            let lines = text.lines().filter_map(|line| line.strip_prefix("ssegate_redis_node_up"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        metrics.nodes(&[("a:1", true), ("b:1", false)]);
        let of_both = [r#"{node="a:1",server=""} 1"#, r#"{node="b:1",server=""} 0"#];
        assert_eq!(series(), of_both);
        metrics.nodes(&[("a:1", true), ("c:1", true)]);
        assert_eq!(series(), [r#"{node="a:1",server=""} 1"#, r#"{node="c:1",server=""} 1"#]);
        let names: Vec<_> = (0..150).map(|port| format!("a:{port}")).collect();
        metrics
            .nodes(&names.iter().map(|name| (name.as_str(), name != "a:149")).collect::<Vec<_>>());
        let all = series();
        assert!(all.len() == 100 && all.contains(&r#"{node="a:149",server=""} 0"#.to_owned()));
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
