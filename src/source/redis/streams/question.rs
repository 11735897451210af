//! Commands about streams whose replies are pending.

use std::fmt;

use super::past::Past;
use crate::event::ChannelName;

/// A command whose reply is pending, in the order of sending.
#[derive(Debug)]
pub(super) enum Question {
    /// `XINFO STREAM` for a followed stream.
    Stream(ChannelName),
    /// `XREAD`, to find out whether the stream may be read.
    Readable(ChannelName),
    /// A mark: the commands before it were sent when the connection was opened.
    Begun,
    Pong,
    Woken,
    Past(Past),
    /// `XINFO STREAM` for a range read.
    PastInfo(Past),
}

/// The command and the stream, for error messages: Redis does not say which stream it means.
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
