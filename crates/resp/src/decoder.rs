//! Decodes values incrementally.
//!
//! Owns the state of a value that has not completely arrived: the open aggregates, and the string
//! that is being collected or skipped. What was decoded is removed from the buffer at once, so no
//! byte is scanned twice, and the buffer never has to grow: between two reads it holds at most an
//! incomplete line.
//!
//! A string that is completely in the buffer is split off without a copy. One that arrives in
//! several reads is collected in an allocation of its own: a 16 MiB message costs a copy, but the
//! read buffer stays as small as its owner made it, and no small message that follows keeps 16 MiB
//! alive. A small message keeps one read buffer alive.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use super::aggregate::{Aggregate, AggregateKind};
use super::string::{self, PartialString, StringKind};
use super::{Limits, ProtocolError, Value, number};

/// Decodes values of RESP2 and RESP3.
///
/// Not to be used after an error.
#[derive(Debug)]
pub struct ValueDecoder {
    limits: Limits,
    /// The string of which only a part has arrived.
    string: Option<PartialString>,
    /// The aggregates around it, the outermost first.
    open: Vec<Aggregate>,
    /// Bytes of an incomplete line that were searched for its end.
    scanned: usize,
    /// Elements that the current value may still have.
    elements_left: usize,
    /// Bytes that its strings may still have.
    bytes_left: usize,
}

/// What the next bytes decode to.
enum DecodedItem {
    Value(Value),
    Opening(Aggregate),
}

impl ValueDecoder {
    /// Creates a decoder with these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            string: None,
            open: Vec::new(),
            scanned: 0,
            elements_left: limits.max_elements,
            bytes_left: limits.max_value_bytes(),
        }
    }

    /// Removes the next value from `buf` and returns it; `None` if it has not completely arrived.
    ///
    /// Call it until it returns `None`, then append more bytes to `buf`.
    ///
    /// # Errors
    /// The bytes are not valid RESP, or exceed a limit.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Value>, ProtocolError> {
        while let Some(item) = self.next_item(buf)? {
            let complete = match item {
                DecodedItem::Value(value) => self.attach(value),
                DecodedItem::Opening(aggregate) => self.open(aggregate)?,
            };
            if complete.is_some() {
                self.elements_left = self.limits.max_elements;
                self.bytes_left = self.limits.max_value_bytes();
                return Ok(complete);
            }
        }
        Ok(None)
    }

    /// Memory held for an incomplete value, in bytes, not counting the caller's buffer.
    pub fn held_bytes(&self) -> usize {
        let string = self.string.as_ref().map_or(0, PartialString::held_bytes);
        self.open.iter().map(Aggregate::held_bytes).sum::<usize>() + string
    }

    /// Whether the next byte starts a value: no part of it has been removed from the buffer.
    pub fn is_between_values(&self) -> bool {
        self.string.is_none() && self.open.is_empty()
    }

    fn next_item(&mut self, buf: &mut BytesMut) -> Result<Option<DecodedItem>, ProtocolError> {
        if self.string.is_some() {
            return Ok(self.resume_string(buf)?.map(DecodedItem::Value));
        }
        let Some((kind, end)) = self.line(buf)? else { return Ok(None) };
        match kind {
            b'$' => self.begin_string(StringKind::Bulk, end, buf),
            b'!' => self.begin_string(StringKind::Error, end, buf),
            b'=' => self.begin_string(StringKind::Verbatim, end, buf),
            b'+' => Ok(Some(DecodedItem::Value(Value::Simple(self.take_text(end, buf))))),
            b'-' => Ok(Some(DecodedItem::Value(Value::Error(self.take_text(end, buf))))),
            b'(' => Ok(Some(DecodedItem::Value(self.big_number(end, buf)?))),
            _ => {
                let item = parse_line(kind, &buf[1..end])?;
                skip_line(end, buf);
                Ok(Some(item))
            }
        }
    }

    /// Finds the first line of `buf`: its type byte, and where its text ends.
    fn line(&mut self, buf: &[u8]) -> Result<Option<(u8, usize)>, ProtocolError> {
        let Some(found) = memchr(b'\n', &buf[self.scanned..]) else {
            if buf.len() > self.limits.max_line_bytes {
                return Err(ProtocolError::LineTooLong);
            }
            self.scanned = buf.len();
            return Ok(None);
        };
        let line = &buf[..self.scanned + found];
        self.scanned = 0;
        match line {
            [.., b'\r'] if line.len() > self.limits.max_line_bytes => {
                Err(ProtocolError::LineTooLong)
            }
            [kind, .., b'\r'] => Ok(Some((*kind, line.len() - 1))),
            _ => Err(ProtocolError::MissingLineEnd),
        }
    }

    /// Removes the line that ends at `end`, and returns its text without the type byte.
    ///
    /// A copy, because these texts are short and rare, and are mostly kept (an error, a status).
    fn take_text(&mut self, end: usize, buf: &mut BytesMut) -> Bytes {
        let text = Bytes::copy_from_slice(&buf[1..end]);
        self.bytes_left = self.bytes_left.saturating_sub(text.len());
        skip_line(end, buf);
        text
    }

    fn big_number(&mut self, end: usize, buf: &mut BytesMut) -> Result<Value, ProtocolError> {
        if !number::is_decimal(&buf[1..end]) {
            return Err(ProtocolError::InvalidScalar("big number"));
        }
        Ok(Value::BigNumber(self.take_text(end, buf)))
    }

    fn begin_string(
        &mut self,
        kind: StringKind,
        end: usize,
        buf: &mut BytesMut,
    ) -> Result<Option<DecodedItem>, ProtocolError> {
        let announced = number::integer(&buf[1..end]).ok_or(ProtocolError::InvalidLength)?;
        skip_line(end, buf);
        if announced == -1 {
            return Ok(Some(DecodedItem::Value(Value::Null)));
        }
        let len = u64::try_from(announced).map_err(|_| ProtocolError::InvalidLength)?;
        if let Some(kept) = self.within_limits(len) {
            self.bytes_left -= kept;
            if let Some(value) = string::split_off(kind, kept, buf)? {
                return Ok(Some(DecodedItem::Value(value)));
            }
            self.string = Some(PartialString::collected(kind, len));
        } else {
            self.string = Some(PartialString::skipped(kind, len));
        }
        Ok(self.resume_string(buf)?.map(DecodedItem::Value))
    }

    /// Returns `len` if a string of that length is within the limits.
    fn within_limits(&self, len: u64) -> Option<usize> {
        let bound = self.limits.max_bulk_bytes.min(self.bytes_left);
        usize::try_from(len).ok().filter(|len| *len <= bound)
    }

    fn resume_string(&mut self, buf: &mut BytesMut) -> Result<Option<Value>, ProtocolError> {
        let Some(string) = &mut self.string else { return Ok(None) };
        if !string.resume(buf)? {
            return Ok(None);
        }
        self.string.take().map(PartialString::finish).transpose()
    }

    /// Starts an aggregate. Returns it if it is empty and not nested.
    fn open(&mut self, aggregate: Aggregate) -> Result<Option<Value>, ProtocolError> {
        if aggregate.is_complete() {
            return Ok(aggregate.close().and_then(|value| self.attach(value)));
        }
        if self.open.len() >= self.limits.max_depth {
            return Err(ProtocolError::TooDeep);
        }
        self.elements_left = self
            .elements_left
            .checked_sub(aggregate.missing())
            .ok_or(ProtocolError::TooManyElements)?;
        self.open.push(aggregate);
        Ok(None)
    }

    /// Adds `value` to the aggregate around it. Returns a value that is complete and not nested.
    fn attach(&mut self, mut value: Value) -> Option<Value> {
        loop {
            let Some(parent) = self.open.last_mut() else { return Some(value) };
            parent.push(value);
            if !parent.is_complete() {
                return None;
            }
            value = self.open.pop()?.close()?;
        }
    }
}

/// Removes the line whose text ends at `end` from `buf`.
fn skip_line(end: usize, buf: &mut BytesMut) {
    buf.advance(end + b"\r\n".len());
}

/// Decodes a line without a text to keep.
fn parse_line(kind: u8, text: &[u8]) -> Result<DecodedItem, ProtocolError> {
    let Some(aggregate) = AggregateKind::from_byte(kind) else {
        return scalar(kind, text).map(DecodedItem::Value);
    };
    match aggregate.len(text)? {
        Some(len) => Ok(DecodedItem::Opening(Aggregate::new(aggregate, len))),
        None => Ok(DecodedItem::Value(Value::Null)),
    }
}

fn scalar(kind: u8, text: &[u8]) -> Result<Value, ProtocolError> {
    let (value, name) = match kind {
        b':' => (number::integer(text).map(Value::Integer), "integer"),
        b',' => (number::double(text).map(Value::Double), "double"),
        b'_' => (text.is_empty().then_some(Value::Null), "null"),
        b'#' => (boolean(text).map(Value::Boolean), "boolean"),
        kind => return Err(ProtocolError::UnknownType(kind)),
    };
    value.ok_or(ProtocolError::InvalidScalar(name))
}

fn boolean(text: &[u8]) -> Option<bool> {
    match text {
        b"t" => Some(true),
        b"f" => Some(false),
        _ => None,
    }
}
