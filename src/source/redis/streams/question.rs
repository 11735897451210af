//! What is asked of Redis about streams.

use std::fmt;

use super::past::Past;
use crate::event::ChannelName;

/// What an answer is awaited for, in the order in which it was asked.
#[derive(Debug)]
pub(super) enum Question {
    /// What a stream is now.
    Stream(ChannelName),
    /// Whether it may be read.
    Readable(ChannelName),
    /// Everything before this was asked at the beginning.
    Begun,
    Pong,
    Woken,
    Past(Past),
    /// What a stream is, for a piece of its past.
    PastInfo(Past),
}

/// The command and the stream, for an error: Redis does not say which stream it means.
impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(name) => write!(f, "XINFO of the stream {name:?}"),
            Self::Readable(name) => write!(f, "XREAD of the stream {name:?}"),
            Self::PastInfo(past) => write!(f, "XINFO of the stream {:?}", past.call.log),
            Self::Past(past) => write!(f, "{} of the stream {:?}", past.command().0, past.call.log),
            Self::Begun | Self::Pong => f.write_str("PING"),
            Self::Woken => f.write_str("CLIENT UNBLOCK"),
        }
    }
}
