//! What a frame is encoded from.

use bytes::Bytes;

/// An event to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The SSE `event` field. With `None`, a browser dispatches the event as `message`.
    pub name: Option<Box<str>>,
    /// The SSE `data` field before it is split into lines; any bytes.
    pub data: Bytes,
    /// The publisher's own id, used only where the route keeps no history. At most
    /// [`Self::MAX_ID_BYTES`] long.
    pub id: Option<Box<str>>,
    /// The SSE `retry` field, in milliseconds.
    pub retry: Option<u64>,
}

impl Event {
    /// The longest id that a publisher may set, in bytes: clients send it back in the
    /// `Last-Event-ID` header, beside all other headers.
    pub const MAX_ID_BYTES: usize = 1024;
}
