//! Every metric: registered once ([`table`]), recorded by methods named after facts.
//!
//! Names follow the conventions of Prometheus (<https://prometheus.io/docs/practices/naming/>):
//! base units, `_total` for counters. A label's values come from our own enums and from
//! gateway.yaml, never from a client. Knows nothing of the stages that record.

mod route;
mod shard;
mod table;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use prometheus::{Gauge, Opts, TextEncoder};

pub use self::route::RouteMetrics;
pub use self::shard::ShardMetrics;
use self::table::Registered;

/// The metrics of this process: a cheap handle that can go to every thread.
#[derive(Clone)]
pub struct Metrics(Arc<Registered>);

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// When two metrics have one name: a mistake in the table.
    pub fn new() -> Result<Self, prometheus::Error> {
        let metrics = Self(Arc::new(Registered::new()?));
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
            (&self.0.events_dropped, &DropReason::ALL.map(DropReason::as_str)[..]),
        ] {
            for reason in reasons {
                counters.with_label_values(&[*reason]).inc_by(0);
            }
        }
    }

    /// A payload could not be read in the format of its route.
    pub fn event_malformed(&self) {
        self.count_dropped(DropReason::Malformed, 1);
    }

    /// Events gave way because a subscriber's queue was full.
    pub fn events_dropped_by_overflow(&self, events: u64) {
        self.count_dropped(DropReason::Overflow, events);
    }

    /// Events gave way because a shard's inbox was full.
    pub fn events_dropped_by_overload(&self, events: u64) {
        self.count_dropped(DropReason::Overload, events);
    }

    /// A message over `max_event_bytes` was skipped.
    pub fn event_too_large(&self) {
        self.count_dropped(DropReason::TooLarge, 1);
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

    /// Streams that were closed since the start for one of these reasons.
    pub fn streams_closed(&self, reasons: &[&str]) -> u64 {
        reasons.iter().map(|reason| self.0.streams_closed.with_label_values(&[*reason]).get()).sum()
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

    fn count_dropped(&self, reason: DropReason, events: u64) {
        self.0.events_dropped.with_label_values(&[reason.as_str()]).inc_by(events);
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

/// Why an event was dropped.
#[derive(Clone, Copy)]
enum DropReason {
    Malformed,
    Overflow,
    Overload,
    TooLarge,
}

impl DropReason {
    const ALL: [Self; 4] = [Self::Malformed, Self::Overflow, Self::Overload, Self::TooLarge];

    fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Overflow => "overflow",
            Self::Overload => "overload",
            Self::TooLarge => "too_large",
        }
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

fn int(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
