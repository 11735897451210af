//! Every metric: registered once, recorded by methods named after facts.
//!
//! Names follow the conventions of Prometheus (<https://prometheus.io/docs/practices/naming/>):
//! base units, `_total` for counters. A label's values come from our own enums and from
//! gateway.yaml, never from a client. Knows nothing of the stages that record.

mod route;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus::local::{LocalHistogram, LocalIntCounter};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use self::route::RouteMetrics;
use self::route::Routes;

/// Bounds of what a request or a response takes, in seconds.
const DURATIONS: [f64; 13] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The metrics of this process: a cheap handle that can go to every thread.
#[derive(Clone)]
pub struct Metrics(Arc<Registered>);

struct Registered {
    registry: Registry,
    routes: Routes,
    streams: IntGaugeVec,
    streams_opened: IntCounterVec,
    streams_closed: IntCounterVec,
    stream_age: Histogram,
    streams_encoded: IntCounterVec,
    events_sent: IntCounter,
    stream_bytes_sent: IntCounter,
    events_dropped: IntCounterVec,
    delivery_latency: Histogram,
    queue_bytes: IntGauge,
    history_bytes: IntGauge,
    gaps: IntCounterVec,
    source_connected: IntGauge,
    stream_connections: IntGauge,
    source_reconnects: IntCounter,
    self_checks: IntCounterVec,
    source_messages: IntCounter,
    source_errors: IntCounterVec,
    bus_connections: IntGauge,
    bus_memory: IntGauge,
    bus_connections_cut: IntCounterVec,
    channels: IntGauge,
    channels_refused: IntCounter,
    subscriptions: IntGauge,
    connections: IntGaugeVec,
    connections_accepted: IntCounter,
    accept_errors: IntCounter,
    accept_pauses: IntCounter,
    file_descriptors_short: IntGauge,
    connections_cut: IntCounterVec,
    handshakes_delayed: IntCounter,
    http2_streams_reset: IntCounterVec,
    upload_memory: IntGauge,
    upload_memory_refused: IntCounter,
    handshake_failures: IntCounterVec,
    certificate_expiry: GaugeVec,
    certificate_reloads: IntCounterVec,
    upstream_connections: IntGaugeVec,
    upstream_errors: IntCounterVec,
    upstream_retries: IntCounterVec,
    upstream_up: IntGaugeVec,
    upstream_duration: HistogramVec,
    tunnels: IntGaugeVec,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    requests_rejected: IntCounterVec,
    streams_sent_away: IntCounterVec,
    panics: IntCounterVec,
    log_lines_dropped: IntCounter,
    config_reloads: IntCounterVec,
    config_reloaded: IntGauge,
    config_reload_success: Gauge,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// When two metrics have one name: a mistake in this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let r = &registry;
        let registered = Registered {
            streams: gauges(r, "ssegate_streams", "Open event streams.", &["route", "protocol"])?,
            streams_opened: counters(
                r,
                "ssegate_streams_opened_total",
                "Event streams opened.",
                &["route", "protocol"],
            )?,
            streams_closed: counters(
                r,
                "ssegate_streams_closed_total",
                "Event streams closed, by reason.",
                &["reason"],
            )?,
            stream_age: histogram(
                r,
                "ssegate_stream_age_seconds",
                "How long closed event streams had been open.",
                &[1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0],
            )?,
            streams_encoded: counters(
                r,
                "ssegate_streams_encoded_total",
                "Streams of backends that came with a Content-Encoding: no comments keep them alive.",
                &["route"],
            )?,
            events_sent: counter(
                r,
                "ssegate_events_sent_total",
                "Events handed to sockets, counted once for each stream.",
            )?,
            stream_bytes_sent: counter(
                r,
                "ssegate_stream_bytes_sent_total",
                "Bytes of event streams handed to sockets, before TLS and HTTP framing.",
            )?,
            events_dropped: counters(
                r,
                "ssegate_events_dropped_total",
                "Events that some stream did not get, by reason.",
                &["reason"],
            )?,
            delivery_latency: histogram(
                r,
                "ssegate_delivery_latency_seconds",
                "From the receipt of a message to the hand-over of its frame to a socket.",
                &[
                    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05,
                    0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
                ],
            )?,
            queue_bytes: gauge(
                r,
                "ssegate_queue_bytes",
                "Bytes of events that wait for slow readers.",
            )?,
            history_bytes: gauge(
                r,
                "ssegate_history_bytes",
                "Memory that the kept events of all channels take.",
            )?,
            gaps: counters(
                r,
                "ssegate_gaps_total",
                "Possible holes in streams, counted once for each stream, by reason.",
                &["reason"],
            )?,
            source_connected: gauge(
                r,
                "ssegate_redis_connected",
                "Whether the subscription connection to Redis is up.",
            )?,
            stream_connections: gauge(
                r,
                "ssegate_redis_stream_connections",
                "Open connections that read Redis Streams.",
            )?,
            source_reconnects: counter(
                r,
                "ssegate_redis_reconnects_total",
                "Connections to Redis made after the first.",
            )?,
            self_checks: counters(
                r,
                "ssegate_redis_self_checks_total",
                "Comparisons of our subscriptions with what Redis says of them, by result.",
                &["result"],
            )?,
            source_messages: counter(
                r,
                "ssegate_redis_messages_received_total",
                "Messages received from Redis or from the embedded bus.",
            )?,
            source_errors: counters(
                r,
                "ssegate_redis_errors_total",
                "Failures on the way to Redis, by kind.",
                &["kind"],
            )?,
            bus_connections: gauge(
                r,
                "ssegate_bus_connections",
                "Open connections of the embedded bus.",
            )?,
            bus_memory: gauge(
                r,
                "ssegate_bus_memory_bytes",
                "What the connections of the embedded bus hold together.",
            )?,
            bus_connections_cut: counters(
                r,
                "ssegate_bus_connections_cut_total",
                "Connections of the embedded bus that were refused or cut, by reason.",
                &["reason"],
            )?,
            channels: gauge(r, "ssegate_channels", "Channels followed, lingering ones included.")?,
            channels_refused: counter(
                r,
                "ssegate_channels_refused_total",
                "Channels that were not followed because max_channels was reached.",
            )?,
            subscriptions: gauge(
                r,
                "ssegate_subscriptions",
                "Channels of open streams, counted once for each stream.",
            )?,
            connections: gauges(r, "ssegate_connections", "Open connections.", &["protocol"])?,
            connections_accepted: counter(
                r,
                "ssegate_connections_accepted_total",
                "Connections accepted.",
            )?,
            accept_errors: counter(
                r,
                "ssegate_accept_errors_total",
                "Connections that the system could not hand over: file descriptors, as a rule.",
            )?,
            accept_pauses: counter(
                r,
                "ssegate_accept_pauses_total",
                "Times that nobody was let in for a tenth of a second: file descriptors run out.",
            )?,
            handshakes_delayed: counter(
                r,
                "ssegate_tls_handshakes_delayed_total",
                "TLS handshakes that waited because limits.handshakes were worked on.",
            )?,
            file_descriptors_short: gauge(
                r,
                "ssegate_file_descriptors_short",
                "Whether file descriptors are used up, and new clients have to wait.",
            )?,
            connections_cut: counters(
                r,
                "ssegate_connections_cut_total",
                "Connections that the gateway ended, by reason.",
                &["reason"],
            )?,
            http2_streams_reset: counters(
                r,
                "ssegate_http2_streams_reset_total",
                "HTTP/2 streams that the gateway ended while their connection went on, by reason.",
                &["reason"],
            )?,
            upload_memory: gauge(
                r,
                "ssegate_upload_memory_bytes",
                "What clients were allowed to send over HTTP/2 beyond the windows of their connections.",
            )?,
            upload_memory_refused: counter(
                r,
                "ssegate_upload_memory_refused_total",
                "Times that limits.upload_memory was used up: a window did not grow, or had to wait.",
            )?,
            handshake_failures: counters(
                r,
                "ssegate_tls_handshake_failures_total",
                "TLS handshakes that failed, by reason.",
                &["reason"],
            )?,
            certificate_reloads: counters(
                r,
                "ssegate_tls_certificate_reloads_total",
                "Certificates of listeners read again, on SIGHUP or since their files changed, by result.",
                &["result"],
            )?,
            certificate_expiry: {
                let opts = Opts::new(
                    "ssegate_tls_certificate_expiry_timestamp_seconds",
                    "When the certificate of a listener ends, in Unix time.",
                );
                let expiry = GaugeVec::new(opts, &["listener"])?;
                r.register(Box::new(expiry.clone()))?;
                expiry
            },
            upstream_connections: gauges(
                r,
                "ssegate_upstream_connections",
                "Open connections to backends, kept ones included.",
                &["route"],
            )?,
            upstream_errors: counters(
                r,
                "ssegate_upstream_errors_total",
                "Requests that their backend did not answer, or not to the end, by kind.",
                &["route", "kind"],
            )?,
            upstream_retries: counters(
                r,
                "ssegate_upstream_retries_total",
                "Requests sent again after their connection failed them, by reason.",
                &["route", "reason"],
            )?,
            upstream_up: gauges(
                r,
                "ssegate_upstream_up",
                "Whether a backend could be connected to when that was tried last; 1 before the first time.",
                &["route", "upstream"],
            )?,
            upstream_duration: histograms(
                r,
                "ssegate_upstream_response_seconds",
                "From the sending of a request to a backend to the head of its response.",
                &DURATIONS,
            )?,
            tunnels: gauges(
                r,
                "ssegate_tunnels",
                "Open WebSockets and other upgraded connections to backends.",
                &["route"],
            )?,
            requests: counters(
                r,
                "ssegate_http_requests_total",
                "Requests answered, by route and class of status.",
                &["route", "status"],
            )?,
            request_duration: histograms(
                r,
                "ssegate_http_request_duration_seconds",
                "From the head of a request to the end of its response; of event streams and tunnels, to its head.",
                &DURATIONS,
            )?,
            requests_rejected: counters(
                r,
                "ssegate_http_requests_rejected_total",
                "Requests that the gateway itself turned away, by reason.",
                &["reason"],
            )?,
            streams_sent_away: counters(
                r,
                "ssegate_streams_sent_away_total",
                "Streams that were told why there is nothing now and when to come back, by reason.",
                &["reason"],
            )?,
            panics: counters(
                r,
                "ssegate_panics_total",
                "Bugs of the gateway that cost a request, a body or a connection.",
                &["cost"],
            )?,
            log_lines_dropped: counter(
                r,
                "ssegate_log_lines_dropped_total",
                "Log lines that were not written, because nobody read them or the disk is full.",
            )?,
            config_reloads: counters(
                r,
                "ssegate_config_reloads_total",
                "Times that the configuration was read again, by result.",
                &["result"],
            )?,
            config_reloaded: gauge(
                r,
                "ssegate_config_last_reload_successful",
                "Whether the configuration could be used when it was read last.",
            )?,
            config_reload_success: {
                let success = Gauge::new(
                    "ssegate_config_last_reload_success_timestamp_seconds",
                    "When the configuration that holds was read, in Unix time.",
                )?;
                r.register(Box::new(success.clone()))?;
                success
            },
            registry,
            routes: Routes::default(),
        };
        let metrics = Self(Arc::new(registered));
        metrics.register_build_info()?;
        metrics.register_process()?;
        Ok(metrics)
    }

    /// The text that Prometheus scrapes (text format 0.0.4).
    ///
    /// # Errors
    /// When a metric cannot be written as text: a mistake in this file.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.0.registry.gather())
    }

    /// What one shard records, without sharing a cache line for each event.
    pub fn for_shard(&self) -> ShardMetrics {
        ShardMetrics {
            events_sent: RefCell::new(self.0.events_sent.local()),
            stream_bytes_sent: RefCell::new(self.0.stream_bytes_sent.local()),
            delivery_latency: RefCell::new(self.0.delivery_latency.local()),
            queue_bytes: Cell::new(0),
            shared: self.clone(),
        }
    }

    /// Shows each of these reasons from the start, at 0: a rate needs a first sample.
    pub fn announce_reasons(&self, reasons: Reasons<'_>) {
        for (counters, reasons) in [
            (&self.0.gaps, reasons.gaps),
            (&self.0.streams_closed, reasons.streams_closed),
            (&self.0.source_errors, reasons.source_errors),
            (&self.0.config_reloads, &["failure", "success"][..]),
            (&self.0.certificate_reloads, &["failure", "success"][..]),
            (&self.0.panics, &["body", "connection", "request"][..]),
            (&self.0.self_checks, &["agreed", "forbidden", "mended"][..]),
            (&self.0.streams_sent_away, &["connect", "draining", "response_timeout"][..]),
            (&self.0.events_dropped, &["malformed", "overflow", "overload", "too_large"][..]),
        ] {
            for reason in reasons {
                counters.with_label_values(&[*reason]).inc_by(0);
            }
        }
    }

    /// A payload could not be read in the format of its route.
    pub fn event_malformed(&self) {
        self.0.events_dropped.with_label_values(&["malformed"]).inc();
    }

    /// Events gave way because a subscriber's queue was full.
    pub fn events_dropped_by_overflow(&self, events: u64) {
        self.0.events_dropped.with_label_values(&["overflow"]).inc_by(events);
    }

    /// Events gave way because a shard's inbox was full.
    pub fn events_dropped_by_overload(&self, events: u64) {
        self.0.events_dropped.with_label_values(&["overload"]).inc_by(events);
    }

    /// A message over `max_event_bytes` was skipped.
    pub fn event_too_large(&self) {
        self.0.events_dropped.with_label_values(&["too_large"]).inc();
    }

    /// The histories of all channels hold so many bytes.
    pub fn history_bytes(&self, bytes: usize) {
        self.0.history_bytes.set(int(bytes));
    }

    /// A stream may have missed something.
    pub fn gap(&self, reason: &str) {
        self.0.gaps.with_label_values(&[reason]).inc();
    }

    /// The source is connected, or no longer.
    pub fn source_connected(&self, is_connected: bool) {
        self.0.source_connected.set(i64::from(is_connected));
    }

    /// So many connections read streams.
    pub fn stream_connections(&self, connections: usize) {
        self.0.stream_connections.set(int(connections));
    }

    /// What Redis says of our subscriptions was compared with what we believe.
    pub fn self_check(&self, result: &str) {
        self.0.self_checks.with_label_values(&[result]).inc();
    }

    /// The source connected again.
    pub fn source_reconnected(&self) {
        self.0.source_reconnects.inc();
    }

    /// The source received so many messages.
    pub fn source_messages(&self, messages: u64) {
        self.0.source_messages.inc_by(messages);
    }

    /// The source failed in this way.
    pub fn source_error(&self, kind: &str) {
        self.0.source_errors.with_label_values(&[kind]).inc();
    }

    /// The embedded bus has so many connections, which hold so many bytes.
    pub fn bus(&self, connections: u64, memory: usize) {
        self.0.bus_connections.set(i64::try_from(connections).unwrap_or(i64::MAX));
        self.0.bus_memory.set(int(memory));
    }

    /// So many more connections of the embedded bus were refused or cut.
    pub fn bus_connections_cut(&self, reason: &str, connections: u64) {
        self.0.bus_connections_cut.with_label_values(&[reason]).inc_by(connections);
    }

    /// So many channels are followed.
    pub fn channels(&self, channels: usize) {
        self.0.channels.set(int(channels));
    }

    /// A channel was not followed, since there are too many.
    pub fn channel_refused(&self) {
        self.0.channels_refused.inc();
    }

    /// A stream asked for so many channels.
    pub fn subscribed(&self, channels: usize) {
        self.0.subscriptions.add(int(channels));
    }

    /// A stream that had asked for so many channels is gone.
    pub fn unsubscribed(&self, channels: usize) {
        self.0.subscriptions.sub(int(channels));
    }

    /// A connection was accepted.
    pub fn connection_accepted(&self) {
        self.0.connections_accepted.inc();
    }

    /// A connection could not be accepted.
    pub fn accept_failed(&self) {
        self.0.accept_errors.inc();
    }

    /// Nobody is let in for a moment, for want of file descriptors.
    pub fn accept_paused(&self) {
        self.0.accept_pauses.inc();
    }

    /// File descriptors are used up, or no longer.
    pub fn file_descriptors_short(&self, is_short: bool) {
        self.0.file_descriptors_short.set(i64::from(is_short));
    }

    /// A handshake has to wait for others.
    pub fn handshake_delayed(&self) {
        self.0.handshakes_delayed.inc();
    }

    /// A connection began to speak this protocol.
    pub fn connection_opened(&self, protocol: &str) {
        self.0.connections.with_label_values(&[protocol]).inc();
    }

    /// A connection that spoke this protocol is gone.
    pub fn connection_closed(&self, protocol: &str) {
        self.0.connections.with_label_values(&[protocol]).dec();
    }

    /// The gateway ended a connection.
    pub fn connection_cut(&self, reason: &str) {
        self.0.connections_cut.with_label_values(&[reason]).inc();
    }

    /// The gateway ended one stream of an HTTP/2 connection.
    pub fn stream_reset(&self, reason: &str) {
        self.0.http2_streams_reset.with_label_values(&[reason]).inc();
    }

    /// Clients may send so many bytes more over HTTP/2 than the windows of their connections.
    pub fn upload_memory_lent(&self, bytes: usize) {
        self.0.upload_memory.add(int(bytes));
    }

    /// So many of those bytes are not needed any more.
    pub fn upload_memory_given_back(&self, bytes: usize) {
        self.0.upload_memory.sub(int(bytes));
    }

    /// There was not as much of that as was asked for.
    pub fn upload_memory_refused(&self) {
        self.0.upload_memory_refused.inc();
    }

    /// A TLS handshake failed.
    pub fn handshake_failed(&self, reason: &str) {
        self.0.handshake_failures.with_label_values(&[reason]).inc();
    }

    /// Streams that were closed since the start because their clients read too slowly, or no longer.
    pub fn slow_streams(&self) -> u64 {
        const REASONS: [&str; 3] = ["lagged", "stalled", "queue_memory"];
        REASONS.iter().map(|reason| self.0.streams_closed.with_label_values(&[*reason]).get()).sum()
    }

    /// The certificate of a listener was read again, on SIGHUP or because its files changed; whether
    /// what they hold is shown now.
    pub fn certificate_reloaded(&self, is_shown: bool) {
        let result = if is_shown { "success" } else { "failure" };
        self.0.certificate_reloads.with_label_values(&[result]).inc();
    }

    /// The certificate of this listener ends then, in seconds of Unix time.
    pub fn certificate_expiry(&self, listener: &str, timestamp: f64) {
        self.0.certificate_expiry.with_label_values(&[listener]).set(timestamp);
    }

    /// The gateway itself turned a request away.
    pub fn request_rejected(&self, reason: &str) {
        self.0.requests_rejected.with_label_values(&[reason]).inc();
    }

    /// A stream was sent away for a while.
    pub fn stream_sent_away(&self, reason: &str) {
        self.0.streams_sent_away.with_label_values(&[reason]).inc();
    }

    /// The configuration was read; it holds from now on if it could be used.
    pub fn config_loaded(&self, is_used: bool) {
        self.0.config_reloaded.set(i64::from(is_used));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        if let (true, Ok(now)) = (is_used, now) {
            self.0.config_reload_success.set(now.as_secs_f64());
        }
    }

    /// The configuration was read again.
    pub fn config_reloaded(&self, is_used: bool) {
        let result = if is_used { "success" } else { "failure" };
        self.0.config_reloads.with_label_values(&[result]).inc();
        self.config_loaded(is_used);
    }

    /// A bug has cost this: a request, a body or a connection.
    pub fn panicked(&self, cost: &str) {
        self.0.panics.with_label_values(&[cost]).inc();
    }

    /// So many log lines were dropped.
    pub fn log_lines_dropped(&self, lines: u64) {
        self.0.log_lines_dropped.inc_by(lines);
    }

    fn register_build_info(&self) -> Result<(), prometheus::Error> {
        let opts = Opts::new("ssegate_build_info", "The version that runs; always 1.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let info = Gauge::with_opts(opts)?;
        info.set(1.0);
        self.0.registry.register(Box::new(info))
    }

    fn register_process(&self) -> Result<(), prometheus::Error> {
        let process = prometheus::process_collector::ProcessCollector::for_self();
        self.0.registry.register(Box::new(process))
    }
}

/// The reasons that the stages' own enums know.
#[derive(Clone, Copy, Debug)]
pub struct Reasons<'a> {
    /// Of gaps.
    pub gaps: &'a [&'a str],
    /// Of closed streams.
    pub streams_closed: &'a [&'a str],
    /// Of failures on the way to Redis.
    pub source_errors: &'a [&'a str],
}

/// What one shard records for each event: kept on its own thread, and added up at its ticks.
pub struct ShardMetrics {
    events_sent: RefCell<LocalIntCounter>,
    stream_bytes_sent: RefCell<LocalIntCounter>,
    delivery_latency: RefCell<LocalHistogram>,
    queue_bytes: Cell<i64>,
    shared: Metrics,
}

impl ShardMetrics {
    /// An event was handed to a socket, so long after it was received.
    pub fn event_sent(&self, latency: Duration) {
        self.events_sent.borrow_mut().inc();
        self.delivery_latency.borrow_mut().observe(latency.as_secs_f64());
    }

    /// Bytes of a stream were handed to a socket.
    pub fn stream_bytes_sent(&self, bytes: usize) {
        self.stream_bytes_sent.borrow_mut().inc_by(bytes as u64);
    }

    /// So many bytes wait in the queues of this shard now.
    pub fn queue_bytes(&self, bytes: usize) {
        let bytes = int(bytes);
        self.shared.0.queue_bytes.add(bytes - self.queue_bytes.replace(bytes));
    }

    /// Adds up what was kept here.
    pub fn flush(&self) {
        self.events_sent.borrow_mut().flush();
        self.stream_bytes_sent.borrow_mut().flush();
        self.delivery_latency.borrow_mut().flush();
    }

    /// What is recorded less often than for each event.
    pub fn shared(&self) -> &Metrics {
        &self.shared
    }
}

fn int(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
) -> Result<Histogram, prometheus::Error> {
    let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let histogram = Histogram::with_opts(opts)?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
) -> Result<HistogramVec, prometheus::Error> {
    let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let histograms = HistogramVec::new(opts, &["route"])?;
    registry.register(Box::new(histograms.clone()))?;
    Ok(histograms)
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl fmt::Debug for ShardMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardMetrics").finish_non_exhaustive()
    }
}
