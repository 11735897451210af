//! gateway.yaml as it is written: every key, its type and what it is for.
//!
//! The comments here are the descriptions in the JSON Schema, and what an editor shows. Nothing is
//! decided here: what a missing key means, and whether values go together, is for
//! [`resolve`](super::resolve).

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::field::{Field, Limit, OneOrMore, OrOff};
use super::units::{Size, Time};

/// The configuration of ssegate: where clients connect, where events come from, which request leads
/// where.
///
/// Durations read `250ms`, `15s`, `5m`, `1h`; sizes `64KiB`, `4MiB`, `1GiB`. `${VAR}`,
/// `${VAR:-default}` and `${VAR:?hint}` are replaced in every value; `$$` is a dollar.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "gateway.yaml", extend("required" = ["listeners", "redis", "routes"]))]
pub(super) struct File {
    /// Where clients connect.
    #[schemars(length(min = 1))]
    pub(super) listeners: Field<Vec<Field<ListenerFile>>>,
    /// Proxies in front of the gateway, as networks or addresses: `[10.0.0.0/8, 192.0.2.7]`. What
    /// they say of a client (X-Forwarded-For and its kin, Forwarded, the PROXY protocol) is
    /// believed; what others say is not.
    pub(super) trusted_proxies: Field<Vec<Field<String>>>,
    /// Where operators look: /metrics, /livez, /readyz and the status page. `off` closes it.
    pub(super) admin: Field<OrOff<AdminFile>>,
    /// Where events come from.
    pub(super) redis: Field<RedisFile>,
    /// What holds for every events route that does not say otherwise.
    pub(super) sse: Field<SseFile>,
    /// Which request leads where.
    #[schemars(length(min = 1))]
    // Each by itself: see `Settings::routes`.
    pub(super) routes: Field<Vec<Field<Box<RouteFile>>>>,
    /// Threads that serve connections. Default: as many as the processors, affinity and the
    /// container allow.
    #[schemars(range(min = 1, max = 128))]
    pub(super) shards: Field<usize>,
    /// Channels followed at once, over all routes; a stream that needs one more comes back later.
    #[schemars(range(min = 1))]
    pub(super) max_channels: Field<usize>,
    /// What the kept events of all channels may take together; the least recently used go first.
    pub(super) history_memory: Field<Size>,
    /// A longer message is skipped, and told as a gap.
    pub(super) max_event_bytes: Field<Size>,
    /// A connection or stream that could write nothing for so long is closed.
    pub(super) write_timeout: Field<Time>,
    /// An orderly stop ends the streams evenly over this, and running requests have as long.
    pub(super) drain: Field<Time>,
    /// Before that, new clients are still let in for so long, and streams are sent away at once:
    /// until a load balancer has seen that the gateway is not ready.
    pub(super) drain_delay: Field<Time>,
    /// Bounds over all listeners.
    pub(super) limits: Field<LimitsFile>,
    /// How long connections may keep us waiting.
    pub(super) timeouts: Field<TimeoutsFile>,
    /// What is particular to HTTP/1.1.
    pub(super) http1: Field<Http1File>,
    /// What is particular to HTTP/2.
    pub(super) http2: Field<Http2File>,
    /// The sockets of clients.
    pub(super) sockets: Field<SocketsFile>,
}

/// One address that is listened on.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Listener", extend("required" = ["address"]))]
pub(super) struct ListenerFile {
    /// IP address and port: `127.0.0.1:8080`, `0.0.0.0:443`, `[::]:443`. Port 0 lets the system
    /// choose.
    pub(super) address: Field<String>,
    /// HTTPS, with HTTP/2 and HTTP/1.1. Without it: HTTP/1.1, and h2c by prior knowledge.
    pub(super) tls: Field<TlsFile>,
    /// Whether each connection begins with a header of the PROXY protocol, version 1 or 2. Then only
    /// `trusted_proxies` can connect.
    pub(super) proxy_protocol: Field<bool>,
}

/// Where the certificate comes from: `self_signed: true`, or `certificate` and `key`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Tls")]
pub(super) struct TlsFile {
    /// A local certificate, made once and kept in the state directory of the user.
    pub(super) self_signed: Field<bool>,
    /// A PEM file with the certificate and its chain, read again when it changes. Relative paths
    /// start at the folder of this file.
    pub(super) certificate: Field<PathBuf>,
    /// A PEM file with the private key.
    pub(super) key: Field<PathBuf>,
}

/// The listener for operators.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Admin")]
pub(super) struct AdminFile {
    /// IP address and port.
    pub(super) address: Field<String>,
    /// Names that it may be asked by, besides localhost and addresses: `[ssegate]`.
    pub(super) hosts: Field<Vec<Field<String>>>,
}

/// Where events come from.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Redis", extend("required" = ["url"]))]
pub(super) struct RedisFile {
    /// `redis://user:password@host:6379/0`, `rediss://…` for TLS, `redis+unix:///run/redis.sock`, or
    /// `embedded://127.0.0.1:6380` for a small bus inside the gateway.
    pub(super) url: Field<String>,
}

/// What holds for every events route that does not say otherwise.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Sse")]
pub(super) struct SseFile {
    /// A comment is sent when nothing was written for so long.
    pub(super) keep_alive: Field<Time>,
    /// How long a client waits before it connects again: the `retry` field that opens a stream.
    pub(super) retry: Field<Time>,
    /// What is kept of each channel, so that clients can resume. `off` keeps nothing.
    pub(super) history: Field<OrOff<HistoryFile>>,
    /// What a client without an id is sent of each channel's past: `none`, `last`, a number of
    /// events, or `all` that is kept.
    pub(super) replay: Field<ReplayFile>,
    /// Whether clients are told, with `event: gap`, of what they have missed.
    pub(super) gap_events: Field<bool>,
    /// A channel stays followed so long after its last listener left. Default: the age of the
    /// history, 30s without one.
    pub(super) linger: Field<Time>,
    /// The form of `ready`, which tells a client that it is subscribed: `line`, a comment; `block`, with
    /// the position as id, so that a client that saw no event yet resumes there; or `auto`, a block for
    /// a browser's `EventSource` and a line for everybody else, since some clients make an event of a
    /// block without data.
    pub(super) ready: Field<ReadyFile>,
    /// Channels on one stream, at most.
    #[schemars(range(min = 1))]
    pub(super) max_channels: Field<usize>,
    /// A stream ends after this, or up to a quarter earlier, and its client comes back and resumes:
    /// so clients spread over gateways again. 0s: never.
    pub(super) max_stream_age: Field<Time>,
    /// What may wait for one slow client.
    pub(super) queue: Field<QueueFile>,
}

/// The newest events of a channel, within all three bounds.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "History")]
pub(super) struct HistoryFile {
    /// Events.
    #[schemars(range(min = 1))]
    pub(super) count: Field<usize>,
    /// Bytes.
    pub(super) bytes: Field<Size>,
    /// Time since they were received.
    pub(super) age: Field<Time>,
}

/// What a client without an id is sent first: `none`, `last`, a number of events, or `all`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum ReplayFile {
    None,
    Newest(usize),
    All,
}

impl ReplayFile {
    /// More is asked for with `all`.
    const MOST: usize = 10_000;
}

impl TryFrom<String> for ReplayFile {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "none" => Ok(Self::None),
            "last" => Ok(Self::Newest(1)),
            "all" => Ok(Self::All),
            number => match number.parse() {
                Ok(count @ 1..=Self::MOST) => Ok(Self::Newest(count)),
                _ => Err(format!(
                    "expected none, last, all or a number from 1 to {}; this is {}",
                    Self::MOST,
                    super::error::quoted(&text)
                )),
            },
        }
    }
}

impl JsonSchema for ReplayFile {
    fn schema_name() -> Cow<'static, str> {
        "Replay".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "pattern": r"^(none|last|all|[0-9]+)$|\$\{",
            "minimum": 1,
            "maximum": Self::MOST,
            "examples": ["none", "last", 10, "all"],
        })
    }
}

/// What may wait for one slow client.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Queue")]
pub(super) struct QueueFile {
    /// Bytes of events. One event may always wait, however large.
    pub(super) bytes: Field<Size>,
    /// What happens when more would wait.
    pub(super) when_full: Field<WhenFullFile>,
}

/// What happens when more would wait than may.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "WhenFull")]
pub(super) enum WhenFullFile {
    /// The stream is closed; the client comes back and resumes.
    Disconnect,
    /// The oldest events give way, and a gap tells of it.
    DropOldest,
    /// Only the newest event of each channel is kept: for dashboards.
    Latest,
}

/// The form in which a client is told that it is subscribed.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Ready")]
pub(super) enum ReadyFile {
    /// A block for a browser's `EventSource`, a line for everybody else.
    Auto,
    /// A comment line.
    Line,
    /// A block with the client's position.
    Block,
}

/// One route: what it matches, and exactly one of `events` and `proxy`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(
    rename = "Route",
    extend("required" = ["path"]),
    extend("oneOf" = [{ "required": ["events"] }, { "required": ["proxy"] }])
)]
pub(super) struct RouteFile {
    /// A path with `{name}` for one segment and `{*name}` for all the rest.
    #[schemars(regex(pattern = r"^/|\$\{"))]
    pub(super) path: Field<String>,
    /// Only for this host, without its port.
    pub(super) host: Field<String>,
    /// Only for these methods. Default: all.
    pub(super) methods: Field<Vec<Field<MethodFile>>>,
    /// A stream of events.
    pub(super) events: Field<EventsFile>,
    /// A backend.
    pub(super) proxy: Field<ProxyFile>,
    /// Which pages of other origins may read the answers.
    pub(super) cors: Field<CorsFile>,
    /// Beside `proxy`: streams that the backend hands over.
    pub(super) handover: Field<HandoverFile>,
}

/// A method of HTTP.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(rename = "Method")]
pub(super) enum MethodFile {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Connect,
    Trace,
}

/// A stream of events.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Events", extend("required" = ["channels"]))]
pub(super) struct EventsFile {
    /// The channels to listen to: names with `{parameter}` of the path and `{query.name}`.
    #[schemars(length(min = 1))]
    pub(super) channels: Field<Vec<Field<String>>>,
    /// How events reach us.
    pub(super) source: Field<SourceFile>,
    /// How messages are written: `raw` (the message is the data) or `envelope` (a JSON object with
    /// event, data, id and retry; the id only counts with `history: off`, else ours takes its place).
    pub(super) format: Field<FormatFile>,
    /// Put before a channel's name when it is subscribed, and never shown to clients.
    pub(super) strip_prefix: Field<String>,
    /// Whether `*`, `?` and `[` in a channel's name subscribe to a pattern.
    pub(super) patterns: Field<bool>,
    /// As in `sse`.
    pub(super) keep_alive: Field<Time>,
    /// As in `sse`.
    pub(super) retry: Field<Time>,
    /// As in `sse`; what is not said here is taken from there.
    pub(super) history: Field<OrOff<HistoryFile>>,
    /// As in `sse`.
    pub(super) replay: Field<ReplayFile>,
    /// As in `sse`.
    pub(super) gap_events: Field<bool>,
    /// As in `sse`.
    pub(super) linger: Field<Time>,
    /// As in `sse`.
    pub(super) ready: Field<ReadyFile>,
    /// As in `sse`.
    #[schemars(range(min = 1))]
    pub(super) max_channels: Field<usize>,
    /// As in `sse`.
    pub(super) max_stream_age: Field<Time>,
    /// As in `sse`; what is not said here is taken from there.
    pub(super) queue: Field<QueueFile>,
}

/// How events reach us.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename = "Source", rename_all = "snake_case")]
pub(super) enum SourceFile {
    /// PUBLISH: a message reaches those who listen.
    Pubsub,
    /// XADD: Redis keeps the entries, and a client that comes back misses none that is still there.
    Stream,
}

impl TryFrom<String> for SourceFile {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        match word.as_str() {
            "pubsub" => Ok(Self::Pubsub),
            "stream" => Ok(Self::Stream),
            _ => Err(format!("expected pubsub or stream; this is {}", super::error::quoted(&word))),
        }
    }
}

/// How messages are written by their publishers.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Format")]
pub(super) enum FormatFile {
    /// The message is the data of the event.
    Raw,
    /// A JSON object with event (or type), data, id and retry.
    Envelope,
}

/// A backend.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Proxy", extend("required" = ["upstream"]))]
pub(super) struct ProxyFile {
    /// `http://host:port`, `https://host:port` or `unix:/path/to/socket`. Of several, each has its
    /// turn; one that cannot be reached is passed over for a while.
    pub(super) upstream: Field<OneOrMore<String>>,
    /// HTTP/2 to the backend: over TLS by ALPN, in clear text by prior knowledge (h2c).
    pub(super) http2: Field<bool>,
    /// Whom we believe to be an `https://` upstream.
    pub(super) tls: Field<UpstreamTlsFile>,
    /// What the backend hears as Host. Default: what the client asked for.
    pub(super) host: Field<String>,
    /// Whether headers with an underscore in their name pass. PHP, WSGI and Rack cannot tell
    /// `x_real_ip` from `x-real-ip`; without this, such a request is refused.
    pub(super) underscores_in_headers: Field<bool>,
    /// Connections to all upstreams of this route together; a request that needs one more is
    /// answered with 503.
    #[schemars(range(min = 1))]
    pub(super) max_connections: Field<usize>,
    /// Over HTTP/2: requests that wait while a connection is opened, to each upstream and on each
    /// shard; one more is answered with 503.
    #[schemars(range(min = 1))]
    pub(super) max_waiting: Field<usize>,
    /// The header of a response, over HTTP/1.1 and HTTP/2: its names and values, and 32 bytes for each
    /// field. A larger one is answered with 502.
    pub(super) max_response_header: Field<Size>,
    /// Whether GET, HEAD, OPTIONS, PUT and DELETE without a body are sent once more, on a new
    /// connection, when a kept connection is lost before the response.
    pub(super) retry_idempotent: Field<bool>,
    /// Over HTTP/2: what is kept of a request's body, to send it again when the backend has not
    /// processed it (GOAWAY, REFUSED_STREAM). With a larger body it is then answered with 502.
    pub(super) retry_buffer: Field<Size>,
    /// The body of a request; more is answered with 413. Default: as `limits.body`.
    pub(super) max_body: Field<Limit<Size>>,
    /// How long a connection may take, the look-up of a name and TLS included.
    pub(super) connect_timeout: Field<Time>,
    /// How long it may take from the end of a request to the head of the response.
    pub(super) response_timeout: Field<Time>,
    /// How long a body, of a request or of a response, may pause between two pieces.
    pub(super) idle_timeout: Field<Time>,
    /// How long a connection is kept while nobody needs it; 0s: it is not kept.
    pub(super) keep_alive: Field<Time>,
    /// Of several upstreams, one that could not be reached is passed over for so long.
    pub(super) fail_timeout: Field<Time>,
    /// What becomes of addresses in a response that lead to the backend itself.
    pub(super) location: Field<LocationFile>,
    /// A warning is logged when more than one in a hundred responses of a minute (three at least) begin
    /// later than this: when their 99th percentile is above it. Default: off.
    pub(super) p99_warning: Field<Limit<Time>>,
    /// A comment is put into an event stream of the backend's own that was quiet for so long; `0s`:
    /// never. Default: as `keep_alive` in `sse`.
    pub(super) stream_keep_alive: Field<Time>,
}

/// What becomes of `Location`, `Content-Location` and `Refresh` that lead to the backend itself.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Location")]
pub(super) enum LocationFile {
    /// They lead to the gateway.
    Rewrite,
    /// They stay as they are.
    Keep,
}

/// Streams that the backend hands over, with the headers of GRIP: it answers and is free, and the
/// gateway keeps the stream. Nothing here names channels: the backend does.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Handover", extend("required" = ["key"]))]
pub(super) struct HandoverFile {
    /// The secret that the backend checks `Grip-Sig` with: 32 bytes at least, as they are or behind
    /// `base64:`.
    pub(super) key: Field<String>,
    /// Who signs, as `Grip-Sig` says. Default: `ssegate`.
    pub(super) issuer: Field<String>,
    /// How events reach us, as on an events route.
    pub(super) source: Field<SourceFile>,
    /// How messages are written, as on an events route.
    pub(super) format: Field<FormatFile>,
    /// Put before a channel's name when it is subscribed, and never shown to clients.
    pub(super) strip_prefix: Field<String>,
    /// As in `sse`; a backend may say otherwise with `Grip-Keep-Alive`.
    pub(super) keep_alive: Field<Time>,
    /// As in `sse`; what the backend writes into the body comes first.
    pub(super) retry: Field<Time>,
    /// As in `sse`; what is not said here is taken from there.
    pub(super) history: Field<OrOff<HistoryFile>>,
    /// What a client without an id is sent first, behind the body: as on an events route. Default:
    /// `none`, whatever stands in `sse`.
    pub(super) replay: Field<ReplayFile>,
    /// As in `sse`.
    pub(super) gap_events: Field<bool>,
    /// As in `sse`.
    pub(super) linger: Field<Time>,
    /// As in `sse`.
    pub(super) ready: Field<ReadyFile>,
    /// As in `sse`.
    #[schemars(range(min = 1))]
    pub(super) max_channels: Field<usize>,
    /// As in `sse`: the backend is asked again after so long at the latest.
    pub(super) max_stream_age: Field<Time>,
    /// As in `sse`; what is not said here is taken from there.
    pub(super) queue: Field<QueueFile>,
}

/// Whom we believe to be an `https://` upstream.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "UpstreamTls")]
pub(super) struct UpstreamTlsFile {
    /// A PEM file with the certificates of those who may have signed the upstream's. Default: the
    /// roots of the system. Relative paths start at the folder of this file.
    pub(super) ca: Field<PathBuf>,
    /// The name that the upstream's certificate must have. Default: its host.
    pub(super) server_name: Field<String>,
    /// Believes anybody: who can reach the connection can read and change it. For tests.
    pub(super) insecure_skip_verify: Field<bool>,
}

/// Which pages of other origins may read the answers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Cors")]
pub(super) struct CorsFile {
    /// Origins as browsers write them, `https://app.example`; or `*` for all.
    pub(super) origins: Field<Vec<Field<String>>>,
    /// Whether cookies may come along.
    pub(super) credentials: Field<bool>,
}

/// Bounds over all listeners.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub(super) struct LimitsFile {
    /// Connections at once; one more is closed as soon as it is accepted. No more, in any case, than
    /// the file descriptors allow.
    #[schemars(range(min = 1))]
    pub(super) connections: Field<usize>,
    /// Connections at once of one address (an IPv6 network of /64); one more is closed.
    pub(super) connections_per_address: Field<Limit<usize>>,
    /// New connections of one address in a second; one more is closed.
    pub(super) new_connections_per_address: Field<Limit<usize>>,
    /// TLS handshakes that a shard works on before its streams have their turn.
    #[schemars(range(min = 1))]
    pub(super) handshakes: Field<usize>,
    /// Requests of one address in a second; one more is answered with 429, or, for a stream, sent
    /// away for a while.
    pub(super) requests_per_address: Field<Limit<usize>>,
    /// Channels that one address asks for in a second and that nobody follows yet; a stream that
    /// needs one more is sent away for a while.
    pub(super) new_channels_per_address: Field<Limit<usize>>,
    /// The path and the query of a request; more is answered with 414.
    pub(super) uri: Field<Size>,
    /// The body of a request; more is answered with 413.
    pub(super) body: Field<Limit<Size>>,
    /// What the connections of the embedded bus may hold together: unfinished commands, and what waits to
    /// be read. Above it the one is cut that has got on least.
    pub(super) bus_memory: Field<Size>,
    /// What may wait for slow readers in all queues together; then the fattest queues go.
    pub(super) queue_memory: Field<Size>,
    /// What all clients may send over HTTP/2 beyond `connection_window`, before backends have read it.
    pub(super) upload_memory: Field<Size>,
}

/// How long connections may keep us waiting.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Timeouts")]
pub(super) struct TimeoutsFile {
    /// From accept to the first complete request, TLS included.
    pub(super) first_request: Field<Time>,
    /// An HTTP/2 connection without a stream is closed after this.
    pub(super) idle: Field<Time>,
    /// What a client still sends of a request that has been answered is read for so long, so that it
    /// reads the response; 0s: not at all.
    pub(super) lingering_close: Field<Time>,
}

/// What is particular to HTTP/1.1.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Http1")]
pub(super) struct Http1File {
    /// A request's header must be complete after this; a kept connection waits no longer for the
    /// next request.
    pub(super) header_timeout: Field<Time>,
    /// A request's line and header, at most; more is answered with 431.
    pub(super) header: Field<Size>,
    /// A client that has closed its sending side behind a request, and to which nothing was written
    /// for so long, has left; 0s: it has left at once.
    pub(super) half_close: Field<Time>,
    /// Fields of a request's header, at most; more are answered with 431.
    #[schemars(range(min = 1, max = 30_000))]
    pub(super) header_fields: Field<usize>,
    /// The read and write buffer of a connection, at most.
    pub(super) buffer: Field<Size>,
}

/// What is particular to HTTP/2.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Http2")]
pub(super) struct Http2File {
    /// Streams on one connection. Chromium opens 256 at most.
    #[schemars(range(min = 1))]
    pub(super) max_concurrent_streams: Field<u32>,
    /// A request's header, at most.
    pub(super) header_list: Field<Size>,
    /// What a client may send on one stream before it must wait.
    pub(super) stream_window: Field<Size>,
    /// What that may grow to where the body is read as fast as it comes.
    pub(super) max_stream_window: Field<Size>,
    /// What a client may send on the whole connection before it must wait.
    pub(super) connection_window: Field<Size>,
    /// A header block, and any other frame than DATA, must be complete so long after its beginning.
    pub(super) header_timeout: Field<Time>,
    /// A connection on which nothing happens is asked by a PING after this.
    pub(super) keep_alive_interval: Field<Time>,
    /// An unanswered PING ends the connection after this.
    pub(super) keep_alive_timeout: Field<Time>,
}

/// The sockets of clients.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Sockets")]
pub(super) struct SocketsFile {
    /// SO_SNDBUF: what a reader that stopped can hold in the kernel; four times as much where large
    /// bodies are forwarded.
    pub(super) send_buffer: Field<Size>,
}
