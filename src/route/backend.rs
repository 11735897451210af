//! A backend, as a proxy route describes it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::hub::StreamSettings;

/// Where a proxy route leads, and how long it may take there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySettings {
    /// Where the backend listens; of several, each has its turn. Never empty.
    pub upstreams: Vec<UpstreamAddress>,
    /// Whether HTTP/2 is spoken there: over TLS by ALPN, in clear text by prior knowledge.
    pub is_http2: bool,
    /// Of upstreams that speak TLS.
    pub tls: UpstreamTls,
    /// What the backend hears as `Host`; `None`: what the client said.
    pub host: Option<HeaderValue>,
    /// Whether addresses in a response that lead to the backend itself are rewritten.
    pub rewrites_location: bool,
    /// Whether names with underscores pass.
    pub allows_underscores: bool,
    /// Connections to all upstreams together, over all shards.
    pub max_connections: usize,
    /// Requests that wait for a connection over HTTP/2, to each upstream, on each shard.
    pub max_waiting: usize,
    /// What the header of a response may take: its names and values, and 32 bytes for each field.
    pub max_response_header: usize,
    /// Whether an idempotent request without a body, lost on a kept connection, is sent once more.
    pub retry_idempotent: bool,
    /// What is kept of a request's body over HTTP/2, in bytes, to send it again where the backend has
    /// not processed it.
    pub retry_buffer: usize,
    /// Bytes of a request's body; `None`: any number.
    pub max_body: Option<u64>,
    /// How long a connection may take, its name's look-up and TLS included.
    pub connect_timeout: Duration,
    /// How long it may take from the end of a request to the head of the response.
    pub response_timeout: Duration,
    /// How long a body, of a request or of a response, may pause between two pieces.
    pub idle_timeout: Duration,
    /// How long a connection is kept while nobody needs it.
    pub keep_alive: Duration,
    /// For how long an upstream that could not be reached is passed over, where there are others.
    pub fail_timeout: Duration,
    /// It is logged when more than one in a hundred responses of a minute begins later than this;
    /// `None`: never.
    pub p99_warning: Option<Duration>,
    /// A comment is put into an event stream of its own that was quiet for so long; `None`: never.
    pub stream_keep_alive: Option<Duration>,
}

impl ProxySettings {
    /// The backend, with what holds where nothing else is said.
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
        }
    }
}

/// Whom we believe to be the backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Who may have signed its certificate; empty: the roots of the system.
    pub roots: Vec<CertificateDer<'static>>,
    /// The name that its certificate must have; `None`: that of the upstream.
    pub server_name: Option<ServerName<'static>>,
    /// Whether anybody is believed.
    pub is_unverified: bool,
}

/// One place where a backend listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamAddress {
    /// `http://host:port` or `https://host:port`.
    Tcp {
        /// A name, or an IP address (IPv6 without brackets).
        host: String,
        /// The port.
        port: u16,
        /// Whether TLS is spoken there.
        is_tls: bool,
    },
    /// `unix:/path`: HTTP over a socket of this machine.
    Unix(PathBuf),
}

impl UpstreamAddress {
    /// How a request for it names it in `Host` (RFC 9110, section 7.2): a port that goes without
    /// saying is left out. A socket of this machine has no name of its own.
    pub fn authority(&self) -> String {
        match self {
            Self::Tcp { host, port, is_tls } => {
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                let is_default = *port == if *is_tls { 443 } else { 80 };
                let port = if is_default { String::new() } else { format!(":{port}") };
                format!("{open}{host}{close}{port}")
            }
            Self::Unix(_) => "localhost".to_owned(),
        }
    }

    /// Whether TLS is spoken there.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { is_tls: true, .. })
    }
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, is_tls } => {
                let scheme = if *is_tls { "https" } else { "http" };
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                write!(f, "{scheme}://{open}{host}{close}:{port}")
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::UpstreamAddress;

    #[test]
    fn an_address_reads_as_it_is_written() {
        let tcp = |host: &str, is_tls| UpstreamAddress::Tcp { host: host.into(), port: 80, is_tls };
        assert_eq!(tcp("app", false).to_string(), "http://app:80");
        assert_eq!(tcp("::1", true).to_string(), "https://[::1]:80");
        assert_eq!(UpstreamAddress::Unix("/run/a".into()).to_string(), "unix:/run/a");
        assert_eq!(tcp("app", false).authority(), "app");
        assert_eq!(tcp("::1", true).authority(), "[::1]:80");
    }
}
