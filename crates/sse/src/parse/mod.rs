//! Parses an event stream as a browser does.
//!
//! Implements WHATWG HTML §9.2.6 "Interpreting an event stream": bytes in, events out, however the
//! bytes are split. Does not know where they come from, or when to reconnect.

#[cfg(test)]
mod tests;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Event;

/// An incremental parser of one event stream, starting with its first byte.
///
/// The end of the stream needs no call: a block that no empty line has ended is discarded, as the
/// standard requires.
///
/// ```
/// use ssegate_sse::parse::{Parser, SseItem};
///
/// let mut parser = Parser::new(1 << 20);
/// let mut events = Vec::new();
/// for chunk in ["id: 7\nda", "ta: hello\n\n"] {
///     parser.feed(chunk.as_bytes(), |item| match item {
///         SseItem::Event { event, .. } => events.push(event.data),
///         other => panic!("{other:?}"),
///     });
/// }
/// assert_eq!(events, ["hello"]);
/// assert_eq!(parser.last_event_id(), "7");
/// ```
#[derive(Debug)]
pub struct Parser {
    max_event_bytes: usize,
    /// Whether a byte order mark may still follow: no line has ended yet.
    at_start: bool,
    /// Whether the last byte was a CR, to which a following LF belongs.
    after_cr: bool,
    line: PartialLine,
    block: EventBlock,
    /// The "last event ID buffer" of the standard: it outlives the block that set it.
    id: Arc<str>,
    /// The "last event ID string" of the standard: `Last-Event-ID` of the next request.
    last_event_id: Arc<str>,
}

/// What the parser emits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SseItem {
    /// A dispatched event.
    Event {
        /// The fields of its block. `data` is valid UTF-8, with LF between its lines; `id` and
        /// `retry` are set only if this block contained them.
        event: Event,
        /// `lastEventId` of the browser's event: the last event ID, which an earlier block may have
        /// set.
        last_event_id: Arc<str>,
    },
    /// The reconnection time that the server requests. It takes effect at once, whether or not its
    /// block has data.
    Retry(Duration),
    /// A comment, without the colon and one space after it, truncated at the size limit.
    Comment(String),
    /// An event over the size limit was skipped; the value is its length in bytes. Its id takes
    /// effect all the same: a client that resumed before it would only receive it again.
    TooLarge(u64),
}

impl Parser {
    /// Creates a parser for a client without a last event ID. `max_event_bytes` limits the values
    /// of one event's `data`, `event` and `id` fields together. The parser buffers about as much,
    /// or three times that if the bytes are not UTF-8.
    pub fn new(max_event_bytes: usize) -> Self {
        Self::resuming("", max_event_bytes)
    }

    /// Creates a parser for a stream that resumes after `last_event_id`.
    ///
    /// Events carry this id until the stream sets another one: browsers do so, although the
    /// standard starts each stream with an empty id.
    pub fn resuming(last_event_id: &str, max_event_bytes: usize) -> Self {
        Self {
            max_event_bytes,
            at_start: true,
            after_cr: false,
            line: PartialLine::default(),
            block: EventBlock::default(),
            id: last_event_id.into(),
            last_event_id: last_event_id.into(),
        }
    }

    /// The value of `Last-Event-ID` for the next request; if empty, the header is omitted.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// Whether the open block has a `data`, `event` or `id` field, which would become part of an
    /// event that follows. Comments and `retry` fields do not.
    pub fn is_in_event(&self) -> bool {
        self.block.has_fields
    }

    /// Parses the next bytes of the stream, and emits each item that they complete.
    pub fn feed(&mut self, mut chunk: &[u8], mut emit: impl FnMut(SseItem)) {
        if chunk.is_empty() {
            return;
        }
        if mem::take(&mut self.after_cr) {
            chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        }
        while let Some(end) = memchr::memchr2(b'\r', b'\n', chunk) {
            let (line, rest) = (&chunk[..end], &chunk[end + 1..]);
            self.after_cr = chunk[end] == b'\r' && rest.is_empty();
            chunk = match rest.strip_prefix(b"\n") {
                Some(after_lf) if chunk[end] == b'\r' => after_lf,
                _ => rest,
            };
            self.end_line(line, &mut emit);
        }
        self.line.push(chunk, self.line_limit());
    }

    /// How many bytes of a line are worth buffering: enough for any field that still fits the
    /// event.
    fn line_limit(&self) -> usize {
        const LONGEST_BEGINNING: usize = "\u{feff}event: ".len();
        self.max_event_bytes.saturating_sub(self.block.kept).saturating_add(LONGEST_BEGINNING)
    }

    fn end_line(&mut self, end: &[u8], emit: &mut impl FnMut(SseItem)) {
        if self.line.is_empty() && end.len() <= self.line_limit() {
            return self.read_line(end, 0, emit);
        }
        self.line.push(end, self.line_limit());
        let PartialLine { kept, skipped } = mem::take(&mut self.line);
        self.read_line(&kept, skipped, emit);
    }

    /// Parses a line, of which `skipped` bytes were not buffered.
    fn read_line(&mut self, mut line: &[u8], skipped: u64, emit: &mut impl FnMut(SseItem)) {
        // Invalid UTF-8 cannot hide a line ending or a colon, so decoding each value separately
        // gives the same result as decoding the whole stream.
        if mem::take(&mut self.at_start) {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch(emit);
        }
        let colon = memchr::memchr(b':', line);
        let (name, value) = match colon {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"" => emit(SseItem::Comment(self.cut(value))),
            b"data" | b"event" | b"id" => self.set(name, value, skipped),
            b"retry" if skipped == 0 => self.retry(value, emit),
            _ => {} // "The field is ignored."
        }
    }

    fn set(&mut self, name: &[u8], value: &[u8], skipped: u64) {
        self.block.has_fields = true;
        let joint = usize::from(name == b"data" && self.block.has_data);
        self.block.has_data |= name == b"data";
        let fits = self.block.count(value.len() + joint, skipped, self.max_event_bytes);
        match name {
            b"data" if fits => self.block.push_data(value),
            b"event" if fits => self.block.name = String::from_utf8_lossy(value).into(),
            // An id may follow data that was too large.
            b"id" if skipped == 0 && value.len() <= self.max_event_bytes => self.set_id(value),
            _ => {}
        }
    }

    fn set_id(&mut self, value: &[u8]) {
        if memchr::memchr(0, value).is_none() {
            self.id = String::from_utf8_lossy(value).into();
            self.block.has_id = true;
        }
    }

    fn retry(&mut self, value: &[u8], emit: &mut impl FnMut(SseItem)) {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return;
        }
        let digit =
            |sum: u64, byte: &u8| sum.saturating_mul(10).saturating_add((byte - b'0').into());
        let millis = value.iter().fold(0, digit);
        self.block.retry = Some(millis);
        emit(SseItem::Retry(Duration::from_millis(millis)));
    }

    fn dispatch(&mut self, emit: &mut impl FnMut(SseItem)) {
        let block = mem::take(&mut self.block);
        self.last_event_id = Arc::clone(&self.id);
        match block {
            EventBlock { has_data: false, .. } => {}
            EventBlock { too_large: true, size, .. } => emit(SseItem::TooLarge(size)),
            block => emit(SseItem::Event {
                last_event_id: Arc::clone(&self.last_event_id),
                event: block.into_event(&self.id),
            }),
        }
    }

    fn cut(&self, comment: &[u8]) -> String {
        let kept = comment.len().min(self.max_event_bytes);
        String::from_utf8_lossy(&comment[..kept]).into_owned()
    }
}

/// The start of a line whose end has not arrived.
#[derive(Debug, Default)]
struct PartialLine {
    kept: Vec<u8>,
    skipped: u64,
}

impl PartialLine {
    fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Appends `bytes`, but buffers at most `limit` bytes of the line.
    fn push(&mut self, bytes: &[u8], limit: usize) {
        let kept = bytes.len().min(limit.saturating_sub(self.kept.len()));
        self.kept.extend_from_slice(&bytes[..kept]);
        self.skipped += (bytes.len() - kept) as u64;
    }
}

/// The fields since the last empty line.
#[derive(Debug, Default)]
struct EventBlock {
    /// The lines of data, each followed by an LF.
    data: Vec<u8>,
    has_data: bool,
    /// Whether the block has a `data`, `event` or `id` field.
    has_fields: bool,
    name: Box<str>,
    has_id: bool,
    retry: Option<u64>,
    /// Bytes of all values as received, buffered or not.
    size: u64,
    /// Bytes of the values that are buffered.
    kept: usize,
    too_large: bool,
}

impl EventBlock {
    /// Counts a value of `len` bytes, and `skipped` bytes more that were not buffered. Returns
    /// whether the event still fits in `max` bytes.
    fn count(&mut self, len: usize, skipped: u64, max: usize) -> bool {
        self.size += len as u64 + skipped;
        self.kept += len;
        self.too_large |= self.size > max as u64;
        if self.too_large {
            self.data = Vec::new();
            self.kept = 0;
        }
        !self.too_large
    }

    fn push_data(&mut self, value: &[u8]) {
        self.data.extend_from_slice(String::from_utf8_lossy(value).as_bytes());
        self.data.push(b'\n');
    }

    fn into_event(mut self, id: &str) -> Event {
        self.data.pop(); // the LF of the last line
        Event {
            name: (!self.name.is_empty()).then_some(self.name),
            data: Bytes::from(self.data),
            id: self.has_id.then(|| id.into()),
            retry: self.retry,
        }
    }
}
