//! What a kept stream has sent: a log that one writes and any number of readers follow, each at its own pace.
//!
//! A place in it is the offset of a byte in the stream. An event is known by its number, from 1 on, and by the id that
//! the backend gave it. The log itself is a [`MemoryLog`](super::memory_log::MemoryLog). If all gateways share the
//! stream, Redis gets its content, and other gateways have a copy.

use bytes::Bytes;

/// Where a reader begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::service) enum Position {
    /// With the first byte.
    Start,
    /// Behind the event with this number; 0 is [`Self::Start`].
    After(u64),
    /// Behind the event with this id of the backend.
    AfterOwn(Vec<u8>),
}

/// Where a [`Position`] is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum LogPlace {
    /// The events after the position begin here.
    At(u64),
    /// The stream has ended, and no event follows. The rest of an incomplete event begins here.
    AllRead(u64),
    /// The events after the position are not kept any more.
    Behind,
    /// No event has this number or id.
    Unknown,
}

/// The end of an event, or an id, in bytes that are appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::service) enum LogEdge {
    /// An event ends at this offset in them. The backend gave it this id.
    Event { end: usize, id: Option<Box<[u8]>> },
    /// The last event is one byte longer.
    Longer,
    /// The backend has set an id behind the last event.
    Id(Box<[u8]>),
}

/// How a kept stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum StreamEnd {
    /// The backend has ended it.
    Complete,
    /// It was cancelled.
    Cancelled,
    /// The backend has failed, or its stream was cut off: the rest does not exist.
    Lost,
}

/// The result of a read.
#[derive(Debug)]
pub(in crate::service) enum KeptRead {
    /// The next bytes.
    Bytes(Bytes),
    /// Nothing yet. The reader's waker is called when there is more.
    Pending,
    /// The stream has ended, and all of it was read. `is_in_event`: in the middle of an event.
    End { end: StreamEnd, is_in_event: bool },
    /// The next bytes for the reader are not kept any more.
    Behind,
}

/// Where the log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) struct LogExtent {
    /// The number of the last event that is complete; 0: none.
    pub(in crate::service) last: u64,
    /// The first byte that is there.
    pub(in crate::service) start: u64,
    /// The byte behind the last.
    pub(in crate::service) stop: u64,
    /// The number of the last event before the first byte.
    pub(in crate::service) before: u64,
    /// Whether the first byte is in the middle of an event.
    pub(in crate::service) is_torn: bool,
    /// How the stream has ended.
    pub(in crate::service) end: Option<StreamEnd>,
}

/// A reader of a log.
#[derive(Debug)]
pub(in crate::service) struct LogReader {
    /// The offset in the stream up to which it has read.
    pub(in crate::service) offset: u64,
    // The index of its waker.
    pub(in crate::service) place: usize,
}
