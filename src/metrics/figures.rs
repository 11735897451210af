//! What the status page shows of the metrics.

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::proto::{Metric, MetricFamily};

use super::Metrics;

/// The current values of the metrics that the status page shows. Counters count from the start of the process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Open streams, by route and protocol.
    pub streams: Vec<StreamFigure>,
    /// Responses, by route and class of status.
    pub requests: Vec<RequestFigure>,
    /// The channels of all open streams.
    pub subscriptions: i64,
    /// Channels that are followed.
    pub channels: i64,
    /// Messages received from Redis or the embedded bus.
    pub messages: u64,
    /// Events written to sockets, once per stream.
    pub events: u64,
    /// Bytes of event streams written to sockets.
    pub bytes: u64,
    /// The buckets of the delivery latency.
    pub latency: LatencyBuckets,
    /// Bytes of events queued for clients.
    pub queue_bytes: i64,
    /// Memory of all histories, in bytes.
    pub history_bytes: i64,
    /// Streams closed, by reason.
    pub streams_closed: BTreeMap<String, f64>,
    /// Gaps, by reason.
    pub gaps: BTreeMap<String, f64>,
    /// Events dropped, by reason.
    pub dropped: BTreeMap<String, f64>,
    /// Open client connections, by protocol.
    pub connections: BTreeMap<String, f64>,
    /// The certificates of all listeners.
    pub certificates: Vec<CertificateFigure>,
    /// Reloads of all certificates, by result.
    pub certificate_reloads: BTreeMap<String, f64>,
    /// Kept streams, by state.
    pub kept: BTreeMap<String, f64>,
    /// Memory of kept streams, in bytes.
    pub kept_bytes: i64,
    /// Entries that were added to the logs of recorded channels, and how many of them are gaps.
    pub recorded: (u64, u64),
    /// Messages that were delivered and not recorded.
    pub recorded_dropped: u64,
    /// Bytes that wait to be recorded.
    pub recorded_waiting: i64,
    /// Members that are known, once for each of their channels.
    pub members: i64,
    /// Webhooks and attempts, by result.
    pub webhooks: BTreeMap<String, f64>,
    /// Webhooks that wait.
    pub webhooks_waiting: i64,
    /// Whether Redis is connected; 0 with the embedded bus.
    pub source_connected: i64,
    /// Reconnects to Redis.
    pub reconnects: u64,
    /// Messages that gateways of the fleet have published, this one among them.
    pub fleet_received: u64,
}

/// The open streams of one route over one protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFigure {
    /// The label of the route.
    pub route: String,
    /// `h1` or `h2`.
    pub protocol: String,
    /// Open streams.
    pub open: i64,
}

/// A certificate of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateFigure {
    /// The address of the listener.
    pub listener: String,
    /// The certificate's file.
    pub file: String,
    /// Its expiry, in Unix time.
    pub ends: f64,
}

/// The responses of one route with one class of status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFigure {
    /// The path of the route.
    pub route: String,
    /// The class: `2xx`.
    pub status: String,
    /// How many were sent.
    pub responses: u64,
}

/// How many events were delivered within which time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencyBuckets {
    /// The upper bound of each bucket in seconds, and how many events were delivered within it.
    pub within: Vec<(f64, u64)>,
    /// How many events were delivered.
    pub count: u64,
}

impl Metrics {
    /// The current values, for the status page.
    pub fn figures(&self) -> Figures {
        let all = &*self.0;
        Figures {
            streams: streams(&all.streams.collect()),
            requests: requests(&all.requests.collect()),
            subscriptions: all.subscriptions.get(),
            channels: all.channels.get(),
            messages: all.source_messages.get(),
            events: all.events_sent.get(),
            bytes: all.stream_bytes_sent.get(),
            latency: LatencyBuckets::of(&all.delivery_latency.collect()),
            queue_bytes: all.queue_bytes.get(),
            history_bytes: all.history_bytes.get(),
            streams_closed: by_label(&all.streams_closed.collect()),
            gaps: by_label(&all.gaps.collect()),
            dropped: by_label(&all.events_dropped.collect()),
            connections: by_label(&all.connections.collect()),
            certificates: certificates(&all.certificate_expiry.collect()),
            certificate_reloads: sums(&all.certificate_reloads.collect(), "result"),
            kept: by_label(&all.kept_streams.collect()),
            kept_bytes: all.kept_bytes.get(),
            recorded: (all.recorded_entries.get(), all.recorded_gaps.get()),
            recorded_dropped: all.recorded_dropped.get(),
            recorded_waiting: all.recorded_waiting.get(),
            members: all.presence_members.get(),
            webhooks: by_label(&all.webhooks.collect()),
            webhooks_waiting: all.webhooks_waiting.get(),
            source_connected: all.source_connected.get(),
            reconnects: all.source_reconnects.get(),
            fleet_received: all.fleet_received.get(),
        }
    }
}

impl LatencyBuckets {
    fn of(families: &[MetricFamily]) -> Self {
        let metrics = families.iter().flat_map(MetricFamily::get_metric);
        let histogram = metrics.map(|metric| metric.get_histogram()).next();
        let Some(histogram) = histogram else { return Self::default() };
        let buckets = histogram.get_bucket().iter();
        Self {
            within: buckets.map(|it| (it.upper_bound(), it.cumulative_count())).collect(),
            count: histogram.get_sample_count(),
        }
    }

    /// The time within which this share of the events since `before` was delivered, in seconds, as Prometheus
    /// estimates it: within a bucket they are taken to be evenly spread. `None` if there was no event.
    pub fn quantile(&self, before: &Self, share: f64) -> Option<f64> {
        let count = self.count.saturating_sub(before.count);
        let rank = as_float(count) * share;
        if count == 0 {
            return None;
        }
        let (mut low, mut below) = (0.0, 0.0);
        for (place, (bound, within)) in self.within.iter().enumerate() {
            let earlier = before.within.get(place).map_or(0, |(_, within)| *within);
            let within = as_float(within.saturating_sub(earlier));
            if within >= rank && within > below {
                return Some(low + (bound - low) * (rank - below) / (within - below));
            }
            (low, below) = (*bound, within);
        }
        // Later than the last bound: nothing more is known.
        Some(low)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of events are far below 2^52")]
fn as_float(count: u64) -> f64 {
    count as f64
}

/// The value of a metric's label; empty if it has none of this name.
fn label(metric: &Metric, name: &str) -> String {
    let label = metric.get_label().iter().find(|label| label.name() == name);
    label.map(|label| label.value().to_owned()).unwrap_or_default()
}

fn certificates(families: &[MetricFamily]) -> Vec<CertificateFigure> {
    let figure = |metric: &Metric| CertificateFigure {
        listener: label(metric, "listener"),
        file: label(metric, "certificate"),
        ends: metric.get_gauge().get_value(),
    };
    let metrics = families.iter().flat_map(MetricFamily::get_metric);
    let mut figures: Vec<_> = metrics.map(figure).collect();
    // The registry returns metrics in no order.
    figures.sort_by(|a, b| (&a.listener, &a.file).cmp(&(&b.listener, &b.file)));
    figures
}

/// The sums of counters with the same value of this label.
fn sums(families: &[MetricFamily], name: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for metric in families.iter().flat_map(MetricFamily::get_metric) {
        *sums.entry(label(metric, name)).or_default() += metric.get_counter().get_value();
    }
    sums
}

fn requests(families: &[MetricFamily]) -> Vec<RequestFigure> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the counter is a whole number"
    )]
    let figure = |metric: &Metric| RequestFigure {
        route: label(metric, "route"),
        status: label(metric, "status"),
        responses: metric.get_counter().get_value() as u64,
    };
    families.iter().flat_map(MetricFamily::get_metric).map(figure).collect()
}

fn streams(families: &[MetricFamily]) -> Vec<StreamFigure> {
    #[expect(clippy::cast_possible_truncation, reason = "the gauge is a whole number")]
    let figure = |metric: &Metric| StreamFigure {
        route: label(metric, "route"),
        protocol: label(metric, "protocol"),
        open: metric.get_gauge().get_value() as i64,
    };
    families.iter().flat_map(MetricFamily::get_metric).map(figure).collect()
}

/// The values of a metric with one label.
fn by_label(families: &[MetricFamily]) -> BTreeMap<String, f64> {
    let metrics = families.iter().flat_map(MetricFamily::get_metric);
    let pair = |metric: &Metric| {
        let label = metric.get_label().first()?;
        // A metric is either a counter or a gauge; the absent one is 0.
        let value = metric.get_counter().get_value() + metric.get_gauge().get_value();
        Some((label.value().to_owned(), value))
    };
    metrics.filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use ssegate_hub::Observer as _;

    use super::{CertificateFigure, LatencyBuckets, RequestFigure, StreamFigure};
    use crate::metrics::Metrics;

    #[test]
    fn a_quantile_is_that_of_the_events_since_before() {
        let buckets = |within: [u64; 3], count| LatencyBuckets {
            within: [0.01, 0.1, 1.0].into_iter().zip(within).collect(),
            count,
        };
        let none = LatencyBuckets::default();
        let slow = buckets([0, 0, 0], 100);
        for (now, before, share, expected) in [
            (buckets([0, 0, 0], 0), &none, 0.5, None),
            (buckets([100, 100, 100], 100), &none, 0.5, Some(0.005)),
            (buckets([0, 100, 100], 100), &none, 0.5, Some(0.055)),
            (buckets([50, 100, 100], 100), &none, 0.99, Some(0.0982)),
            (buckets([0, 0, 0], 10), &none, 0.5, Some(1.0)),
            (buckets([100, 100, 100], 200), &slow, 0.5, Some(0.005)),
            (slow.clone(), &slow, 0.5, None),
        ] {
            let found = now.quantile(before, share);
            let is_near = match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
                (found, expected) => found == expected,
            };
            assert!(is_near, "{now:?} {share}: {found:?}, expected {expected:?}");
        }
    }

    #[test]
    fn the_figures_are_those_of_the_metrics() {
        let metrics = Metrics::new().expect("metrics");
        let route = metrics.route("/events");
        route.stream_opened("h2");
        route.stream_opened("h2");
        route.stream_closed("h2", "lagged", Duration::from_secs(1));
        route.response_sent(503);
        metrics.source_messages(7);
        let shard = metrics.for_shard();
        shard.event_sent(Duration::from_micros(70));
        shard.tick(12);
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
        for file in ["/a.pem", "/b.pem", "/gone.pem"] {
            metrics.certificate_in_use("127.0.0.1:443", file, Some(end));
            metrics.certificate_reloaded("127.0.0.1:443", file, file == "/a.pem");
        }
        metrics.certificate_gone("127.0.0.1:443", "/gone.pem");
        let figures = metrics.figures();
        let open = StreamFigure { route: "/events".into(), protocol: "h2".into(), open: 1 };
        assert_eq!(figures.streams, [open]);
        let failed = RequestFigure { route: "/events".into(), status: "5xx".into(), responses: 1 };
        assert_eq!(figures.requests, [failed]);
        assert_eq!((figures.messages, figures.events, figures.queue_bytes), (7, 1, 12));
        assert_eq!(figures.streams_closed.get("lagged"), Some(&1.0));
        let certificate = |file: &str| CertificateFigure {
            listener: "127.0.0.1:443".into(),
            file: file.into(),
            ends: 1.5e9,
        };
        assert_eq!(figures.certificates, [certificate("/a.pem"), certificate("/b.pem")]);
        let reloads = [("failure".to_owned(), 1.0), ("success".to_owned(), 1.0)];
        assert_eq!(figures.certificate_reloads, reloads.into());
        let half = figures.latency.quantile(&LatencyBuckets::default(), 0.5);
        assert!(half.is_some_and(|half| (0.00005..=0.0001).contains(&half)), "{half:?}");
    }
}
