//! Why the gateway closed a connection.

/// Why the gateway closed a connection before its client did. What a client over HTTP/2 does too much of
/// is [`ssegate_http2::AbuseReason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutReason {
    /// No complete request within `first_request_timeout`.
    FirstRequest,
    /// HTTP/1.1: a header not complete within `header_read_timeout`. HTTP/2: a header block, or a
    /// frame other than DATA, not complete within `header_timeout`.
    HeaderTimeout,
    /// HTTP/2: no ACK of a PING within `keep_alive_timeout`.
    KeepAlive,
    /// HTTP/1.1: the client was still sending its request `lingering_close` after the response.
    Lingering,
    /// The PROXY protocol header is missing or malformed.
    ProxyProtocol,
    /// HTTP/1.1: its response had to be aborted, for which only closing the connection is left.
    Stream,
    /// Idle during a shortage of file descriptors.
    Shortage,
    /// Nothing could be written for `write_timeout`.
    Stalled,
    /// The gateway stopped and its drain timeout passed.
    Stopped,
    /// A TLS error after the handshake, such as too many key updates.
    Tls,
}

impl CutReason {
    pub(in crate::server) fn as_str(self) -> &'static str {
        match self {
            Self::FirstRequest => "first_request_timeout",
            Self::HeaderTimeout => "header_timeout",
            Self::KeepAlive => "keep_alive_timeout",
            Self::Lingering => "lingering_close",
            Self::ProxyProtocol => "proxy_protocol",
            Self::Stream => "stream",
            Self::Shortage => "file_descriptors",
            Self::Stalled => "write_timeout",
            Self::Stopped => "stopped",
            Self::Tls => "tls",
        }
    }
}
