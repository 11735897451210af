//! What goes wrong on the way to Redis.

use std::io;

use crate::source::resp::ProtocolError;

/// A failure: what it was, for people, and its kind, for the metrics.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("cannot resolve {0}")]
    Resolve(String),
    #[error("no answer within {0} seconds")]
    Timeout(u64),
    #[error("TLS failed: {0}")]
    Tls(io::Error),
    #[error("Redis refused: {0}")]
    Refused(String),
    #[error("Redis refused {what}: {message}")]
    RefusedTo { what: String, message: String },
    #[error("Redis closed the connection")]
    Closed,
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("not RESP: {0}")]
    Protocol(#[from] ProtocolError),
    #[error("an answer that was not asked for: {0}")]
    Unexpected(String),
    #[error("Redis has forgotten that we listen: {0}")]
    Deaf(String),
    #[error("nothing was heard for {0} seconds, not even the answer to a PING")]
    Unresponsive(u64),
}

/// Kinds of failure, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceErrorKind {
    /// Nobody answers there, or no longer.
    Connection,
    /// Wrong user or password.
    Auth,
    /// Allowed in, but not to do this.
    Permission,
    /// Redis is loading its data, or has too many clients.
    Busy,
    /// Bytes or answers that make no sense.
    Protocol,
    /// Silence.
    Timeout,
    /// The self-check has found that subscriptions are not what we believe.
    Deaf,
    /// The certificate, or the handshake.
    Tls,
    /// Any other refusal.
    Refused,
}

impl SourceErrorKind {
    /// Every kind, for a metric that shows them all from the start.
    pub const ALL: [Self; 9] = [
        Self::Connection,
        Self::Auth,
        Self::Permission,
        Self::Busy,
        Self::Protocol,
        Self::Timeout,
        Self::Deaf,
        Self::Tls,
        Self::Refused,
    ];

    /// The word in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Auth => "auth",
            Self::Permission => "permission",
            Self::Busy => "busy",
            Self::Protocol => "protocol",
            Self::Timeout => "timeout",
            Self::Deaf => "deaf",
            Self::Tls => "tls",
            Self::Refused => "refused",
        }
    }
}

impl SourceError {
    /// The same with what was refused: Redis does not say which channel or key it means.
    pub(super) fn to(self, what: impl Into<String>) -> Self {
        match self {
            Self::Refused(message) => Self::RefusedTo { what: what.into(), message },
            other => other,
        }
    }

    pub(super) fn kind(&self) -> SourceErrorKind {
        match self {
            Self::Connect(_) | Self::Resolve(_) | Self::Closed | Self::Broken(_) => {
                SourceErrorKind::Connection
            }
            Self::Timeout(_) | Self::Unresponsive(_) => SourceErrorKind::Timeout,
            Self::Tls(_) => SourceErrorKind::Tls,
            Self::Refused(message) | Self::RefusedTo { message, .. } => kind_of_refusal(message),
            Self::Deaf(_) => SourceErrorKind::Deaf,
            Self::Protocol(_) | Self::Unexpected(_) => SourceErrorKind::Protocol,
        }
    }
}

/// What was refused, and that so many others are as well.
pub(super) fn with_others(what: String, others: usize) -> String {
    match others {
        0 => what,
        _ => format!("{what}, and {others} more"),
    }
}

/// The first word of an error reply names its kind
/// (<https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors>).
fn kind_of_refusal(message: &str) -> SourceErrorKind {
    match message.split(' ').next().unwrap_or_default() {
        "WRONGPASS" | "NOAUTH" => SourceErrorKind::Auth,
        "NOPERM" => SourceErrorKind::Permission,
        "LOADING" | "MASTERDOWN" | "BUSY" => SourceErrorKind::Busy,
        "ERR" if message.contains("max number of clients") => SourceErrorKind::Busy,
        "NOPROTO" => SourceErrorKind::Protocol,
        _ => SourceErrorKind::Refused,
    }
}
