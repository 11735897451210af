//! Why the channels of a request are rejected.

use ssegate_hub::InvalidChannelName;

use super::parameters::NotUtf8;

/// Why a request is rejected. The messages are sent in the body of the response.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The request has no channel.
    #[error("no channel given")]
    Missing,
    /// A name is not valid UTF-8 after percent-decoding.
    #[error("a channel name is not valid UTF-8")]
    NotUtf8,
    /// More channels than the route allows on one stream.
    #[error("more than {0} channels on one stream")]
    TooMany(usize),
    /// A name that no channel can have.
    #[error("{0}")]
    Invalid(InvalidChannelName),
    /// The client's credential does not allow a channel, whether or not anybody publishes to it. The reason is
    /// for the operator's log.
    #[error("not allowed")]
    NotAllowed(&'static str),
    /// A pattern where a part of the name comes from the client's credential.
    #[error("a pattern is not allowed here")]
    NoPattern,
    /// A name that gateways use among themselves.
    #[error("channel names that start with ssegate: are reserved by the gateway")]
    OwnName,
    /// A pattern that could match the channels of keyspace notifications or of Sentinel.
    #[error("the pattern also matches names that are reserved by Redis")]
    ReservedPattern,
}

impl From<NotUtf8> for ChannelError {
    fn from(_: NotUtf8) -> Self {
        Self::NotUtf8
    }
}
