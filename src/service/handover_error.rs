//! Why a stream was not handed over.

use ssegate_hub::InvalidChannelName;

use crate::grip::instruct::InstructError;
use crate::route::ChannelError;

/// Why a handover failed: an error of the backend, which is logged.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandoverError {
    #[error("{0}")]
    Instruct(#[from] InstructError),
    #[error("Grip-Channel: {0}")]
    Channel(#[from] ChannelError),
    #[error("the response has a Content-Encoding, so plain-text events cannot follow its body")]
    Encoded,
}

impl HandoverError {
    /// A word for the error, by which log lines are rate-limited.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Instruct(InstructError::Hold(_)) => "hold",
            Self::Instruct(InstructError::LongPolling) => "long_polling",
            Self::Instruct(InstructError::NoChannel) => "no_channel",
            Self::Instruct(InstructError::Filter) => "filter",
            Self::Instruct(InstructError::Malformed(header)) => header,
            Self::Channel(ChannelError::TooMany(_)) => "channels",
            Self::Channel(ChannelError::Invalid(InvalidChannelName::Reserved)) => "reserved",
            Self::Channel(ChannelError::OwnName) => "own_name",
            Self::Channel(ChannelError::Invalid(InvalidChannelName::TooLong)) => "long_name",
            Self::Channel(_) => "channel",
            Self::Encoded => "encoded",
        }
    }
}
