//! What is recorded of one route: under its path, for as long as anything of it is there.
//!
//! After a reload a route may be gone from gateway.yaml while its streams go on: its series are
//! removed with the last handle.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::Metrics;

/// Classes of statuses, by their first digit.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// What an event stream is carried by.
const PROTOCOLS: [&str; 2] = ["h1", "h2"];

/// The routes that are recorded now, by their labels.
#[derive(Default)]
pub(super) struct Routes(Mutex<HashMap<Box<str>, Weak<RouteMetrics>>>);

/// What is recorded of one route. A series begins with the first fact that it is for, and a fact costs
/// no look-up.
pub struct RouteMetrics {
    label: Box<str>,
    requests: [OnceLock<IntCounter>; CLASSES.len()],
    request_duration: OnceLock<Histogram>,
    upstream_duration: OnceLock<Histogram>,
    streams: [OnceLock<(IntGauge, IntCounter)>; PROTOCOLS.len()],
    tunnels: OnceLock<IntGauge>,
    upstream_connections: OnceLock<IntGauge>,
    // The other labels that series of this route have.
    labels: Mutex<Labels>,
    all: Metrics,
}

#[derive(Debug, Default)]
struct Labels {
    error_kinds: Vec<&'static str>,
    retry_reasons: Vec<&'static str>,
    upstreams: Vec<String>,
}

impl Metrics {
    /// What is recorded of the routes with this path.
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

impl Routes {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Weak<RouteMetrics>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metrics {
    /// An upstream of the route with this label can be reached again. Changes nothing where the route is
    /// gone meanwhile.
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
            labels: Mutex::default(),
            all,
        }
    }

    /// The route's name in metrics and log lines: its path.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What is recorded of the whole gateway.
    pub fn all(&self) -> &Metrics {
        &self.all
    }

    /// A request was answered with this status.
    pub fn request_answered(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        let new = || self.all.0.requests.with_label_values(&[&*self.label, CLASSES[class]]);
        self.requests[class].get_or_init(new).inc();
    }

    /// A request took so long: to the end of its response, or to the head of one without an end.
    pub fn request_ended(&self, duration: Duration) {
        let new = || self.all.0.request_duration.with_label_values(&[&*self.label]);
        self.request_duration.get_or_init(new).observe(duration.as_secs_f64());
    }

    /// A backend took so long to the head of its response.
    pub fn upstream_responded(&self, duration: Duration) {
        let new = || self.all.0.upstream_duration.with_label_values(&[&*self.label]);
        self.upstream_duration.get_or_init(new).observe(duration.as_secs_f64());
    }

    /// An event stream opened over this protocol.
    pub fn stream_opened(&self, protocol: &str) {
        let (open, opened) = self.streams(protocol);
        open.inc();
        opened.inc();
    }

    /// That stream closed.
    pub fn stream_closed(&self, protocol: &str, reason: &str, age: Duration) {
        self.streams(protocol).0.dec();
        self.all.0.streams_closed.with_label_values(&[reason]).inc();
        self.all.0.stream_age.observe(age.as_secs_f64());
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

    /// A backend's stream is encoded.
    pub fn encoded_stream_passed(&self) {
        self.all.0.streams_encoded.with_label_values(&[&*self.label]).inc();
    }

    /// A connection to a backend is open.
    pub fn upstream_connected(&self) {
        self.upstream_connections().inc();
    }

    /// That connection is gone.
    pub fn upstream_disconnected(&self) {
        self.upstream_connections().dec();
    }

    fn upstream_connections(&self) -> &IntGauge {
        let new = || self.all.0.upstream_connections.with_label_values(&[&*self.label]);
        self.upstream_connections.get_or_init(new)
    }

    /// A request was not answered by its backend, or not to the end.
    pub fn upstream_failed(&self, kind: &'static str) {
        let mut labels = self.labels();
        if !labels.error_kinds.contains(&kind) {
            labels.error_kinds.push(kind);
        }
        self.all.0.upstream_errors.with_label_values(&[&*self.label, kind]).inc();
    }

    /// A request is sent to its backend once more.
    pub fn upstream_retried(&self, reason: &'static str) {
        let mut labels = self.labels();
        if !labels.retry_reasons.contains(&reason) {
            labels.retry_reasons.push(reason);
        }
        self.all.0.upstream_retries.with_label_values(&[&*self.label, reason]).inc();
    }

    /// Whether this upstream could be reached when it was tried last.
    pub fn upstream_up(&self, upstream: &str, is_up: bool) {
        let mut labels = self.labels();
        if !labels.upstreams.iter().any(|known| known == upstream) {
            labels.upstreams.push(upstream.to_owned());
        }
        let up = self.all.0.upstream_up.with_label_values(&[&*self.label, upstream]);
        up.set(i64::from(is_up));
    }

    /// A tunnel is open.
    pub fn tunnel_opened(&self) {
        self.tunnels().inc();
    }

    /// That tunnel is gone.
    pub fn tunnel_closed(&self) {
        self.tunnels().dec();
    }

    fn tunnels(&self) -> &IntGauge {
        self.tunnels.get_or_init(|| self.all.0.tunnels.with_label_values(&[&*self.label]))
    }

    fn labels(&self) -> MutexGuard<'_, Labels> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes every series that has been begun.
    fn remove_series(&self) {
        let (all, label) = (&self.all.0, &*self.label);
        // One that was never begun is not there: no error.
        for protocol in PROTOCOLS {
            all.streams.remove_label_values(&[label, protocol]).ok();
            all.streams_opened.remove_label_values(&[label, protocol]).ok();
        }
        for class in CLASSES {
            all.requests.remove_label_values(&[label, class]).ok();
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
        // Another handle may have been asked for since the last one was dropped: the series are its now.
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
    fn the_series_of_a_route_go_with_its_last_handle() {
        let metrics = Metrics::new().expect("metrics");
        let (first, second) = (metrics.route("/gone"), metrics.route("/gone"));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(series(&metrics), 0, "nothing has happened");
        first.stream_opened("h2");
        first.request_answered(200);
        first.request_ended(Duration::from_millis(3));
        first.upstream_responded(Duration::from_millis(2));
        first.upstream_connected();
        first.upstream_failed("connect");
        first.upstream_retried("closed");
        first.upstream_up("http://backend:80", false);
        first.tunnel_opened();
        first.encoded_stream_passed();
        assert!(series(&metrics) > 9);

        drop(first);
        assert!(series(&metrics) > 9, "a stream goes on");
        second.stream_closed("h2", "drained", Duration::ZERO);
        drop(second);
        assert_eq!(series(&metrics), 0, "{}", metrics.render().expect("text"));

        metrics.route("/gone").request_answered(404);
        assert_eq!(series(&metrics), 0);
        let again = metrics.route("/gone");
        again.request_answered(404);
        assert_eq!(series(&metrics), 1);
    }
}
