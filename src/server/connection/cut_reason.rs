//! Why the gateway closed a connection.

/// Why the gateway closed a connection before its client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutReason {
    /// HTTP/2: too many stream errors in a short time, each of which aborted a request.
    Faults,
    /// No complete request within `first_request_timeout`.
    FirstRequest,
    /// HTTP/2: too many frames that carry nothing, such as PING, SETTINGS or empty DATA.
    Flood,
    /// HTTP/2: a header block with too many CONTINUATION frames, bytes or fields.
    Headers,
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
    /// HTTP/2: the client reset too many streams right after it opened them (rapid reset).
    Resets,
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
            Self::Faults => "faults",
            Self::FirstRequest => "first_request_timeout",
            Self::Flood => "flood",
            Self::Headers => "headers",
            Self::HeaderTimeout => "header_timeout",
            Self::KeepAlive => "keep_alive_timeout",
            Self::Lingering => "lingering_close",
            Self::ProxyProtocol => "proxy_protocol",
            Self::Resets => "resets",
            Self::Stream => "stream",
            Self::Shortage => "file_descriptors",
            Self::Stalled => "write_timeout",
            Self::Stopped => "stopped",
            Self::Tls => "tls",
        }
    }
}
