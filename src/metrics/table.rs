//! The table of all metrics, with name, help and labels. A line here registers a metric.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::route::RouteRegistry;

/// The buckets of request and response durations, in seconds.
const DURATIONS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// The buckets of stream ages, in seconds.
const AGES: &[f64] = &[1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];
/// The buckets of delivery latencies, in seconds.
const LATENCIES: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0,
];

/// The buckets of the time since an entry was published, in seconds. Ids have milliseconds.
const PUBLISH_LATENCIES: &[f64] =
    &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

/// Declares [`Registered`]. A line has a metric's field and type, its name and its help; then the
/// label names after `by`, and the buckets after `in`.
macro_rules! metrics {
    (@bounds) => {
        &[]
    };
    (@bounds $bounds:ident) => {
        $bounds
    };
    (@spec $name:literal, $help:literal, [$($label:literal),*], [$($bounds:ident)?]) => {
        MetricSpec {
            name: $name,
            help: $help,
            labels: &[$($label),*],
            bounds: metrics!(@bounds $($bounds)?),
        }
    };
    ($($field:ident: $kind:ident = $name:literal, $help:literal
        $(by [$($label:literal),+])? $(in $bounds:ident)?;)+) => {
        /// The registered metrics.
        pub(super) struct Registered {
            pub(super) registry: Registry,
            pub(super) routes: RouteRegistry,
            $(pub(super) $field: $kind,)+
        }

        impl Registered {
            /// Registers every metric of the table.
            ///
            /// # Errors
            /// Two metrics have the same name: a bug in the table.
            pub(super) fn new() -> Result<Self, prometheus::Error> {
                let registry = Registry::new();
                $(
                    let spec = metrics!(@spec $name, $help, [$($($label),+)?], [$($bounds)?]);
                    let $field = register(&registry, $kind::declare(spec)?)?;
                )+
                Ok(Self { registry, routes: RouteRegistry::default(), $($field),+ })
            }
        }

        /// The lines of the table, each with its type, for the reference in docs/METRICS.md.
        #[cfg(test)]
        const SPECS: &[(&str, MetricSpec<'static>)] = &[$((
            stringify!($kind),
            metrics!(@spec $name, $help, [$($($label),+)?], [$($bounds)?]),
        )),+];
    };
}

metrics! {
    // Event streams.
    streams: IntGaugeVec = "ssegate_streams", "Open event streams." by ["route", "protocol"];
    streams_opened: IntCounterVec = "ssegate_streams_opened_total",
        "Event streams opened." by ["route", "protocol"];
    streams_resumed: IntCounter = "ssegate_streams_resumed_total",
        "Event streams opened with the id of a last event.";
    streams_closed: IntCounterVec = "ssegate_streams_closed_total",
        "Event streams closed, by reason." by ["reason"];
    stream_age: Histogram = "ssegate_stream_age_seconds",
        "Age of event streams when they were closed." in AGES;
    auth_refused: IntCounterVec = "ssegate_auth_refused_total",
        "Requests refused by auth, by reason." by ["reason"];
    jwks_fetches: IntCounterVec = "ssegate_jwks_fetches_total",
        "Fetches of JSON Web Key Sets from their URLs, by result." by ["result"];
    revocations: IntCounterVec = "ssegate_revocations_total",
        "Revocations that this gateway has acted upon, by where they came from." by ["source"];
    revocations_ignored: IntCounterVec = "ssegate_revocations_ignored_total",
        "Messages on the control channel that are no revocations or not signed with its key, by reason."
        by ["reason"];
    revocations_remembered: IntGauge = "ssegate_revocations_remembered",
        "Revocations that are remembered, at most 100,000.";
    revocations_evicted: IntCounter = "ssegate_revocations_evicted_total",
        "Revocations forgotten before they expired, because there were more than 100,000.";
    presence_members: IntGauge = "ssegate_presence_members",
        "Members of this gateway that are known, once for each of their channels, on routes with presence.";
    presence_refused: IntCounterVec = "ssegate_presence_refused_total",
        "Members that are not known, by reason: the channel has as many as it may have, or the credential does not say who it is."
        by ["reason"];
    webhooks: IntCounterVec = "ssegate_webhooks_total",
        "Webhooks, by result: delivered, given up, and each attempt that is made again." by ["result"];
    webhooks_waiting: IntGauge = "ssegate_webhooks_waiting",
        "Webhooks that wait for others of the same route, at most 1,000 for each pair of URLs.";
    streams_encoded: IntCounterVec = "ssegate_streams_encoded_total",
        "Event streams of backends with a Content-Encoding, which get no keep-alive comments."
        by ["route"];
    events_sent: IntCounter = "ssegate_events_sent_total",
        "Events written to sockets, once per stream.";
    stream_bytes_sent: IntCounter = "ssegate_stream_bytes_sent_total",
        "Bytes of event streams written to sockets, before HTTP framing and TLS.";
    events_dropped: IntCounterVec = "ssegate_events_dropped_total",
        "Events not delivered to at least one stream, by reason." by ["reason"];
    events_malformed: IntCounter = "ssegate_events_malformed_total",
        "Events delivered though their message was not quite in the format of its route: without a name or an id that would forge a field, or a Redis Streams entry without data.";
    delivery_latency: Histogram = "ssegate_delivery_latency_seconds",
        "Time from receiving a message to writing its frame to a socket." in LATENCIES;
    publish_latency: Histogram = "ssegate_publish_latency_seconds",
        "Time from publishing an entry of a Redis Stream, as its id says, to giving it to the streams of a core; once for each core."
        in PUBLISH_LATENCIES;
    queue_bytes: IntGauge = "ssegate_queue_bytes", "Bytes of events queued for clients.";
    history_bytes: IntGauge = "ssegate_history_bytes",
        "Memory used by the histories of all channels.";
    gaps: IntCounterVec = "ssegate_gaps_total",
        "Gaps in streams (events that may be missing), once per stream, by reason." by ["reason"];

    // Kept streams.
    kept_streams: IntGaugeVec = "ssegate_kept_streams",
        "Streams of backends that are kept, by state." by ["state"];
    kept_bytes: IntGauge = "ssegate_kept_bytes",
        "Memory used by kept streams, and by the bodies of requests that are read for them.";
    kept_resumed: IntCounterVec = "ssegate_kept_resumes_total",
        "Clients that came back to a kept stream: to its address, by its name, or with the same request."
        by ["by"];
    kept_cancelled: IntCounterVec = "ssegate_kept_cancelled_total",
        "Kept streams cancelled at the backend, by reason." by ["reason"];
    kept_lost: IntCounterVec = "ssegate_kept_lost_total",
        "Kept streams that broke off, and clients whose events were not kept any more (history), by reason."
        by ["reason"];
    kept_passed: IntCounterVec = "ssegate_kept_passed_total",
        "Event streams that were not kept on a route with keep, by reason." by ["reason"];
    kept_copies: IntGauge = "ssegate_kept_copies",
        "Streams that other gateways keep in Redis, and that are copied here for their readers (store: redis).";
    kept_unshared: IntGauge = "ssegate_kept_unshared",
        "Kept streams of this gateway that others cannot continue now: Redis does not take what comes (store: redis).";
    kept_unclaimed: IntCounter = "ssegate_kept_unclaimed_total",
        "Requests with same_key replace or reject that did not wait for Redis, which was away: a stream of the same name may run at another gateway.";
    kept_unread: Histogram = "ssegate_kept_unread_seconds",
        "Time that a kept stream was without a reader, until the next one came." in AGES;

    // Shared streams.
    shared_upstreams: IntGauge = "ssegate_shared_upstreams",
        "Streams of backends that readers share, with those that the backend is being asked for.";
    shared_readers: IntGauge = "ssegate_shared_readers",
        "Readers of shared streams, and requests that wait for one.";
    shared_requests: IntCounterVec = "ssegate_shared_requests_total",
        "Requests on routes with share that shared a stream, by how." by ["how"];
    shared_alone: IntCounterVec = "ssegate_shared_alone_total",
        "Requests on routes with share that were forwarded alone, by reason." by ["reason"];
    shared_retries: IntCounterVec = "ssegate_shared_retries_total",
        "Shared streams asked for again, by what has ended the last response." by ["reason"];
    shared_ended: IntCounterVec = "ssegate_shared_ended_total",
        "Shared streams that have ended, by reason." by ["reason"];
    shared_history_bytes: IntGauge = "ssegate_shared_history_bytes",
        "Memory used by the histories of shared streams.";

    // The source.
    source_connected: IntGauge = "ssegate_redis_connected",
        "Whether the pub/sub connection to Redis is up (1) or not (0); of several servers, to all of them.";
    server_connected: IntGaugeVec = "ssegate_redis_server_connected",
        "Whether the pub/sub connection to a server is up (1) or not (0), where there are several: its name, url for redis.url, or shard0."
        by ["server"];
    nodes: IntGaugeVec = "ssegate_redis_node_up",
        "Whether a node of a Redis Cluster that owns slots can be used (1) or not (0), by its address; server is the name of the Cluster where there are several servers. At most 100 nodes of each, those first that cannot."
        by ["server", "node"];
    stream_connections: IntGauge = "ssegate_redis_stream_connections",
        "Open connections to Redis that read streams.";
    source_reconnects: IntCounter = "ssegate_redis_reconnects_total",
        "Reconnects to Redis.";
    self_checks: IntCounterVec = "ssegate_redis_self_checks_total",
        "Comparisons of the subscriptions with those that Redis reports, by result." by ["result"];
    source_messages: IntCounter = "ssegate_redis_messages_received_total",
        "Messages received from Redis or from the embedded bus.";
    source_errors: IntCounterVec = "ssegate_redis_errors_total",
        "Errors of connections to Redis, by kind." by ["kind"];
    sentinels: IntGaugeVec = "ssegate_redis_sentinels",
        "Sentinels of redis.url, by state." by ["state"];
    master_changes: IntCounter = "ssegate_redis_master_changes_total",
        "Times that another server has become the master that sentinels name.";
    fleet_published: IntCounterVec = "ssegate_fleet_messages_published_total",
        "Messages published for the other gateways of the fleet, by kind." by ["kind"];
    fleet_received: IntCounter = "ssegate_fleet_messages_received_total",
        "Messages received from gateways of the fleet, this one among them.";
    fleet_ignored: IntCounterVec = "ssegate_fleet_messages_ignored_total",
        "Messages on the channels of the fleet that were not taken, by reason." by ["reason"];
    settings_differ: IntGaugeVec = "ssegate_fleet_settings_differ",
        "Settings that have to be the same at all gateways of a Redis, and that another one of them has otherwise now: redis.shards, or keep.secret and keep.owner (keep, once for each route)."
        by ["setting"];
    fleet_dropped: IntCounter = "ssegate_fleet_messages_dropped_total",
        "Messages for the fleet that could not be published.";
    fleet_clients: IntCounterVec = "ssegate_fleet_clients_total",
        "Streams opened with the id of another gateway or of an earlier run, by whether they are complete."
        by ["result"];
    recorded_entries: IntCounter = "ssegate_recorded_entries_total",
        "Entries that this gateway has added to the logs of recorded channels.";
    recorded_gaps: IntCounter = "ssegate_recorded_gaps_total",
        "Of these, gaps: what was published before them, nobody has recorded.";
    recorded_dropped: IntCounter = "ssegate_recorded_dropped_total",
        "Messages of recorded channels that were delivered and not recorded, since Redis was too slow.";
    recorded_waiting: IntGauge = "ssegate_recorded_waiting_bytes",
        "What waits to be recorded, in bytes.";
    bus_connections: IntGauge = "ssegate_bus_connections", "Open connections of the embedded bus.";
    bus_memory: IntGauge = "ssegate_bus_memory_bytes",
        "Memory used by all connections of the embedded bus.";
    bus_streams: IntGauge = "ssegate_bus_streams", "Streams on the embedded bus.";
    bus_stream_bytes: IntGauge = "ssegate_bus_stream_bytes",
        "Memory used by all streams on the embedded bus.";
    bus_entries_refused: IntCounter = "ssegate_bus_entries_refused_total",
        "Entries of streams that the embedded bus refused because limits.bus_streams was reached.";
    bus_connections_cut: IntCounterVec = "ssegate_bus_connections_cut_total",
        "Connections of the embedded bus refused or closed by the gateway, by reason."
        by ["reason"];

    // Channels.
    channels: IntGauge = "ssegate_channels",
        "Subscribed channels, including those that linger without a client.";
    channels_refused: IntCounter = "ssegate_channels_refused_total",
        "Channels refused because max_channels was reached.";
    subscriptions: IntGauge = "ssegate_subscriptions",
        "Sum of the channels of all open streams.";

    // Client connections.
    connections: IntGaugeVec = "ssegate_connections", "Open client connections." by ["protocol"];
    connections_accepted: IntCounter = "ssegate_connections_accepted_total",
        "Client connections accepted.";
    accept_errors: IntCounter = "ssegate_accept_errors_total",
        "Failed accepts, usually without a free file descriptor.";
    accept_pauses: IntCounter = "ssegate_accept_pauses_total",
        "Pauses of accepting for 100 ms during a shortage of file descriptors.";
    file_descriptors_short: IntGauge = "ssegate_file_descriptors_short",
        "Whether new clients have to wait for file descriptors (1) or not (0).";
    connections_cut: IntCounterVec = "ssegate_connections_cut_total",
        "Client connections closed by the gateway, by reason." by ["reason"];
    handshakes_delayed: IntCounter = "ssegate_tls_handshakes_delayed_total",
        "TLS handshakes delayed because limits.handshakes was reached.";
    http2_streams_reset: IntCounterVec = "ssegate_http2_streams_reset_total",
        "HTTP/2 streams reset by the gateway, by reason."
        by ["reason"];
    upload_memory: IntGauge = "ssegate_upload_memory_bytes",
        "Growth of HTTP/2 flow-control windows beyond their initial size, to clients and backends.";
    upload_memory_refused: IntCounter = "ssegate_upload_memory_refused_total",
        "Windows that did not grow, or grew later, because limits.upload_memory was reached.";
    handshake_failures: IntCounterVec = "ssegate_tls_handshake_failures_total",
        "Failed TLS handshakes, by reason." by ["reason"];

    // Certificates.
    certificate_expiry: GaugeVec = "ssegate_tls_certificate_expiry_timestamp_seconds",
        "Expiry of each certificate, by its file, of a listener, in Unix time." by ["listener", "certificate"];
    certificate_reloads: IntCounterVec = "ssegate_tls_certificate_reloads_total",
        "Reloads of each certificate, on SIGHUP or after its files changed, by result."
        by ["listener", "certificate", "result"];

    // Backends.
    upstream_connections: IntGaugeVec = "ssegate_upstream_connections",
        "Open connections to backends, including idle ones." by ["route"];
    upstream_errors: IntCounterVec = "ssegate_upstream_errors_total",
        "Requests to backends with no response or an incomplete one, by kind of error."
        by ["route", "kind"];
    upstream_retries: IntCounterVec = "ssegate_upstream_retries_total",
        "Requests to backends retried after a connection failure, by reason."
        by ["route", "reason"];
    upstream_up: IntGaugeVec = "ssegate_upstream_up",
        "Whether the last attempt to connect to the backend succeeded (1) or not (0); 1 at first."
        by ["route", "upstream"];
    upstream_duration: HistogramVec = "ssegate_upstream_response_seconds",
        "Time from sending a request to a backend to receiving the header of its response."
        by ["route"] in DURATIONS;
    tunnels: IntGaugeVec = "ssegate_tunnels",
        "Open WebSockets and other upgraded connections." by ["route"];

    // Requests.
    requests: IntCounterVec = "ssegate_http_requests_total",
        "Responses sent, by route and class of status." by ["route", "status"];
    request_duration: HistogramVec = "ssegate_http_request_duration_seconds",
        "Time from a request to the end of its response; of streams and tunnels, to its header."
        by ["route"] in DURATIONS;
    published: IntCounterVec = "ssegate_published_total",
        "Messages published over HTTP, by route (admin: the admin listener) and result." by ["route", "result"];
    requests_rejected: IntCounterVec = "ssegate_http_requests_rejected_total",
        "Requests rejected by the gateway, by reason." by ["reason"];
    streams_sent_away: IntCounterVec = "ssegate_streams_sent_away_total",
        "Event streams ended at once with a retry time because of a temporary error, by reason."
        by ["reason"];

    // The gateway itself.
    status_viewers: IntGauge = "ssegate_status_viewers",
        "Open streams of the status page: one for each page, and one for each channel that is followed there.";
    panics: IntCounterVec = "ssegate_panics_total",
        "Panics (bugs), by what they ended: a request, a body or a connection." by ["cost"];
    access_log_lines: IntCounter = "ssegate_access_log_lines_total",
        "Lines of the access log.";
    access_log_lines_left_out: IntCounter = "ssegate_access_log_lines_left_out_total",
        "Lines of the access log left out because there were more than log.access_rate in a second.";
    log_lines_dropped: IntCounter = "ssegate_log_lines_dropped_total",
        "Log lines dropped because stderr or stdout was blocked, or a write to it failed.";
    config_reloads: IntCounterVec = "ssegate_config_reloads_total",
        "Configuration reloads, by result." by ["result"];
    config_reloaded: IntGauge = "ssegate_config_last_reload_successful",
        "Whether the last configuration reload succeeded (1) or not (0).";
    config_reload_success: Gauge = "ssegate_config_last_reload_success_timestamp_seconds",
        "Time of the last successful configuration reload, in Unix time.";
}

/// A line of the table.
struct MetricSpec<'a> {
    name: &'a str,
    help: &'a str,
    labels: &'a [&'a str],
    bounds: &'a [f64],
}

/// A type of metric that can be created from a line of the table.
trait Declare: Sized {
    fn declare(spec: MetricSpec<'_>) -> Result<Self, prometheus::Error>;
}

/// Implements [`Declare`] for a type without labels and its counterpart with labels.
macro_rules! kinds {
    ($($single:ident, $labelled:ident, $opts:ident;)+) => {$(
        impl Declare for $single {
            fn declare(spec: MetricSpec<'_>) -> Result<Self, prometheus::Error> {
                $single::with_opts(spec.$opts())
            }
        }

        impl Declare for $labelled {
            fn declare(spec: MetricSpec<'_>) -> Result<Self, prometheus::Error> {
                $labelled::new(spec.$opts(), spec.labels)
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

impl MetricSpec<'_> {
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

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::{MetricSpec, SPECS};

    const HEAD: &str = "\
# Metrics

What `/metrics` on the admin listener has, in the text format of Prometheus. This file is generated from the
table in `src/metrics/table.rs`: `UPDATE_DOCS=1 cargo test metrics::table` writes it, and the test fails while the
two differ.

Beside these there are `ssegate_build_info` (a gauge that is always 1, with the labels `version` and `commit`) and the
`process_*` metrics of every Prometheus client.

The label `route` is the path of the route in gateway.yaml, behind its `host` if it has one:
`app.example/events/{channel}`. Routes that differ by their `methods` only share it. It is empty for requests that
match no route.

| metric | type | labels | what it says |
|---|---|---|---|
";

    fn reference() -> String {
        let mut text = HEAD.to_owned();
        for (kind, MetricSpec { name, help, labels, bounds }) in SPECS {
            let kind = kind.trim_start_matches("Int").trim_end_matches("Vec").to_lowercase();
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            let labels = labels.join(", ");
            let buckets = match (bounds.first(), bounds.last()) {
                (Some(first), Some(last)) => format!(" Buckets from {first} to {last} seconds."),
                _ => String::new(),
            };
            writeln!(text, "| `{name}` | {kind} | {labels} | {help}{buckets} |").expect("a string");
        }
        text
    }

    #[test]
    fn the_reference_in_the_docs_is_generated_from_the_table() {
        crate::generated_page::assert_current("docs/METRICS.md", &reference(), "metrics::table");
    }

    #[test]
    fn names_and_helps_follow_the_conventions_of_prometheus() {
        for (kind, MetricSpec { name, help, .. }) in SPECS {
            assert!(name.starts_with("ssegate_"), "{name}");
            assert_eq!(kind.starts_with("IntCounter"), name.ends_with("_total"), "{name}: {kind}");
            assert!(help.ends_with('.') && !help.contains('|'), "{name}: {help}");
        }
    }
}
