//! gateway.yaml as it is written: every key, its type, its description, and the setting that it sets.
//!
//! The doc comments here are the descriptions in the JSON Schema, which editors show. Defaults are those of
//! the settings. Whether values exclude each other is the business of [`resolve`](super::resolve).

mod auth;
mod fleet;
mod keep;
mod limits;
mod listeners;
mod log;
mod method;
mod presence;
mod proxy;
mod recorded;
mod revocation;
mod routes;
mod share;
mod stream;

use ssegate_hub::MAX_SHARDS;
use ssegate_strict_yaml::{Count, Field, OrOff, Size, Time, TimeOrZero, mapping};

use super::global::GlobalSettings;

pub(super) use auth::{
    AuthFile, BasicFile, ForwardAuthFile, JwtFile, SignedUrlFile, StaticTokenFile,
};
pub(super) use fleet::FleetFile;
pub(super) use keep::{KeepFile, KeepStoreFile};
pub(super) use limits::{Http1File, Http2File, LimitsFile, SocketsFile, TimeoutsFile};
pub(super) use listeners::{AdminFile, CertificateFile, ListenerFile, RedisFile, TlsFile};
pub(super) use log::LogFile;
pub(super) use method::MethodFile;
pub(super) use presence::PresenceFile;
pub(super) use proxy::{ProxyFile, UpstreamTlsFile};
pub(super) use recorded::RecordedFile;
pub(super) use revocation::RevocationFile;
pub(super) use routes::{CorsFile, EventsFile, HandoverFile, PublishFile, RouteFile};
pub(super) use share::ShareFile;
pub(super) use stream::SseFile;

mapping! {
    /// The configuration of ssegate: listeners, the source of events, and routes.
    ///
    /// Durations are written `250ms`, `15s`, `5m`, `1h`; sizes `64KiB`, `4MiB`, `1GiB`. `${VAR}`,
    /// `${VAR:-default}` and `${VAR:?hint}` are replaced in every value; `$$` is a dollar sign.
    #[schemars(rename = "gateway.yaml", extend("required" = ["listeners", "redis", "routes"]))]
    pub(crate) struct File sets GlobalSettings {
        /// The addresses that clients connect to.
        #[schemars(length(min = 1))]
        listeners: Vec<Field<ListenerFile>>,
        /// Proxies and load balancers in front of the gateway, as networks or addresses:
        /// `[10.0.0.0/8, 192.0.2.7]`. They are trusted to send the client's address (X-Forwarded-* and X-Real-IP,
        /// Forwarded, the PROXY protocol); no other client is, and what it sends of these does not reach the
        /// backend.
        trusted_proxies: Vec<Field<String>>,
        /// The listener for /metrics, /livez, /readyz and the status page. `off` closes it.
        admin: OrOff<AdminFile>,
        /// The source of events.
        redis: RedisFile,
        /// Several gateways at the same Redis, so that a client resumes at any of them. `off`: a client of
        /// another gateway is told a gap.
        fleet: OrOff<FleetFile>,
        /// Channels with `source: recorded`.
        recorded: RecordedFile,
        /// Defaults for all events routes.
        sse: SseFile,
        /// Who may make the requests of every route that has no `auth` of its own. `off`: everybody.
        auth: OrOff<Box<AuthFile>>,
        /// How credentials are revoked before they expire. Default: `off`, not at all.
        revocation: OrOff<RevocationFile>,
        /// The routes.
        #[schemars(length(min = 1))]
        // Boxed for the same reason as `Settings::routes`.
        routes: Vec<Field<Box<RouteFile>>>,
        /// The number of threads that serve connections. Default: the number of processors that affinity
        /// and the container allow.
        #[schemars(range(min = 1, max = 128))]
        shards: usize => shards in 1..=MAX_SHARDS,
        /// The most channels subscribed at once, over all routes. The client of a stream that needs more
        /// must retry later.
        max_channels: Count => hub.max_channels,
        /// The memory for the histories of all channels. The least recently used is evicted first. A Redis Stream that
        /// is followed takes up to 2.5 KiB beside it.
        history_memory: Size => hub.history_memory in Size::BYTE..=Size::MAX,
        /// What a gateway hands of its histories to the process that comes after it, at a takeover or, with a state
        /// directory, over a restart: of the channels used last. `0`: nothing, and nothing is written.
        history_handover: Size => hub.handover_bytes in Size::ZERO..=Size::MAX,
        /// The largest message. A larger one is dropped, and reported as a gap.
        // The limit applies to everything that Redis sends, including the names of channels.
        max_event_bytes: Size => max_event_bytes in Size::kib(1)..=Size::MAX_LENGTH,
        /// A connection or stream to which nothing could be written for this long is closed.
        write_timeout: Time => connections.write_timeout,
        /// A graceful shutdown closes the streams evenly over at most this time. Requests may finish in it.
        drain: TimeOrZero => drain,
        /// Before the drain, new clients are accepted for this long, and their streams are closed at once
        /// with a `retry`: until the load balancer sees that the gateway is not ready.
        drain_delay: TimeOrZero => drain_delay,
        /// Limits over all listeners.
        limits: LimitsFile,
        /// Timeouts of client connections.
        timeouts: TimeoutsFile => connections,
        /// Limits and timeouts of HTTP/1.1.
        http1: Http1File => connections.http1,
        /// Limits and timeouts of HTTP/2.
        http2: Http2File => connections.http2,
        /// The sockets of clients.
        sockets: SocketsFile => connections,
        /// The log, on stderr, and the access log, on stdout.
        log: LogFile => log,
    }
}
