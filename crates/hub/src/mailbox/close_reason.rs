//! Why streams end, and when their clients come back.

use std::time::Duration;

/// Why a stream ended. Not an error: each is an ordinary end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// It was open for the `max_age` of its route.
    Aged,
    /// The client closed it.
    ClientLeft,
    /// The gateway is stopping.
    Drained,
    /// The credential with which it was opened has expired.
    Expired,
    /// Its queue was full: the client reads more slowly than events come.
    Lagged,
    /// Its queue was one of the largest when all queues together were over `queue_memory`.
    QueueMemory,
    /// It needs one more channel than the gateway may follow.
    Refused,
    /// Its client may not receive events any more: its credential was revoked, or its login has ended.
    Revoked,
    /// Its source has ended, and no more events come.
    SourceEnded,
    /// Nothing could be written for the `write_timeout`.
    Stalled,
}

impl CloseReason {
    /// Every reason, for a metric that has them all from the start.
    pub const ALL: [Self; 10] = [
        Self::Aged,
        Self::ClientLeft,
        Self::Drained,
        Self::Expired,
        Self::Lagged,
        Self::QueueMemory,
        Self::Refused,
        Self::Revoked,
        Self::SourceEnded,
        Self::Stalled,
    ];

    /// The reasons for which a stream is closed because its client is slow.
    pub const SLOW: [Self; 3] = [Self::Lagged, Self::Stalled, Self::QueueMemory];

    /// The word for it in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aged => "max_stream_age",
            Self::ClientLeft => "client_left",
            Self::Drained => "drained",
            Self::Expired => "expired",
            Self::Lagged => "lagged",
            Self::QueueMemory => "queue_memory",
            Self::Refused => "refused",
            Self::Revoked => "revoked",
            Self::SourceEnded => "source_ended",
            Self::Stalled => "stalled",
        }
    }
}

/// A wait between once and twice `base`, so that clients closed together do not come back together.
pub fn jittered(base: Duration) -> Duration {
    base.mul_f64(1.0 + fastrand::f64())
}
