//! `proxy`: the backend of a route.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use ssegate_strict_yaml::{Count, Field, Limit, OneOrMore, Size, Time, TimeOrZero, mapping, sets};

use crate::route::ProxySettings;

/// A smaller limit would reject ordinary responses.
const MIN_RESPONSE_HEADER: Size = Size::kib(1);
/// A larger limit would let a backend make every connection allocate that much.
const MAX_RESPONSE_HEADER: Size = Size::kib(1024);

mapping! {
    /// A backend.
    #[schemars(rename = "Proxy", extend("required" = ["upstream"]))]
    pub(crate) struct ProxyFile sets ProxySettings {
        /// `http://host:port`, `https://host:port` or `unix:/path/to/socket`, or a list of several, used
        /// round robin. An upstream that cannot be reached is skipped for `fail_timeout`.
        upstream: OneOrMore<String>,
        /// HTTP/2 to the backend: over TLS by ALPN, without TLS with prior knowledge (h2c).
        http2: bool => is_http2,
        /// TLS settings of `https://` upstreams.
        tls: UpstreamTlsFile,
        /// The Host that the backend gets. Default: that of the request.
        host: String,
        /// Header fields that tell the backend who it is, such as `x-user: "{auth.id}"`. A client's own
        /// fields with these names are removed on every route.
        pass: BTreeMap<String, Field<String>>,
        /// Whether headers with an underscore in their name are forwarded. PHP, WSGI and Rack do not
        /// distinguish `x_real_ip` from `x-real-ip`, so such a request gets 400 by default.
        underscores_in_headers: bool => allows_underscores,
        /// The most connections to all upstreams of this route together. A request that needs another gets
        /// 503.
        max_connections: Count => max_connections,
        /// Over HTTP/2: the most requests that wait for a new connection, per upstream and shard. One more
        /// gets 503.
        max_waiting: Count => max_waiting,
        /// The largest header of a response, over HTTP/1.1 and HTTP/2: names and values, plus 32 bytes per
        /// field. A larger one is a 502.
        max_response_header: Size => max_response_header in MIN_RESPONSE_HEADER..=MAX_RESPONSE_HEADER,
        /// Whether GET, HEAD, OPTIONS, PUT and DELETE without a body are retried once, on a new connection,
        /// when a kept connection is lost before the response.
        retry_idempotent: bool => retry_idempotent,
        /// Over HTTP/2: the buffer of a request's body, to retry a request that the backend has not
        /// processed (GOAWAY, REFUSED_STREAM). With a larger body the request gets 502.
        retry_buffer: Size => retry_buffer in Size::ZERO..=Size::MAX_LENGTH,
        /// The largest body of a request. A larger one gets 413. Default: `limits.body`.
        max_body: Limit<Size> => max_body,
        /// The longest time to connect, including name resolution and the TLS handshake.
        connect_timeout: Time => connect_timeout,
        /// The longest time from the end of a request to the header of its response.
        response_timeout: Time => response_timeout,
        /// The longest pause in the body of a request or response.
        idle_timeout: Time => idle_timeout,
        /// How long an idle connection is kept. 0s: not kept.
        keep_alive: TimeOrZero => keep_alive,
        /// How long an upstream that could not be reached is skipped, if there are others.
        fail_timeout: TimeOrZero => fail_timeout,
        /// What happens to URLs in a response that have the address of the backend itself.
        location: LocationFile => rewrites_location,
        /// A warning is logged when more than 1 % of the responses of a minute (at least three) start later
        /// than this, which is when their 99th percentile is above it. Default: off.
        p99_warning: Limit<TimeOrZero> => p99_warning,
        /// A comment is inserted into an event stream of the backend after this long without data. `0s`:
        /// never. Default: `keep_alive` of `sse`.
        stream_keep_alive: TimeOrZero => stream_keep_alive,
    }
}

/// What happens to `Location`, `Content-Location` and `Refresh` with the address of the backend itself.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Location")]
pub(crate) enum LocationFile {
    /// They are rewritten to the gateway.
    Rewrite,
    /// They are left unchanged.
    Keep,
}

sets! {
    LocationFile => bool = |word| matches!(word, LocationFile::Rewrite);
}

/// How the certificate of an `https://` upstream is verified.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "UpstreamTls")]
pub(crate) struct UpstreamTlsFile {
    /// A PEM file with trusted CA certificates, or the upstream's own certificate. Default: the CA
    /// certificates of the system. Relative paths start at the directory of this file.
    pub(crate) ca: Field<PathBuf>,
    /// The name that the certificate must be valid for. Default: the upstream's host.
    pub(crate) server_name: Field<String>,
    /// Accepts any certificate: an attacker can then read and change the traffic. For tests.
    pub(crate) insecure_skip_verify: Field<bool>,
}
