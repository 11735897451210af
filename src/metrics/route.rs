//! The metrics of one route, labelled with its path, behind its host if it has one.
//!
//! A reload may remove a route whose streams are still open, so its series live until the last
//! handle is dropped.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};
use ssegate_hub::CloseReason;

use super::Metrics;

/// The values of the label `status`, by the first digit of the status.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// The values of the label `protocol` of event streams.
const PROTOCOLS: [&str; 2] = ["h1", "h2"];

/// The values of the label `result` of published messages: published now or by an earlier request with the same
/// key, refused by Redis, not sent, or sent without a reply.
const PUBLISH_RESULTS: [&str; 5] = ["published", "repeated", "refused", "unsent", "unknown"];

/// The metrics of the routes that have a handle, by label.
#[derive(Default)]
pub(super) struct RouteRegistry(Mutex<HashMap<Box<str>, Weak<RouteMetrics>>>);

/// The metrics of one route. A series is created when it is first recorded; after that, recording
/// needs no look-up by label.
pub struct RouteMetrics {
    label: Box<str>,
    requests: [OnceLock<IntCounter>; CLASSES.len()],
    request_duration: OnceLock<Histogram>,
    upstream_duration: OnceLock<Histogram>,
    streams: [OnceLock<(IntGauge, IntCounter)>; PROTOCOLS.len()],
    tunnels: OnceLock<IntGauge>,
    upstream_connections: OnceLock<IntGauge>,
    // Streams closed since their clients read too slowly: for the log.
    slow_streams_closed: AtomicU64,
    // The values of further labels in series of this route, needed to remove them.
    labels: Mutex<SeriesLabels>,
    all: Metrics,
}

#[derive(Debug, Default)]
struct SeriesLabels {
    error_kinds: Vec<&'static str>,
    retry_reasons: Vec<&'static str>,
    upstreams: Vec<String>,
}

impl Metrics {
    /// The metrics of the routes with this label.
    pub fn route(&self, label: &str) -> Arc<RouteMetrics> {
        let mut routes = self.0.routes.lock();
        if let Some(route) = routes.get(label).and_then(Weak::upgrade) {
            return route;
        }
        let route = Arc::new(RouteMetrics::new(label, self.clone()));
        routes.insert(label.into(), Arc::downgrade(&route));
        route
    }
}

impl RouteRegistry {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Weak<RouteMetrics>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many streams of each route were closed because their clients read too slowly.
    pub(super) fn slow_streams_closed(&self) -> Vec<(String, u64)> {
        // The handles are dropped after the lock is released, because dropping the last one takes the lock.
        let routes: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
        let closed = |route: &Arc<RouteMetrics>| {
            let closed = route.slow_streams_closed.load(Ordering::Relaxed);
            (closed > 0).then(|| (route.label().to_owned(), closed))
        };
        routes.iter().filter_map(closed).collect()
    }
}

impl Metrics {
    /// An upstream of the route with this label can be connected to again. Does nothing if the
    /// route no longer exists.
    pub fn upstream_reached(&self, label: &str, upstream: &str) {
        let route = self.0.routes.lock().get(label).and_then(Weak::upgrade);
        if let Some(route) = route {
            route.upstream_up(upstream, true);
        }
    }
}

impl RouteMetrics {
    fn new(label: &str, all: Metrics) -> Self {
        Self {
            label: label.into(),
            requests: Default::default(),
            request_duration: OnceLock::new(),
            upstream_duration: OnceLock::new(),
            streams: Default::default(),
            tunnels: OnceLock::new(),
            upstream_connections: OnceLock::new(),
            slow_streams_closed: AtomicU64::new(0),
            labels: Mutex::default(),
            all,
        }
    }

    /// The route's name in metrics and log lines: its path, behind its host if it has one.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The metrics of the whole gateway.
    pub fn all(&self) -> &Metrics {
        &self.all
    }

    /// A response with this status was sent.
    pub fn response_sent(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        let new = || self.all.0.requests.with_label_values(&[&*self.label, CLASSES[class]]);
        self.requests[class].get_or_init(new).inc();
    }

    /// A request has ended: with the end of its response, or with the header of a stream or tunnel.
    pub fn request_ended(&self, duration: Duration) {
        let new = || self.all.0.request_duration.with_label_values(&[&*self.label]);
        self.request_duration.get_or_init(new).observe(duration.as_secs_f64());
    }

    /// A backend has sent the header of its response.
    pub fn upstream_responded(&self, duration: Duration) {
        let new = || self.all.0.upstream_duration.with_label_values(&[&*self.label]);
        self.upstream_duration.get_or_init(new).observe(duration.as_secs_f64());
    }

    /// An event stream was opened over this protocol.
    pub fn stream_opened(&self, protocol: &str) {
        let (open, opened) = self.streams(protocol);
        open.inc();
        opened.inc();
    }

    /// An event stream was closed.
    pub fn stream_closed(&self, protocol: &str, reason: &str, age: Duration) {
        self.streams(protocol).0.dec();
        self.all.0.streams_closed.with_label_values(&[reason]).inc();
        self.all.0.stream_age.observe(age.as_secs_f64());
        if CloseReason::SLOW.iter().any(|slow| slow.as_str() == reason) {
            self.slow_streams_closed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn streams(&self, protocol: &str) -> &(IntGauge, IntCounter) {
        let place = PROTOCOLS.iter().position(|known| *known == protocol).unwrap_or_default();
        let labels = [&*self.label, PROTOCOLS[place]];
        let all = &self.all.0;
        self.streams[place].get_or_init(|| {
            let open = all.streams.with_label_values(&labels);
            (open, all.streams_opened.with_label_values(&labels))
        })
    }

    /// A backend's event stream has a Content-Encoding.
    pub fn encoded_stream_passed(&self) {
        self.all.0.streams_encoded.with_label_values(&[&*self.label]).inc();
    }

    /// Messages were published over HTTP, or not, with one of [`PUBLISH_RESULTS`].
    pub fn published(&self, result: &'static str, messages: usize) {
        debug_assert!(PUBLISH_RESULTS.contains(&result), "its series would outlive the route");
        if messages > 0 {
            let published = self.all.0.published.with_label_values(&[&*self.label, result]);
            published.inc_by(messages as u64);
        }
    }

    /// A connection to a backend was opened.
    pub fn upstream_connected(&self) {
        self.upstream_connections().inc();
    }

    /// A connection to a backend was closed.
    pub fn upstream_disconnected(&self) {
        self.upstream_connections().dec();
    }

    fn upstream_connections(&self) -> &IntGauge {
        let new = || self.all.0.upstream_connections.with_label_values(&[&*self.label]);
        self.upstream_connections.get_or_init(new)
    }

    /// A backend sent no response to a request, or an incomplete one.
    pub fn upstream_failed(&self, kind: &'static str) {
        let mut labels = self.labels();
        if !labels.error_kinds.contains(&kind) {
            labels.error_kinds.push(kind);
        }
        self.all.0.upstream_errors.with_label_values(&[&*self.label, kind]).inc();
    }

    /// A request was retried.
    pub fn upstream_retried(&self, reason: &'static str) {
        let mut labels = self.labels();
        if !labels.retry_reasons.contains(&reason) {
            labels.retry_reasons.push(reason);
        }
        self.all.0.upstream_retries.with_label_values(&[&*self.label, reason]).inc();
    }

    /// Records whether the last attempt to connect to this upstream succeeded.
    pub fn upstream_up(&self, upstream: &str, is_up: bool) {
        let mut labels = self.labels();
        if !labels.upstreams.iter().any(|known| known == upstream) {
            labels.upstreams.push(upstream.to_owned());
        }
        let up = self.all.0.upstream_up.with_label_values(&[&*self.label, upstream]);
        up.set(i64::from(is_up));
    }

    /// A tunnel was opened.
    pub fn tunnel_opened(&self) {
        self.tunnels().inc();
    }

    /// A tunnel was closed.
    pub fn tunnel_closed(&self) {
        self.tunnels().dec();
    }

    fn tunnels(&self) -> &IntGauge {
        self.tunnels.get_or_init(|| self.all.0.tunnels.with_label_values(&[&*self.label]))
    }

    fn labels(&self) -> MutexGuard<'_, SeriesLabels> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes all series of this route.
    fn remove_series(&self) {
        let (all, label) = (&self.all.0, &*self.label);
        // Removing a series that does not exist returns an error, which is ignored.
        for protocol in PROTOCOLS {
            all.streams.remove_label_values(&[label, protocol]).ok();
            all.streams_opened.remove_label_values(&[label, protocol]).ok();
        }
        for class in CLASSES {
            all.requests.remove_label_values(&[label, class]).ok();
        }
        for result in PUBLISH_RESULTS {
            all.published.remove_label_values(&[label, result]).ok();
        }
        let labels = self.labels();
        for kind in &labels.error_kinds {
            all.upstream_errors.remove_label_values(&[label, kind]).ok();
        }
        for reason in &labels.retry_reasons {
            all.upstream_retries.remove_label_values(&[label, reason]).ok();
        }
        for upstream in &labels.upstreams {
            all.upstream_up.remove_label_values(&[label, upstream]).ok();
        }
        all.streams_encoded.remove_label_values(&[label]).ok();
        all.upstream_connections.remove_label_values(&[label]).ok();
        all.tunnels.remove_label_values(&[label]).ok();
        all.request_duration.remove_label_values(&[label]).ok();
        all.upstream_duration.remove_label_values(&[label]).ok();
    }
}

impl Drop for RouteMetrics {
    fn drop(&mut self) {
        let mut routes = self.all.0.routes.lock();
        // Another thread may have created a new handle since the last one was dropped. It uses the
        // same series.
        if routes.get(&self.label).is_some_and(|route| route.strong_count() == 0) {
            routes.remove(&self.label);
            self.remove_series();
        }
    }
}

impl fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteMetrics").field("label", &self.label).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::metrics::Metrics;

    fn series(metrics: &Metrics) -> usize {
        let text = metrics.render().expect("text");
        text.lines().filter(|line| line.contains("route=\"/gone\"")).count()
    }

    #[test]
    fn the_series_of_a_route_are_removed_with_its_last_handle() {
        let metrics = Metrics::new().expect("metrics");
        let (first, second) = (metrics.route("/gone"), metrics.route("/gone"));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(series(&metrics), 0, "nothing is recorded");
        first.stream_opened("h2");
        first.response_sent(200);
        first.request_ended(Duration::from_millis(3));
        first.upstream_responded(Duration::from_millis(2));
        first.upstream_connected();
        first.upstream_failed("connect");
        first.upstream_retried("closed");
        first.upstream_up("http://backend:80", false);
        first.tunnel_opened();
        first.encoded_stream_passed();
        first.published("refused", 2);
        assert!(series(&metrics) > 9);

        drop(first);
        assert!(series(&metrics) > 9, "another handle exists");
        assert_eq!(metrics.slow_streams_closed(), [], "none was slow");
        second.stream_opened("h2");
        second.stream_closed("h2", "stalled", Duration::ZERO);
        assert_eq!(metrics.slow_streams_closed(), [("/gone".to_owned(), 1)]);
        second.stream_closed("h2", "drained", Duration::ZERO);
        drop(second);
        assert_eq!(series(&metrics), 0, "{}", metrics.render().expect("text"));

        metrics.route("/gone").response_sent(404);
        assert_eq!(series(&metrics), 0);
        let again = metrics.route("/gone");
        again.response_sent(404);
        assert_eq!(series(&metrics), 1);
    }
}
