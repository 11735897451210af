//! Why a client's streams are reset, and its connection ended, before they are done.

/// Why a connection ends with ENHANCE_YOUR_CALM: its client did too much of what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbuseReason {
    /// Too many stream errors in a short time, each of which aborted a request (CVE-2025-8671).
    Faults,
    /// Too many frames that carry nothing, such as PING, SETTINGS or empty DATA (CVE-2019-9512, 9515,
    /// 9518).
    Flood,
    /// A header block with too many CONTINUATION frames, octets or fields (CVE-2024-27316).
    Headers,
    /// Too many streams that were reset right after they were opened (CVE-2023-44487).
    Resets,
}

impl AbuseReason {
    /// A word for metrics; also sent in GOAWAY.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Faults => "faults",
            Self::Flood => "flood",
            Self::Headers => "headers",
            Self::Resets => "resets",
        }
    }
}

/// Why a stream was reset although neither the request nor the response was in error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// The client was still sending its request
    /// [`lingering_close`](super::Http2Server::lingering_close) after the response.
    Lingering,
    /// The client opened more streams than
    /// [`max_concurrent_streams`](super::Http2Settings::max_concurrent_streams).
    MaxStreams,
    /// Nothing could be sent for [`write_timeout`](super::Http2Server::write_timeout).
    Stalled,
}
