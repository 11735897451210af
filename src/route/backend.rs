//! A backend, as a proxy route describes it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::hub::StreamSettings;

/// Where a proxy route leads, and how long it may take there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySettings {
    /// Where the backend listens; of several, each has its turn. Never empty.
    pub upstreams: Vec<UpstreamAddress>,
    /// How long a connection to it may take, its name's look-up and TLS included.
    pub connect_timeout: Duration,
    /// How long it may take from the end of a request to the head of the response.
    pub response_timeout: Duration,
    /// How long a body, of a request or of a response, may pause between two pieces.
    pub idle_timeout: Duration,
    /// How long a connection to it is kept while nobody needs it.
    pub keep_alive: Duration,
    /// A comment is put into an event stream of its own that was quiet for so long; `None`: never.
    pub stream_keep_alive: Option<Duration>,
}

impl ProxySettings {
    /// The backend, with the waits that hold where nothing else is said.
    pub fn new(upstreams: Vec<UpstreamAddress>) -> Self {
        Self {
            upstreams,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            keep_alive: Duration::from_secs(60),
            stream_keep_alive: Some(StreamSettings::default().keep_alive),
        }
    }
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
    }
}
