//! Commands about streams whose replies are pending.

use std::fmt;

use redis::ConnectionAddr;
use ssegate_hub::ChannelName;

use super::fork_search::ForkSearch;
use super::info::StreamInfo;
use super::range::RangeRead;

/// A command whose reply is pending, in the order of sending.
#[derive(Debug)]
pub(super) enum StreamCommand {
    /// `XINFO STREAM` for a followed stream.
    Info(ChannelName),
    /// `XREAD`, to test whether the stream may be read.
    Probe(ChannelName),
    /// A mark: the commands before it were sent when the connection was opened.
    Initialized,
    Ping,
    /// `CLIENT UNBLOCK`, at this node of a Cluster.
    Unblock(Option<ConnectionAddr>),
    Range(RangeRead),
    /// `XINFO STREAM` for a range read.
    RangeInfo(RangeRead),
    /// `XRANGE` or `XREVRANGE`, to test whether a followed stream is still the same.
    Search(StreamSearch),
    /// `XREAD` that does not block, for a polled stream; with the number of its assignment.
    Poll(ChannelName, u64),
}

/// A search in a followed stream.
#[derive(Debug)]
pub(super) struct StreamSearch {
    pub(super) name: ChannelName,
    /// What Redis reported about it before the search.
    pub(super) info: StreamInfo,
    /// It has not been read on this connection yet.
    pub(super) is_new_connection: bool,
    pub(super) fork: ForkSearch,
}

impl StreamCommand {
    /// The stream of the command.
    pub(super) fn stream(&self) -> Option<&ChannelName> {
        match self {
            Self::Info(name) | Self::Probe(name) | Self::Poll(name, _) => Some(name),
            Self::Range(range) | Self::RangeInfo(range) => Some(&range.call.log),
            Self::Search(search) => Some(&search.name),
            Self::Initialized | Self::Ping | Self::Unblock(_) => None,
        }
    }
}

/// The command and the stream, for error messages: Redis does not say which stream it means.
impl fmt::Display for StreamCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Info(name) => write!(f, "XINFO of the stream {name:?}"),
            Self::Probe(name) | Self::Poll(name, _) => write!(f, "XREAD of the stream {name:?}"),
            Self::RangeInfo(range) => write!(f, "XINFO of the stream {:?}", range.call.log),
            Self::Range(range) => {
                write!(f, "{} of the stream {:?}", range.command().0, range.call.log)
            }
            Self::Search(search) => {
                write!(
                    f,
                    "{} of the stream {:?}",
                    search.fork.command(search.name.as_str()).0,
                    search.name
                )
            }
            Self::Initialized | Self::Ping => f.write_str("PING"),
            Self::Unblock(_) => f.write_str("CLIENT UNBLOCK"),
        }
    }
}
