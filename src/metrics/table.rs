//! Every metric in one table: its name, help and labels. One line here registers a metric.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::route::Routes;

/// Bounds of what a request or a response takes, in seconds.
const DURATIONS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Bounds of how long a stream was open, in seconds.
const AGES: &[f64] = &[1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];
/// Bounds of how long an event takes through the gateway, in seconds.
const LATENCIES: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0,
];

/// Declares [`Registered`]: for each metric its field and kind, its name, its help, the names of the
/// labels after `by`, and the bounds of the buckets after `in`.
macro_rules! metrics {
    (@bounds) => {
        &[]
    };
    (@bounds $bounds:ident) => {
        $bounds
    };
    ($($field:ident: $kind:ident = $name:literal, $help:literal
        $(by [$($label:literal),+])? $(in $bounds:ident)?;)+) => {
        /// The metrics, as they were registered.
        pub(super) struct Registered {
            pub(super) registry: Registry,
            pub(super) routes: Routes,
            $(pub(super) $field: $kind,)+
        }

        impl Registered {
            /// Registers every metric of the table.
            ///
            /// # Errors
            /// When two metrics have one name: a mistake in the table.
            pub(super) fn new() -> Result<Self, prometheus::Error> {
                let registry = Registry::new();
                $(
                    let row = Row {
                        name: $name,
                        help: $help,
                        labels: &[$($($label),+)?],
                        bounds: metrics!(@bounds $($bounds)?),
                    };
                    let $field = register(&registry, $kind::declare(row)?)?;
                )+
                Ok(Self { registry, routes: Routes::default(), $($field),+ })
            }
        }
    };
}

metrics! {
    // Event streams.
    streams: IntGaugeVec = "ssegate_streams", "Open event streams." by ["route", "protocol"];
    streams_opened: IntCounterVec = "ssegate_streams_opened_total",
        "Event streams opened." by ["route", "protocol"];
    streams_closed: IntCounterVec = "ssegate_streams_closed_total",
        "Event streams closed, by reason." by ["reason"];
    stream_age: Histogram = "ssegate_stream_age_seconds",
        "How long closed event streams had been open." in AGES;
    streams_encoded: IntCounterVec = "ssegate_streams_encoded_total",
        "Streams of backends that came with a Content-Encoding: no comments keep them alive."
        by ["route"];
    events_sent: IntCounter = "ssegate_events_sent_total",
        "Events handed to sockets, counted once for each stream.";
    stream_bytes_sent: IntCounter = "ssegate_stream_bytes_sent_total",
        "Bytes of event streams handed to sockets, before TLS and HTTP framing.";
    events_dropped: IntCounterVec = "ssegate_events_dropped_total",
        "Events that some stream did not get, by reason." by ["reason"];
    delivery_latency: Histogram = "ssegate_delivery_latency_seconds",
        "From the receipt of a message to the hand-over of its frame to a socket." in LATENCIES;
    queue_bytes: IntGauge = "ssegate_queue_bytes", "Bytes of events that wait for slow readers.";
    history_bytes: IntGauge = "ssegate_history_bytes",
        "Memory that the kept events of all channels take.";
    gaps: IntCounterVec = "ssegate_gaps_total",
        "Possible holes in streams, counted once for each stream, by reason." by ["reason"];

    // Where events come from.
    source_connected: IntGauge = "ssegate_redis_connected",
        "Whether the subscription connection to Redis is up.";
    stream_connections: IntGauge = "ssegate_redis_stream_connections",
        "Open connections that read Redis Streams.";
    source_reconnects: IntCounter = "ssegate_redis_reconnects_total",
        "Connections to Redis made after the first.";
    self_checks: IntCounterVec = "ssegate_redis_self_checks_total",
        "Comparisons of our subscriptions with what Redis says of them, by result." by ["result"];
    source_messages: IntCounter = "ssegate_redis_messages_received_total",
        "Messages received from Redis or from the embedded bus.";
    source_errors: IntCounterVec = "ssegate_redis_errors_total",
        "Failures on the way to Redis, by kind." by ["kind"];
    bus_connections: IntGauge = "ssegate_bus_connections", "Open connections of the embedded bus.";
    bus_memory: IntGauge = "ssegate_bus_memory_bytes",
        "What the connections of the embedded bus hold together.";
    bus_connections_cut: IntCounterVec = "ssegate_bus_connections_cut_total",
        "Connections of the embedded bus that were refused or cut, by reason." by ["reason"];

    // Channels.
    channels: IntGauge = "ssegate_channels", "Channels followed, lingering ones included.";
    channels_refused: IntCounter = "ssegate_channels_refused_total",
        "Channels that were not followed because max_channels was reached.";
    subscriptions: IntGauge = "ssegate_subscriptions",
        "Channels of open streams, counted once for each stream.";

    // Connections of clients.
    connections: IntGaugeVec = "ssegate_connections", "Open connections." by ["protocol"];
    connections_accepted: IntCounter = "ssegate_connections_accepted_total",
        "Connections accepted.";
    accept_errors: IntCounter = "ssegate_accept_errors_total",
        "Connections that the system could not hand over: file descriptors, as a rule.";
    accept_pauses: IntCounter = "ssegate_accept_pauses_total",
        "Times that nobody was let in for a tenth of a second: file descriptors run out.";
    file_descriptors_short: IntGauge = "ssegate_file_descriptors_short",
        "Whether file descriptors are used up, and new clients have to wait.";
    connections_cut: IntCounterVec = "ssegate_connections_cut_total",
        "Connections that the gateway ended, by reason." by ["reason"];
    handshakes_delayed: IntCounter = "ssegate_tls_handshakes_delayed_total",
        "TLS handshakes that waited because limits.handshakes were worked on.";
    http2_streams_reset: IntCounterVec = "ssegate_http2_streams_reset_total",
        "HTTP/2 streams that the gateway ended while their connection went on, by reason."
        by ["reason"];
    upload_memory: IntGauge = "ssegate_upload_memory_bytes",
        "What may be sent over HTTP/2 beyond the first windows: by clients, and by backends on a response.";
    upload_memory_refused: IntCounter = "ssegate_upload_memory_refused_total",
        "Times that limits.upload_memory was used up: a window did not grow, or had to wait.";
    handshake_failures: IntCounterVec = "ssegate_tls_handshake_failures_total",
        "TLS handshakes that failed, by reason." by ["reason"];

    // Certificates.
    certificate_expiry: GaugeVec = "ssegate_tls_certificate_expiry_timestamp_seconds",
        "When the certificate of a listener ends, in Unix time." by ["listener"];
    certificate_reloads: IntCounterVec = "ssegate_tls_certificate_reloads_total",
        "Certificates of listeners read again, on SIGHUP or since their files changed, by result."
        by ["result"];

    // Backends.
    upstream_connections: IntGaugeVec = "ssegate_upstream_connections",
        "Open connections to backends, kept ones included." by ["route"];
    upstream_errors: IntCounterVec = "ssegate_upstream_errors_total",
        "Requests that their backend did not answer, or not to the end, by kind."
        by ["route", "kind"];
    upstream_retries: IntCounterVec = "ssegate_upstream_retries_total",
        "Requests sent again after their connection failed them, by reason." by ["route", "reason"];
    upstream_up: IntGaugeVec = "ssegate_upstream_up",
        "Whether a backend could be connected to when that was tried last; 1 before the first time."
        by ["route", "upstream"];
    upstream_duration: HistogramVec = "ssegate_upstream_response_seconds",
        "From the sending of a request to a backend to the head of its response."
        by ["route"] in DURATIONS;
    tunnels: IntGaugeVec = "ssegate_tunnels",
        "Open WebSockets and other upgraded connections to backends." by ["route"];

    // Requests.
    requests: IntCounterVec = "ssegate_http_requests_total",
        "Requests answered, by route and class of status." by ["route", "status"];
    request_duration: HistogramVec = "ssegate_http_request_duration_seconds",
        "From the head of a request to the end of its response; of event streams and tunnels, to its head."
        by ["route"] in DURATIONS;
    requests_rejected: IntCounterVec = "ssegate_http_requests_rejected_total",
        "Requests that the gateway itself turned away, by reason." by ["reason"];
    streams_sent_away: IntCounterVec = "ssegate_streams_sent_away_total",
        "Streams that were told why there is nothing now and when to come back, by reason."
        by ["reason"];

    // The gateway itself.
    panics: IntCounterVec = "ssegate_panics_total",
        "Bugs of the gateway that cost a request, a body or a connection." by ["cost"];
    log_lines_dropped: IntCounter = "ssegate_log_lines_dropped_total",
        "Log lines that were not written, because nobody read them or the disk is full.";
    config_reloads: IntCounterVec = "ssegate_config_reloads_total",
        "Times that the configuration was read again, by result." by ["result"];
    config_reloaded: IntGauge = "ssegate_config_last_reload_successful",
        "Whether the configuration could be used when it was read last.";
    config_reload_success: Gauge = "ssegate_config_last_reload_success_timestamp_seconds",
        "When the configuration that holds was read, in Unix time.";
}

/// What the table says of a metric.
struct Row<'a> {
    name: &'a str,
    help: &'a str,
    labels: &'a [&'a str],
    bounds: &'a [f64],
}

/// A kind of metric.
trait Declare: Sized {
    fn declare(row: Row<'_>) -> Result<Self, prometheus::Error>;
}

/// Kinds with and without labels, which the metrics of this crate make from the same options.
macro_rules! kinds {
    ($($single:ident, $labelled:ident, $opts:ident;)+) => {$(
        impl Declare for $single {
            fn declare(row: Row<'_>) -> Result<Self, prometheus::Error> {
                $single::with_opts(row.$opts())
            }
        }

        impl Declare for $labelled {
            fn declare(row: Row<'_>) -> Result<Self, prometheus::Error> {
                $labelled::new(row.$opts(), row.labels)
            }
        }
    )+};
}

kinds! {
    Gauge, GaugeVec, opts;
    IntCounter, IntCounterVec, opts;
    IntGauge, IntGaugeVec, opts;
    Histogram, HistogramVec, histogram_opts;
}

impl Row<'_> {
    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    fn histogram_opts(&self) -> HistogramOpts {
        HistogramOpts::new(self.name, self.help).buckets(self.bounds.to_vec())
    }
}

fn register<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: M,
) -> Result<M, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
