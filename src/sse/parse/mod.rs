//! An event stream that comes in, read as a browser reads it.
//!
//! Owns the grammar of WHATWG HTML, section 9.2.6 "Interpreting an event stream": bytes in, events
//! out, wherever the bytes were cut on their way. Does not know where they come from, nor when to
//! connect again.

#[cfg(test)]
mod tests;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::event::Event;

/// An incremental parser of one event stream, from its first byte on.
///
/// The end of the stream needs no call: what is not closed by an empty line is discarded, as the
/// standard says.
///
/// ```
/// use ssegate::sse::parse::{Item, Parser};
///
/// let mut parser = Parser::new(1 << 20);
/// let mut events = Vec::new();
/// for chunk in ["id: 7\nda", "ta: hello\n\n"] {
///     parser.feed(chunk.as_bytes(), |item| match item {
///         Item::Event { event, .. } => events.push(event.data),
///         other => panic!("{other:?}"),
///     });
/// }
/// assert_eq!(events, ["hello"]);
/// assert_eq!(parser.last_event_id(), "7");
/// ```
#[derive(Debug)]
pub struct Parser {
    max_event_bytes: usize,
    /// Whether a byte order mark may still come: no line has ended yet.
    at_start: bool,
    /// Whether the last byte was a CR, so that an LF belongs to it.
    after_cr: bool,
    line: PartialLine,
    block: Block,
    /// The "last event ID buffer" of the standard: it outlives the block that set it.
    id: Arc<str>,
    /// The "last event ID string": what a request to resume would send.
    last_event_id: Arc<str>,
}

/// What a stream is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An event was dispatched.
    Event {
        /// The fields of its block. The data is valid UTF-8, its lines joined by LF; `id` and
        /// `retry` are given only when they stood in this very block.
        event: Event,
        /// `lastEventId` of the browser's event: the newest id so far, perhaps of an earlier block.
        last_event_id: Arc<str>,
    },
    /// The server's wish for how long to wait before connecting again. It counts from here on,
    /// whether or not the block it stands in has data.
    Retry(Duration),
    /// A comment, without its colon and one space after it, and cut where it is over the bound.
    Comment(String),
    /// An event over the bound was skipped; its length in bytes. Its id counts all the same:
    /// whoever resumed before it would only meet it again.
    TooLarge(u64),
}

impl Parser {
    /// A parser for a stream of a client that remembers no id. The values of an event's `data`,
    /// `event` and `id` fields may have `max_event_bytes` together; the parser holds about as much,
    /// or three times that where the bytes are no UTF-8.
    pub fn new(max_event_bytes: usize) -> Self {
        Self::resuming("", max_event_bytes)
    }

    /// A parser for a stream that was asked to resume after `last_event_id`.
    ///
    /// Until the stream names another id, events carry this one: browsers do so, although the
    /// standard begins each stream with an empty id.
    pub fn resuming(last_event_id: &str, max_event_bytes: usize) -> Self {
        Self {
            max_event_bytes,
            at_start: true,
            after_cr: false,
            line: PartialLine::default(),
            block: Block::default(),
            id: last_event_id.into(),
            last_event_id: last_event_id.into(),
        }
    }

    /// What `Last-Event-ID` should say on the next request; empty: nothing.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// Whether a field of the open block would become a part of an event that follows: `data`,
    /// `event` or `id`. Comments and `retry` do not.
    pub fn is_in_event(&self) -> bool {
        self.block.has_fields
    }

    /// Reads the next bytes of the stream and hands over each item that they complete.
    pub fn feed(&mut self, mut chunk: &[u8], mut emit: impl FnMut(Item)) {
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
        self.line.push(chunk, self.room());
    }

    /// How much of a line is worth keeping: enough for any field that the event still has room for.
    fn room(&self) -> usize {
        const LONGEST_BEGINNING: usize = "\u{feff}event: ".len();
        self.max_event_bytes.saturating_sub(self.block.kept).saturating_add(LONGEST_BEGINNING)
    }

    fn end_line(&mut self, end: &[u8], emit: &mut impl FnMut(Item)) {
        if self.line.is_empty() && end.len() <= self.room() {
            return self.read_line(end, 0, emit);
        }
        self.line.push(end, self.room());
        let PartialLine { kept, skipped } = mem::take(&mut self.line);
        self.read_line(&kept, skipped, emit);
    }

    /// Reads a line, of which `skipped` bytes were too much to keep.
    fn read_line(&mut self, mut line: &[u8], skipped: u64, emit: &mut impl FnMut(Item)) {
        // Invalid UTF-8 cannot hide a line end or a colon, so that decoding each value alone is
        // the same as decoding the whole stream.
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
            b"" => emit(Item::Comment(self.cut(value))),
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

    fn retry(&mut self, value: &[u8], emit: &mut impl FnMut(Item)) {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return;
        }
        let digit =
            |sum: u64, byte: &u8| sum.saturating_mul(10).saturating_add((byte - b'0').into());
        let millis = value.iter().fold(0, digit);
        self.block.retry = Some(millis);
        emit(Item::Retry(Duration::from_millis(millis)));
    }

    fn dispatch(&mut self, emit: &mut impl FnMut(Item)) {
        let block = mem::take(&mut self.block);
        self.last_event_id = Arc::clone(&self.id);
        match block {
            Block { has_data: false, .. } => {}
            Block { too_large: true, size, .. } => emit(Item::TooLarge(size)),
            block => emit(Item::Event {
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

/// The beginning of a line whose end has not been read.
#[derive(Debug, Default)]
struct PartialLine {
    kept: Vec<u8>,
    skipped: u64,
}

impl PartialLine {
    fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Adds `bytes`, but keeps no more than `room` of the line.
    fn push(&mut self, bytes: &[u8], room: usize) {
        let kept = bytes.len().min(room.saturating_sub(self.kept.len()));
        self.kept.extend_from_slice(&bytes[..kept]);
        self.skipped += (bytes.len() - kept) as u64;
    }
}

/// The fields since the last empty line.
#[derive(Debug, Default)]
struct Block {
    /// Each line with an LF at its end.
    data: Vec<u8>,
    has_data: bool,
    /// Whether any line of it was `data`, `event` or `id`.
    has_fields: bool,
    name: Box<str>,
    has_id: bool,
    retry: Option<u64>,
    /// Bytes of all values, kept or not, as they were received.
    size: u64,
    /// How many of them are in memory.
    kept: usize,
    too_large: bool,
}

impl Block {
    /// Counts a value, of which `skipped` bytes are not there, and says whether the event still
    /// fits in `max` bytes.
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
