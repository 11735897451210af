//! All metrics: declared in one table ([`table`]), recorded by methods named after what happened.
//!
//! Does not know the modules that record. Names follow the conventions of Prometheus
//! (<https://prometheus.io/docs/practices/naming/>): base units, `_total` for counters. Label
//! values come from enums and from gateway.yaml, never from a client.

mod figures;
mod hub;
mod kept;
mod presence;
mod process;
mod route;
mod server;
mod shard;
mod shared;
mod source;
mod table;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use prometheus::{Gauge, Opts, TextEncoder};

pub use self::figures::{CertificateFigure, Figures, LatencyBuckets, RequestFigure, StreamFigure};
use self::process::ProcessMetrics;
pub use self::route::RouteMetrics;
use self::server::ServerShare;
pub use self::shard::ShardMetrics;
pub use self::shared::SharedHubMetrics;
use self::table::Registered;

/// How a reload of a certificate can end.
const CERTIFICATE_RELOADS: [&str; 2] = ["failure", "success"];

/// The metrics of this process. A cheap handle that can be sent to any thread.
#[derive(Clone)]
pub struct Metrics(Arc<Registered>, Arc<ServerShare>);

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// Two metrics have the same name: a bug in the table.
    pub fn new() -> Result<Self, prometheus::Error> {
        let metrics = Self(Arc::new(Registered::new()?), Arc::default());
        metrics.register_build_info()?;
        metrics.register_process()?;
        Ok(metrics)
    }

    /// Renders all metrics in the text format of Prometheus (version 0.0.4).
    ///
    /// # Errors
    /// A metric cannot be rendered: a bug in this module.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.0.registry.gather())
    }

    /// Creates the series of these reasons at 0: `rate()` and `increase()` miss the first increment
    /// of a series that starts with it.
    pub fn create_series(&self, reasons: LabelValues<'_>) {
        for (counters, reasons) in [
            (&self.0.gaps, reasons.gaps),
            (&self.0.streams_closed, reasons.streams_closed),
            (&self.0.source_errors, reasons.source_errors),
            (&self.0.config_reloads, &["failure", "success"][..]),
            (&self.0.jwks_fetches, reasons.jwks_fetches),
            (&self.0.auth_refused, &["expired", "missing", "revoked", "signature"][..]),
            (&self.0.revocations, reasons.revocations),
            (&self.0.revocations_ignored, &["malformed", "signature"][..]),
            (&self.0.fleet_published, &["answer", "mark", "question", "settings"][..]),
            (
                &self.0.fleet_ignored,
                &["malformed", "server", "signature", "signed", "unknown", "unsigned"][..],
            ),
            (&self.0.fleet_clients, &["complete", "gap"][..]),
            (&self.0.kept_resumed, reasons.kept_resumed),
            (&self.0.kept_cancelled, reasons.kept_cancelled),
            (
                &self.0.kept_lost,
                &["age", "backend", "drained", "elsewhere", "fenced", "history"][..],
            ),
            (&self.0.presence_refused, &["full", "id"][..]),
            (&self.0.webhooks, &["delivered", "given_up", "retried"][..]),
            (&self.0.panics, &["body", "connection", "request", "shared"][..]),
            (&self.0.shared_requests, &["first", "joined", "no_content"][..]),
            (&self.0.shared_retries, &["broken", "complete", "failed"][..]),
            (&self.0.shared_ended, reasons.shared_ended),
            (&self.0.self_checks, &["agreed", "forbidden", "mended"][..]),
            (&self.0.streams_sent_away, &["connect", "draining", "response_timeout"][..]),
            (&self.0.events_dropped, &DropReason::ALL.map(DropReason::as_str)[..]),
        ] {
            for reason in reasons {
                counters.with_label_values(&[*reason]).inc_by(0);
            }
        }
        self.settings_differ([("keep", 0), ("redis.shards", 0)]);
        self.sentinels([("well", 0), ("unreachable", 0), ("no_master", 0), ("other_master", 0)]);
    }

    /// A payload is not quite in the format of its route: the event was published without a name or an id
    /// that would forge a field.
    pub fn event_malformed(&self) {
        self.0.events_malformed.inc();
    }

    /// A message larger than `max_event_bytes` was dropped.
    pub fn event_too_large(&self) {
        self.count_dropped(DropReason::TooLarge, 1);
    }

    /// A message was published for the other gateways of the fleet.
    pub fn fleet_message_published(&self, kind: &str) {
        self.0.fleet_published.with_label_values(&[kind]).inc();
    }

    /// A message of a gateway of the fleet was received.
    pub fn fleet_message_received(&self) {
        self.0.fleet_received.inc();
    }

    /// A message on the channels of the fleet was ignored.
    pub fn fleet_message_ignored(&self, reason: &str) {
        self.0.fleet_ignored.with_label_values(&[reason]).inc();
    }

    /// A message for the fleet could not be published.
    pub fn fleet_message_dropped(&self) {
        self.0.fleet_dropped.inc();
    }

    /// Sets the connections of the embedded bus, and the memory that they use.
    pub fn bus(&self, connections: u64, memory: usize) {
        self.0.bus_connections.set(i64::try_from(connections).unwrap_or(i64::MAX));
        self.0.bus_memory.set(int(memory));
    }

    /// Sets the streams on the embedded bus, and the memory that they use.
    pub fn bus_streams(&self, streams: usize, memory: usize) {
        self.0.bus_streams.set(int(streams));
        self.0.bus_stream_bytes.set(int(memory));
    }

    /// The embedded bus has refused entries of streams, because there was no memory for them.
    pub fn bus_entries_refused(&self, entries: u64) {
        self.0.bus_entries_refused.inc_by(entries);
    }

    /// Connections of the embedded bus were refused or closed.
    pub fn bus_connections_cut(&self, reason: &str, connections: u64) {
        self.0.bus_connections_cut.with_label_values(&[reason]).inc_by(connections);
    }

    /// A connection was accepted.
    pub fn connection_accepted(&self) {
        self.0.connections_accepted.inc();
    }

    /// Accepting a connection has failed.
    pub fn accept_failed(&self) {
        self.0.accept_errors.inc();
    }

    /// Accepting was paused because of a shortage of file descriptors.
    pub fn accept_paused(&self) {
        self.0.accept_pauses.inc();
    }

    /// A shortage of file descriptors has begun or ended.
    pub fn file_descriptors_short(&self, is_short: bool) {
        self.0.file_descriptors_short.set(i64::from(is_short));
    }

    /// A TLS handshake has to wait for other handshakes.
    pub fn handshake_delayed(&self) {
        self.0.handshakes_delayed.inc();
    }

    /// A connection was opened with this protocol.
    pub fn connection_opened(&self, protocol: &str) {
        self.0.connections.with_label_values(&[protocol]).inc();
    }

    /// A connection with this protocol was closed.
    pub fn connection_closed(&self, protocol: &str) {
        self.0.connections.with_label_values(&[protocol]).dec();
    }

    /// The gateway has closed a connection.
    pub fn connection_cut(&self, reason: &str) {
        self.0.connections_cut.with_label_values(&[reason]).inc();
    }

    /// The gateway has reset a stream of an HTTP/2 connection.
    pub fn stream_reset(&self, reason: &str) {
        self.0.http2_streams_reset.with_label_values(&[reason]).inc();
    }

    /// HTTP/2 windows have grown by this many bytes beyond their initial size.
    pub fn upload_memory_lent(&self, bytes: usize) {
        self.0.upload_memory.add(int(bytes));
    }

    /// That many of these bytes were released.
    pub fn upload_memory_given_back(&self, bytes: usize) {
        self.0.upload_memory.sub(int(bytes));
    }

    /// A window could not grow, or not as far as requested.
    pub fn upload_memory_refused(&self) {
        self.0.upload_memory_refused.inc();
    }

    /// A TLS handshake has failed.
    pub fn handshake_failed(&self, reason: &str) {
        self.0.handshake_failures.with_label_values(&[reason]).inc();
    }

    /// The number of streams of each route that were closed since their clients read too slowly.
    pub fn slow_streams_closed(&self) -> Vec<(String, u64)> {
        self.0.routes.slow_streams_closed()
    }

    /// A certificate of a listener, by its file, was reloaded: on SIGHUP or because its files have
    /// changed. `is_shown`: the new one is in use.
    pub fn certificate_reloaded(&self, listener: &str, file: &str, is_shown: bool) {
        let result = if is_shown { "success" } else { "failure" };
        self.0.certificate_reloads.with_label_values(&[listener, file, result]).inc();
    }

    /// A certificate is in use until `end`, if that is known.
    pub fn certificate_in_use(&self, listener: &str, file: &str, end: Option<SystemTime>) {
        for result in CERTIFICATE_RELOADS {
            self.0.certificate_reloads.with_label_values(&[listener, file, result]).inc_by(0);
        }
        if let Some(end) = end {
            let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.0.certificate_expiry.with_label_values(&[listener, file]).set(end.as_secs_f64());
        }
    }

    /// A certificate is no longer configured: its expiry needs no warning.
    pub fn certificate_gone(&self, listener: &str, file: &str) {
        // Fails if there is no such series: then there is nothing to remove.
        drop(self.0.certificate_expiry.remove_label_values(&[listener, file]));
        for result in CERTIFICATE_RELOADS {
            drop(self.0.certificate_reloads.remove_label_values(&[listener, file, result]));
        }
    }

    /// The gateway has rejected a request.
    pub fn request_rejected(&self, reason: &str) {
        self.0.requests_rejected.with_label_values(&[reason]).inc();
    }

    /// A request on a route with `auth` was refused.
    pub fn auth_refused(&self, reason: &str) {
        self.0.auth_refused.with_label_values(&[reason]).inc();
    }

    /// Something was revoked. `remembered`: revocations in the list now; `evicted`: those that were removed to make
    /// room.
    pub fn revoked(&self, source: &str, remembered: usize, evicted: u64) {
        self.0.revocations.with_label_values(&[source]).inc();
        self.0.revocations_remembered.set(int(remembered));
        self.0.revocations_evicted.inc_by(evicted);
    }

    /// A message on the control channel was ignored.
    pub fn revocation_ignored(&self, reason: &str) {
        self.0.revocations_ignored.with_label_values(&[reason]).inc();
    }

    /// A set of keys was fetched, or could not be.
    pub fn jwks_fetched(&self, result: &str) {
        self.0.jwks_fetches.with_label_values(&[result]).inc();
    }

    /// A stream was opened with a last event id.
    pub fn stream_resumed(&self) {
        self.0.streams_resumed.inc();
    }

    /// A stream was ended at once with a `retry:`.
    pub fn stream_sent_away(&self, reason: &str) {
        self.0.streams_sent_away.with_label_values(&[reason]).inc();
    }

    /// The configuration was loaded. `is_used`: it is in effect.
    pub fn config_loaded(&self, is_used: bool) {
        self.0.config_reloaded.set(i64::from(is_used));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        if let (true, Ok(now)) = (is_used, now) {
            self.0.config_reload_success.set(now.as_secs_f64());
        }
    }

    /// The configuration was reloaded. `is_used`: it is in effect.
    pub fn config_reloaded(&self, is_used: bool) {
        let result = if is_used { "success" } else { "failure" };
        self.0.config_reloads.with_label_values(&[result]).inc();
        self.config_loaded(is_used);
    }

    /// A panic has ended a request, a body or a connection.
    pub fn panicked(&self, cost: &str) {
        self.0.panics.with_label_values(&[cost]).inc();
    }

    /// Sets the number of open streams of the status page.
    pub fn status_viewers(&self, viewers: usize) {
        self.0.status_viewers.set(int(viewers));
    }

    /// A line of the access log was written.
    pub fn access_line_written(&self) {
        self.0.access_log_lines.inc();
    }

    /// A line of the access log was left out, because its second had too many lines.
    pub fn access_line_left_out(&self) {
        self.0.access_log_lines_left_out.inc();
    }

    /// Log lines were dropped.
    pub fn log_lines_dropped(&self, lines: u64) {
        self.0.log_lines_dropped.inc_by(lines);
    }

    fn count_dropped(&self, reason: DropReason, events: u64) {
        self.0.events_dropped.with_label_values(&[reason.as_str()]).inc_by(events);
    }

    fn register_build_info(&self) -> Result<(), prometheus::Error> {
        let help = "Always 1; the labels have the version, and the commit if it is known.";
        let opts = Opts::new("ssegate_build_info", help)
            .const_label("version", env!("CARGO_PKG_VERSION"))
            .const_label("commit", env!("SSEGATE_COMMIT"));
        let info = Gauge::with_opts(opts)?;
        info.set(1.0);
        self.0.registry.register(Box::new(info))
    }

    fn register_process(&self) -> Result<(), prometheus::Error> {
        self.0.registry.register(Box::new(ProcessMetrics::new()?))
    }
}

/// Why an event was dropped.
#[derive(Clone, Copy)]
enum DropReason {
    Overflow,
    Overload,
    TooLarge,
}

impl DropReason {
    const ALL: [Self; 3] = [Self::Overflow, Self::Overload, Self::TooLarge];

    fn as_str(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Overload => "overload",
            Self::TooLarge => "too_large",
        }
    }
}

/// The label values that are defined by the enums of other modules.
#[derive(Clone, Copy, Debug)]
pub struct LabelValues<'a> {
    /// The reasons of gaps.
    pub gaps: &'a [&'a str],
    /// The reasons of closed streams.
    pub streams_closed: &'a [&'a str],
    /// The results of fetching keys.
    pub jwks_fetches: &'a [&'a str],
    /// The kinds of Redis errors.
    pub source_errors: &'a [&'a str],
    /// How clients come back to kept streams.
    pub kept_resumed: &'a [&'a str],
    /// Why kept streams are cancelled.
    pub kept_cancelled: &'a [&'a str],
    /// Why shared streams end.
    pub shared_ended: &'a [&'a str],
    /// Where revocations come from.
    pub revocations: &'a [&'a str],
}

fn int(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
