//! Errors of connections to Redis.

use std::io;

use redis::ConnectionAddr;
use ssegate_resp::ProtocolError;

use super::location::ShownAddress;

/// An error of a connection to Redis. Its text is for people, its [`SourceErrorKind`] for metrics.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("cannot resolve {0}")]
    Resolve(String),
    #[error("no reply within {0} seconds")]
    Timeout(u64),
    #[error("TLS handshake failed: {0}{hint}", hint = not_tls_hint(.0))]
    Tls(io::Error),
    #[error("no TLS handshake within {0} seconds; {NOT_TLS}")]
    TlsTimeout(u64),
    #[error("{0}, before any reply; does this port speak TLS? Then write rediss:// in redis.url")]
    NoReply(Box<Self>),
    #[error("Redis refused: {0}{hint}", hint = login_hint(.0))]
    Refused(String),
    #[error("Redis refused {what}: {message}{hint}", hint = login_hint(.message))]
    RefusedCommand { what: String, message: String },
    #[error("Redis closed the connection")]
    Closed,
    #[error("connection lost: {0}")]
    ConnectionLost(io::Error),
    #[error("RESP protocol error: {0}")]
    Protocol(#[from] ProtocolError),
    #[error("unexpected reply: {0}")]
    Unexpected(String),
    #[error("Redis no longer has our subscriptions: {0}")]
    SubscriptionsLost(String),
    #[error("no data for {0} seconds, and no reply to PING")]
    Unresponsive(u64),
    /// What it refuses to a client that has not logged in is not about the password of the master.
    #[error("the sentinel refused: {0}{hint}", hint = sentinel_login_hint(.0))]
    SentinelRefused(String),
    #[error(
        "this is a sentinel; write redis+sentinel://host:26379/NAME-OF-THE-MASTER in redis.url"
    )]
    IsSentinel,
    #[error(
        "this is a Redis server, and no sentinel; name the ports of the sentinels in redis.url, or write redis://"
    )]
    NoSentinelThere,
    #[error("this is no node of a Redis Cluster; write redis:// in redis.url")]
    NoCluster,
    #[error("no sentinel can be used: {0}")]
    NoSentinel(String),
    #[error("no sentinel knows a master {0:?}; check the name in redis.url")]
    UnknownMaster(String),
    /// What a sentinel replied has no address in it.
    #[error("it replied with no address of a master")]
    NoAddress,
    /// A node of a Cluster does not serve the slot of a key, or not now.
    #[error("the slot is not served there: {0}")]
    Redirected(String),
    /// A Cluster in which no node owns anything, or whose nodes do not say who does.
    #[error(
        "no node of the Cluster owns a slot; see cluster_state and cluster_slots_assigned in CLUSTER INFO"
    )]
    NoSlots,
    #[error("{0} is not a master, though sentinels name it")]
    NotMaster(String),
    #[error("the master is now {0}")]
    MasterMoved(String),
    /// At a server whose address is not configured.
    #[error("{0}: {1}")]
    AtServer(String, Box<Self>),
}

/// Error kinds, for the `kind` label of metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceErrorKind {
    /// Redis cannot be reached, or the connection was lost.
    Connection,
    /// Authentication failed: wrong or missing user or password.
    Auth,
    /// An ACL rule denies the command, the key or the channel.
    Permission,
    /// Redis is loading its data, has no primary, runs a script, or has too many clients.
    Busy,
    /// Invalid RESP, or a reply that does not fit its command.
    Protocol,
    /// No reply in time, or a silent connection.
    Timeout,
    /// The self-check found that Redis does not have our subscriptions.
    Deaf,
    /// The TLS handshake failed, or the certificate is not trusted.
    Tls,
    /// The master is another server now, or none.
    Failover,
    /// Any other error reply.
    Refused,
}

impl SourceErrorKind {
    /// All kinds, so that a metric can export each of them from the start.
    pub const ALL: [Self; 10] = [
        Self::Connection,
        Self::Auth,
        Self::Permission,
        Self::Busy,
        Self::Protocol,
        Self::Timeout,
        Self::Deaf,
        Self::Tls,
        Self::Failover,
        Self::Refused,
    ];

    /// The label value of this kind.
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
            Self::Failover => "failover",
            Self::Refused => "refused",
        }
    }
}

impl SourceError {
    /// Adds what was refused: Redis does not say which channel or key an error reply is about.
    pub(super) fn for_command(self, what: impl Into<String>) -> Self {
        match self {
            Self::Refused(message) => Self::RefusedCommand { what: what.into(), message },
            other => other,
        }
    }

    /// Adds the address of the server, unless it is said already.
    pub(super) fn at_server(self, address: &ConnectionAddr) -> Self {
        match self {
            said @ (Self::NotMaster(_) | Self::MasterMoved(_) | Self::AtServer(..)) => said,
            error => Self::AtServer(ShownAddress(address).to_string(), Box::new(error)),
        }
    }

    /// The error without the address of the server, for who names that.
    pub(super) fn without_server(self) -> Self {
        match self {
            Self::AtServer(_, error) => *error,
            error => error,
        }
    }

    /// Whether the server does not let us use a command: an ACL rule denies it to the user, or it is not there, as with
    /// `rename-command` and at managed services.
    pub(super) fn is_unavailable(&self) -> bool {
        match self {
            Self::Refused(message) | Self::RefusedCommand { message, .. } => {
                refusal_kind(message) == SourceErrorKind::Permission || is_unknown_command(message)
            }
            Self::AtServer(_, error) => error.is_unavailable(),
            _ => false,
        }
    }

    pub(super) fn kind(&self) -> SourceErrorKind {
        match self {
            Self::Connect(_)
            | Self::Resolve(_)
            | Self::Closed
            | Self::ConnectionLost(_)
            | Self::NoSentinel(_) => SourceErrorKind::Connection,
            Self::UnknownMaster(_) | Self::IsSentinel | Self::NoSentinelThere | Self::NoCluster => {
                SourceErrorKind::Refused
            }
            Self::NotMaster(_) | Self::MasterMoved(_) | Self::Redirected(_) | Self::NoSlots => {
                SourceErrorKind::Failover
            }
            Self::NoReply(error) | Self::AtServer(_, error) => error.kind(),
            Self::Timeout(_) | Self::TlsTimeout(_) | Self::Unresponsive(_) => {
                SourceErrorKind::Timeout
            }
            Self::Tls(_) => SourceErrorKind::Tls,
            Self::Refused(message)
            | Self::SentinelRefused(message)
            | Self::RefusedCommand { message, .. } => refusal_kind(message),
            Self::SubscriptionsLost(_) => SourceErrorKind::Deaf,
            Self::Protocol(_) | Self::Unexpected(_) | Self::NoAddress => SourceErrorKind::Protocol,
        }
    }
}

/// Redis without TLS waits for the end of what it takes for a command.
const NOT_TLS: &str = "does this port speak TLS? If not, write redis:// in redis.url";

fn not_tls_hint(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        // The first bytes are not a TLS record.
        Some(rustls::Error::InvalidMessage(_)) => format!("; {NOT_TLS}"),
        _ => String::new(),
    }
}

/// What to do about a refusal whose text is for those who write a client.
fn login_hint(message: &str) -> &'static str {
    match message.split(' ').next().unwrap_or_default() {
        "NOAUTH" => "; put the password in redis.url: redis://:password@host:6379",
        "WRONGPASS" => "; check the user and the password in redis.url",
        _ => "",
    }
}

/// The same, where a sentinel refuses.
fn sentinel_login_hint(message: &str) -> &'static str {
    match message.split(' ').next().unwrap_or_default() {
        "NOAUTH" => {
            "; put the password of the sentinels in redis.url: ?sentinel_password=…; or is this a Redis server, and no sentinel?"
        }
        "WRONGPASS" => "; check sentinel_username and sentinel_password in redis.url",
        _ => "",
    }
}

/// Names what was refused, and how many others are refused as well.
pub(super) fn with_others(what: String, others: usize) -> String {
    match others {
        0 => what,
        _ => format!("{what}, and {others} more"),
    }
}

/// `ERR unknown command 'X'`, `ERR unknown subcommand 'X'` of Redis, and what services say in their place.
fn is_unknown_command(message: &str) -> bool {
    const SAID: [&str; 5] =
        ["unknown command", "unknown subcommand", "not allowed", "not available", "not supported"];
    let message = message.to_ascii_lowercase();
    message.starts_with("err ") && SAID.iter().any(|said| message.contains(said))
}

/// The first word of an error reply names its kind
/// (<https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors>).
fn refusal_kind(message: &str) -> SourceErrorKind {
    match message.split(' ').next().unwrap_or_default() {
        "WRONGPASS" | "NOAUTH" => SourceErrorKind::Auth,
        "NOPERM" => SourceErrorKind::Permission,
        "LOADING" | "MASTERDOWN" | "BUSY" => SourceErrorKind::Busy,
        "ERR" if message.contains("max number of clients") => SourceErrorKind::Busy,
        // What a script calls.
        "ERR" if message.contains("The user executing the script can't") => {
            SourceErrorKind::Permission
        }
        "NOPROTO" => SourceErrorKind::Protocol,
        _ => SourceErrorKind::Refused,
    }
}
