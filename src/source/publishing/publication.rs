//! What is published, and what became of it.

use std::time::Duration;

use bytes::Bytes;
use ssegate_hub::ChannelName;

/// One message to one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The channel, or the log, by its name in Redis.
    pub channel: ChannelName,
    /// How it is published.
    pub kind: PublicationKind,
}

impl Publication {
    /// Whether it is an entry of a log, which is a key.
    pub fn is_entry(&self) -> bool {
        matches!(self.kind, PublicationKind::Entry { .. })
    }

    /// Whether it belongs to one slot of a Cluster, as an entry or a message of a sharded channel does.
    pub fn has_slot(&self) -> bool {
        !matches!(self.kind, PublicationKind::Message(_))
    }
}

/// How a message is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicationKind {
    /// `PUBLISH` of this payload.
    Message(Bytes),
    /// `SPUBLISH` of this payload.
    Sharded(Bytes),
    /// `XADD` of an entry with these fields.
    Entry {
        /// The fields, in order.
        fields: Vec<(&'static str, Bytes)>,
        /// About how many entries the log keeps (`MAXLEN ~`); `None`: all.
        max_entries: Option<usize>,
    },
}

/// What Redis replied to one publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The number of subscribers that received a message; a gateway is one.
    Receivers(u64),
    /// The id of an entry.
    Entry(String),
    /// The error with which Redis refused it: it is not published.
    Refused(String),
}

/// What became of the publications of a request: a receipt for each, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicationOutcome {
    /// The receipts.
    pub receipts: Vec<Receipt>,
    /// Whether they are those of an earlier request with the same [`IdempotencyKey`].
    pub is_repeated: bool,
}

/// What became of a job.
pub type JobResult = Result<PublicationOutcome, NotPublished>;

/// The `Idempotency-Key` of a request: publications with the same key are made once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The key in Redis under which the result is kept.
    pub name: String,
    /// A hash of what is published, in [`Self::FINGERPRINT_BYTES`] characters: the same key for something
    /// else is a mistake of the client.
    pub fingerprint: String,
}

impl IdempotencyKey {
    /// How long the result of the first request is kept.
    pub const KEPT_FOR: Duration = Duration::from_secs(600);
    /// The length of [`Self::fingerprint`].
    pub const FINGERPRINT_BYTES: usize = 64;
}

/// Why nothing is known to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPublished {
    /// Redis cannot be reached. Nothing was sent.
    #[error("Redis cannot be reached now: nothing was published")]
    Away,
    /// Too much waits to be published. Nothing was sent.
    #[error("too many messages wait to be published: nothing was published")]
    Busy,
    /// The gateway is shutting down. Nothing was sent.
    #[error("the gateway is shutting down: nothing was published")]
    Stopping,
    /// The connection was lost between the command and its reply.
    #[error("the connection to Redis was lost: the message may have been published")]
    Lost,
    /// Redis did not reply in time.
    #[error("no reply from Redis: the message may have been published")]
    TimedOut,
    /// The key has been used to publish something else.
    #[error("this Idempotency-Key was used for another message")]
    KeyReused,
}
