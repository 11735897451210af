//! Sockets: listeners, TLS, connections. Knows no channel and no route.
//!
//! [`listener`] opens sockets and hands each accepted connection to the least loaded shard, as long as
//! there are file descriptors ([`files`]), or says who holds its port ([`holder`]), and [`own_address`] knows what
//! this machine can listen on; [`shard_server`] keeps the connections of a core and
//! enforces their deadlines, and [`clients`] what each address may have. [`connection`] is one of
//! them, from accept to its end, and [`carrier`] what remains of it while it carries a stream over
//! HTTP/1.1; [`tls`] is how a listener speaks, [`certificate`] what it shows, and [`proxy_protocol`]
//! whom a load balancer speaks for; [`transport`] is the socket as it is watched, [`running`] a
//! request that has not ended, [`refusal`] why one is not even begun, [`contain`] what a panic costs,
//! [`date`] the time in responses, [`event_stream`] which of them are event streams; [`http1`] is HTTP/1.1 beside hyper, [`interim`] what is said before a
//! response, [`http2`] is HTTP/2, [`upload_memory`] what its connections may be sent in all, and
//! [`switch`] how one stream of it is cut off.

pub mod carrier;
pub mod certificate;
pub mod clients;
pub mod connection;
pub mod contain;
mod date;
pub mod event_stream;
mod field_value;
pub mod files;
mod holder;
pub(crate) mod http1;
pub(crate) mod http2;
pub mod interim;
pub mod listener;
mod local_certificate;
pub mod own_address;
mod proxy_protocol;
pub mod refusal;
pub mod request_body;
mod running;
pub mod shard_server;
pub mod state;
mod switch;
pub mod tls;
mod transport;
pub(crate) mod unread;
pub mod upload_memory;

#[cfg(fuzzing)]
pub use http2::decode_header_blocks;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use self::clients::ClientLimits;

/// One address that is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Where; port 0 lets the system choose.
    pub address: SocketAddr,
    /// `None`: HTTP/1.1 in clear text, and h2c by prior knowledge.
    pub tls: Option<TlsSettings>,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

/// Where a listener's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSettings {
    /// A local certificate, made once and kept in the user's state directory.
    SelfSigned,
    /// PEM files.
    Files {
        /// The chain, the server's own certificate first.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
}

/// Bounds and waits of every connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// Connections at once, over all listeners; one more is closed as soon as it is accepted.
    pub max_connections: usize,
    /// What one client may have.
    pub per_client: ClientLimits,
    /// TLS handshakes that a shard works on before its streams have their turn.
    pub max_handshakes: usize,
    /// From accept to the first complete request, TLS included.
    pub first_request_timeout: Duration,
    /// An HTTP/2 connection without a stream is closed after this.
    pub idle_timeout: Duration,
    /// A connection or stream that could write nothing for so long is closed.
    pub write_timeout: Duration,
    /// What a client still sends of a request that has been answered is read for so long.
    pub lingering_close: Duration,
    /// `SO_SNDBUF`, in bytes: what a reader that stopped can hold in the kernel. Four times as much
    /// on a connection that large bodies are forwarded on.
    pub send_buffer: usize,
    /// What all clients may send over HTTP/2 beyond the windows of their connections, in bytes.
    pub upload_memory: usize,
    /// Proxies that are believed when they say where a connection or a request comes from.
    pub trusted_proxies: Vec<IpNet>,
    /// HTTP/1.1.
    pub http1: Http1Settings,
    /// HTTP/2.
    pub http2: Http2Settings,
}

/// What is particular to HTTP/1.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http1Settings {
    /// A request's header must be complete after this; a kept connection waits no longer for the next.
    pub header_read_timeout: Duration,
    /// A request's line and header, in bytes; more is answered with 431.
    pub max_header_bytes: usize,
    /// Fields of a request's header; more are answered with 431.
    pub max_header_fields: usize,
    /// The read and write buffer of a connection, in bytes, at most.
    pub max_buffer_bytes: usize,
    /// A client that has closed its sending side, and to which nothing was written for so long, has
    /// left. Zero: one that has closed its sending side has left.
    pub half_close: Duration,
}

/// What is particular to HTTP/2 (RFC 9113).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Settings {
    /// SETTINGS_MAX_CONCURRENT_STREAMS. Chromium opens 256 at most.
    pub max_concurrent_streams: u32,
    /// SETTINGS_MAX_HEADER_LIST_SIZE, in bytes.
    pub max_header_list_bytes: u32,
    /// SETTINGS_INITIAL_WINDOW_SIZE: what a client may send on one stream, in bytes.
    pub stream_window: u32,
    /// What that may grow to where the body is read as fast as it comes.
    pub max_stream_window: u32,
    /// What a client may send on the whole connection, in bytes, besides what is lent out of
    /// `upload_memory`.
    pub connection_window: u32,
    /// A header block, and any other frame than DATA, must be complete so long after its beginning.
    pub header_timeout: Duration,
    /// A connection on which nothing happens is asked by a PING after this.
    pub keep_alive_interval: Duration,
    /// An unanswered PING ends the connection after this.
    pub keep_alive_timeout: Duration,
}

impl ConnectionSettings {
    /// The shortest of the deadlines that can begin at any time.
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

impl Default for Http2Settings {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 256,
            max_header_list_bytes: 16 << 10,
            stream_window: 64 << 10,
            max_stream_window: 4 << 20,
            connection_window: 1 << 20,
            header_timeout: Duration::from_secs(10),
            keep_alive_interval: Duration::from_secs(20),
            keep_alive_timeout: Duration::from_secs(20),
        }
    }
}
