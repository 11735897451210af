//! The address of a backend, and how its certificate is verified.

use std::fmt;
use std::path::PathBuf;

use rustls_pki_types::{CertificateDer, ServerName};

/// How the certificate of a backend is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The trusted root certificates; empty: those of the system.
    pub roots: Vec<CertificateDer<'static>>,
    /// The name that the certificate must be valid for; `None`: the host of the upstream.
    pub server_name: Option<ServerName<'static>>,
    /// Whether any certificate is accepted.
    pub is_unverified: bool,
}

/// An address of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamAddress {
    /// `http://host:port` or `https://host:port`.
    Tcp {
        /// A name, or an IP address (IPv6 without brackets).
        host: String,
        /// The port.
        port: u16,
        /// Whether to use TLS.
        is_tls: bool,
    },
    /// `unix:/path`: HTTP over a Unix domain socket.
    Unix(PathBuf),
}

impl UpstreamAddress {
    /// The value of `Host` for this address (RFC 9110, section 7.2), without the scheme's default port.
    /// `localhost` for a Unix domain socket, which has no host.
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

    /// Whether to use TLS.
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
    fn an_address_is_printed_as_in_the_configuration() {
        let tcp = |host: &str, is_tls| UpstreamAddress::Tcp { host: host.into(), port: 80, is_tls };
        assert_eq!(tcp("app", false).to_string(), "http://app:80");
        assert_eq!(tcp("::1", true).to_string(), "https://[::1]:80");
        assert_eq!(UpstreamAddress::Unix("/run/a".into()).to_string(), "unix:/run/a");
        assert_eq!(tcp("app", false).authority(), "app");
        assert_eq!(tcp("::1", true).authority(), "[::1]:80");
    }
}
