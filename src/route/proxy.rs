//! The backend of a proxy route.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use ssegate_hub::StreamSettings;

use crate::auth::HeaderTemplate;
use crate::upstream_address::{UpstreamAddress, UpstreamTls};

/// The backend of a proxy route, its limits and its timeouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySettings {
    /// The addresses of the backend, used in turn (round robin). Never empty.
    pub upstreams: Vec<UpstreamAddress>,
    /// Whether to use HTTP/2: over TLS by ALPN, in clear text by prior knowledge.
    pub is_http2: bool,
    /// TLS settings of `https://` upstreams.
    pub tls: UpstreamTls,
    /// The `Host` of requests to the backend; `None`: that of the client's request.
    pub host: Option<HeaderValue>,
    /// Whether URLs of the backend itself in `Location`, `Content-Location` and `Refresh` are rewritten.
    pub rewrites_location: bool,
    /// Whether header names with underscores are forwarded. Otherwise the request gets 400.
    pub allows_underscores: bool,
    /// The most connections to all upstreams together, over all shards.
    pub max_connections: usize,
    /// The most requests that wait for an HTTP/2 connection, per upstream and shard.
    pub max_waiting: usize,
    /// The largest header of a response, in bytes: names, values, and 32 bytes per field (as
    /// SETTINGS_MAX_HEADER_LIST_SIZE in RFC 9113, section 6.5.2).
    pub max_response_header: usize,
    /// Whether an idempotent request without a body is retried once when a kept connection is lost.
    pub retry_idempotent: bool,
    /// How much of a request's body is buffered over HTTP/2, in bytes, to retry a request that the
    /// backend has not processed.
    pub retry_buffer: usize,
    /// The largest body of a request, in bytes; `None`: no limit.
    pub max_body: Option<u64>,
    /// The longest time to connect, including name resolution and the TLS handshake.
    pub connect_timeout: Duration,
    /// The longest time from the end of a request to the header of its response.
    pub response_timeout: Duration,
    /// The longest pause in the body of a request or response.
    pub idle_timeout: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// How long an upstream that could not be reached is skipped, if there are others.
    pub fail_timeout: Duration,
    /// A warning is logged when more than 1 % of the responses of a minute start later than this;
    /// `None`: never.
    pub p99_warning: Option<Duration>,
    /// A comment is inserted into an event stream of the backend that was quiet for this long; `None`:
    /// never.
    pub stream_keep_alive: Option<Duration>,
    /// Header fields that tell the backend who it is. A client's own fields with these names are removed.
    pub pass: Vec<(HeaderName, HeaderTemplate)>,
}

impl ProxySettings {
    /// The default settings of a backend at these addresses.
    pub fn new(upstreams: Vec<UpstreamAddress>) -> Self {
        Self {
            upstreams,
            is_http2: false,
            tls: UpstreamTls::default(),
            host: None,
            rewrites_location: true,
            allows_underscores: false,
            max_connections: 10_000,
            max_waiting: 1_000,
            max_response_header: 64 << 10,
            retry_idempotent: true,
            retry_buffer: 64 << 10,
            max_body: None,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            keep_alive: Duration::from_secs(60),
            fail_timeout: Duration::from_secs(10),
            p99_warning: None,
            stream_keep_alive: Some(StreamSettings::default().keep_alive),
            pass: Vec::new(),
        }
    }
}
