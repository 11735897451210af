//! Entries as replies, within a bound.

use bytes::Bytes;
use ssegate_resp::{RespVersion, Value};

use super::id::StreamId;
use super::stream::{BusStream, StreamFields};

/// How many bytes of entries the replies to one command, or to all commands of one transaction, may have.
///
/// As many as all streams together: only commands that read the same entries several times can ask for more.
/// Without this, a short command that names a stream many times would get a reply of any length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyAllowance {
    left: usize,
    is_untouched: bool,
}

impl ReplyAllowance {
    /// Allows `bytes`, or one entry that is larger.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { left: bytes, is_untouched: true }
    }

    /// Takes the share of an entry. Returns whether there was enough.
    pub(crate) fn take(&mut self, fields: &StreamFields) -> bool {
        let bytes = fields.held_bytes();
        let is_enough = bytes <= self.left || self.is_untouched;
        if is_enough {
            (self.left, self.is_untouched) = (self.left.saturating_sub(bytes), false);
        }
        is_enough
    }
}

/// An entry: its id, then its fields.
pub(crate) fn entry((id, fields): (StreamId, &StreamFields)) -> Value {
    let words = fields.words().iter().cloned().map(Value::Bulk);
    Value::Array(vec![id_text(id), Value::Array(words.collect())])
}

/// An id, as a string.
pub(crate) fn id_text(id: StreamId) -> Value {
    Value::Bulk(id.to_string().into())
}

/// The entries after `after`: as many as are wanted, and allowed.
pub(crate) fn entries_after(
    stream: &BusStream,
    after: StreamId,
    count: usize,
    allowance: &mut ReplyAllowance,
) -> Vec<Value> {
    let Some(start) = after.next() else { return Vec::new() };
    let wanted = stream.range(start, StreamId::MAX).take(count);
    wanted.take_while(|(_, fields)| allowance.take(fields)).map(entry).collect()
}

/// The reply to `XREAD`: the streams with their entries. A map, in RESP2 an array of pairs.
pub(crate) fn read_streams(streams: Vec<(Bytes, Vec<Value>)>, protocol: RespVersion) -> Value {
    let pairs =
        streams.into_iter().map(|(name, entries)| (Value::Bulk(name), Value::Array(entries)));
    match protocol {
        RespVersion::Resp2 => {
            Value::Array(pairs.map(|(name, entries)| Value::Array(vec![name, entries])).collect())
        }
        RespVersion::Resp3 => Value::Map(pairs.collect()),
    }
}
