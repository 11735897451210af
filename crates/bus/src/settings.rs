//! The limits of the bus.

/// The limits of the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusSettings {
    /// The longest message, in bytes. A longer one is discarded while it is read; its publisher
    /// gets an error, and outlets its length.
    pub max_event_bytes: usize,
    /// Open connections, at most. Further ones get an error and are closed.
    pub max_sessions: usize,
    /// Channels and patterns that all connections together may subscribe to. Subscriptions of
    /// outlets are not counted.
    pub max_subscriptions: usize,
    /// Bytes that may be queued for one connection; a subscriber over this limit is disconnected. A
    /// single message always fits. The default is 8 MiB, the soft limit of
    /// `client-output-buffer-limit pubsub` in Redis
    /// (<https://redis.io/docs/latest/develop/reference/clients/#output-buffer-limits>).
    pub max_queued_bytes: usize,
    /// Bytes that all connections together may hold in incomplete commands, output queues and
    /// names. Over this limit, the connection that has been idle for longest (nothing read or
    /// written) is closed.
    pub max_memory: usize,
    /// Bytes that all streams together may hold: names, entries, and what it takes to find them. While
    /// they do, `XADD` is refused with the error of a Redis whose memory is used up.
    pub max_stream_bytes: usize,
}

impl BusSettings {
    /// The longest name of a channel or pattern, in bytes.
    pub const MAX_NAME_BYTES: usize = 1024;
    /// Connections that hold less than this are not closed when memory runs out, in bytes.
    pub(crate) const SMALL: usize = 64 << 10;

    /// The lowest [`max_memory`](Self::max_memory) that admits one message of the maximum length:
    /// the message itself, and the rest of its command.
    pub fn least_memory(max_event_bytes: usize) -> usize {
        max_event_bytes.saturating_add(2 << 20)
    }
}

impl Default for BusSettings {
    fn default() -> Self {
        Self {
            max_event_bytes: 16 << 20,
            max_sessions: 1000,
            max_subscriptions: 100_000,
            max_queued_bytes: 8 << 20,
            max_memory: 64 << 20,
            max_stream_bytes: 32 << 20,
        }
    }
}
