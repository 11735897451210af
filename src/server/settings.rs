//! The settings of listeners and of client connections, with their defaults.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use ssegate_http2::Http2Settings;

use super::clients::ClientLimits;

/// The settings of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// The address to bind; with port 0 the system chooses a free port.
    pub address: SocketAddr,
    /// `None`: HTTP/1.1 in clear text, and h2c by prior knowledge.
    pub tls: Option<TlsSettings>,
    /// Whether each connection begins with a PROXY protocol header.
    pub proxy_protocol: bool,
}

/// Where a listener's certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSettings {
    /// A self-signed certificate, generated once and kept in the state directory.
    SelfSigned,
    /// PEM files of at least one certificate. Clients that ask for a name that none has get the first.
    Files(Vec<CertificateFiles>),
}

/// The PEM files of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the server's certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Limits and timeouts of client connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// Open connections over all listeners. Any further connection is closed right after accept.
    pub max_connections: usize,
    /// Limits per client address.
    pub per_client: ClientLimits,
    /// TLS handshakes that a shard computes in one turn of its event loop, before its streams.
    pub max_handshakes: usize,
    /// From accept to the first complete request, TLS handshake included.
    pub first_request_timeout: Duration,
    /// How long an HTTP/2 connection without a stream stays open.
    pub idle_timeout: Duration,
    /// How long a connection or stream may be unable to write anything before it is closed.
    pub write_timeout: Duration,
    /// How long the rest of a request body is read and discarded after the response.
    pub lingering_close: Duration,
    /// `SO_SNDBUF` in bytes: what a client that stopped reading can hold in the kernel. Four times
    /// as much on a connection that sends large bodies.
    pub send_buffer: usize,
    /// The backlog of listen(2): connections of one listener that wait in the kernel to be accepted.
    pub backlog: u16,
    /// Bytes that all clients together may send over HTTP/2 beyond their `connection_window`s.
    pub upload_memory: usize,
    /// Networks of proxies whose forwarding headers and PROXY headers are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// HTTP/1.1.
    pub http1: Http1Settings,
    /// HTTP/2.
    pub http2: Http2Settings,
}

/// The settings of HTTP/1.1 only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http1Settings {
    /// How long a client may take to send a request's header. Also the keep-alive timeout: how long
    /// a persistent connection waits for its next request.
    pub header_read_timeout: Duration,
    /// Bytes of a request line and its header; a longer one gets 431.
    pub max_header_bytes: usize,
    /// Fields of a request's header; a request with more gets 431.
    pub max_header_fields: usize,
    /// The largest size of a connection's read buffer and of its write buffer, in bytes.
    pub max_buffer_bytes: usize,
    /// A client that has closed its sending side counts as gone when nothing could be written to it
    /// for this long. Zero: it counts as gone at once.
    pub half_close: Duration,
}

impl ConnectionSettings {
    /// The shortest of the timeouts that can start at any time.
    pub(crate) fn least_timeout(&self) -> Duration {
        let Http2Settings { header_timeout, keep_alive_interval, keep_alive_timeout, .. } =
            self.http2;
        let of_http2 = header_timeout.min(keep_alive_interval).min(keep_alive_timeout);
        self.write_timeout.min(self.idle_timeout).min(of_http2)
    }

    /// Whether this address is one of the trusted proxies.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            max_connections: 100_000,
            per_client: ClientLimits::default(),
            max_handshakes: 16,
            first_request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            lingering_close: Duration::from_secs(30),
            send_buffer: 64 << 10,
            backlog: 4096,
            upload_memory: 128 << 20,
            trusted_proxies: Vec::new(),
            http1: Http1Settings::default(),
            http2: Http2Settings::default(),
        }
    }
}

impl Default for Http1Settings {
    fn default() -> Self {
        Self {
            header_read_timeout: Duration::from_secs(10),
            max_header_bytes: 32 << 10,
            max_header_fields: 1000,
            max_buffer_bytes: 64 << 10,
            half_close: Duration::from_secs(10),
        }
    }
}
