//! The protocols between the load and a server.

use std::fmt;
use std::str::FromStr;

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http1Tls,
    Http2Tls,
}

impl Protocol {
    /// The ALPN name that TLS is to agree on; `None` without TLS.
    pub(crate) fn alpn(self) -> Option<&'static [u8]> {
        match self {
            Self::Http1 => None,
            Self::Http1Tls => Some(b"http/1.1"),
            Self::Http2Tls => Some(b"h2"),
        }
    }
}

/// A protocol, and how many streams share a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) protocol: Protocol,
    pub(crate) streams_per_connection: usize,
}

impl Mode {
    /// HTTP/1.1 in clear text.
    pub(crate) const HTTP1: Self = Self::one_each(Protocol::Http1);
    /// HTTP/2 with TLS, a connection for each stream.
    pub(crate) const HTTP2: Self = Self::one_each(Protocol::Http2Tls);
    /// HTTP/2 with TLS, 100 streams on each connection.
    pub(crate) const HTTP2_SHARED: Self =
        Self { protocol: Protocol::Http2Tls, streams_per_connection: 100 };

    const fn one_each(protocol: Protocol) -> Self {
        Self { protocol, streams_per_connection: 1 }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.protocol {
            Protocol::Http1 => "h1",
            Protocol::Http1Tls => "h1+tls",
            Protocol::Http2Tls => "h2+tls",
        })?;
        match self.streams_per_connection {
            1 => Ok(()),
            streams => write!(f, "/{streams}"),
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, streams) = text.split_once('/').unwrap_or((text, "1"));
        let protocol = match name {
            "h1" => Protocol::Http1,
            "h1+tls" => Protocol::Http1Tls,
            "h2+tls" => Protocol::Http2Tls,
            _ => return Err("one of h1, h1+tls, h2+tls, h2+tls/100".into()),
        };
        match streams.parse() {
            Ok(streams @ 1..=256) if streams == 1 || protocol == Protocol::Http2Tls => {
                Ok(Self { protocol, streams_per_connection: streams })
            }
            _ => Err("1 to 256 streams on a connection of HTTP/2, one on one of HTTP/1.1".into()),
        }
    }
}
