//! The bytes of a frame, encoded once and shared by every stream that sends it.
//!
//! HTTP/1.1 sends a stream in chunked transfer coding (RFC 9112 §7.1), HTTP/2 as plain text. The
//! buffer holds the text with a chunk header before it and a chunk end after it; both forms are
//! slices of this buffer.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, BufMut, Bytes, BytesMut};

/// A frame: complete lines of an event stream. The frame of an event ends with the empty line.
// One word, because every subscriber queue stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Arc<Encoded>);

#[derive(Debug, PartialEq, Eq)]
struct Encoded {
    chunk: Bytes,
    // Length of the chunk header before the text, in bytes.
    head: u8,
}

/// The form in which a transport sends a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As a chunk of HTTP/1.1.
    Chunk,
    /// The text only.
    Text,
}

/// Hexadecimal digits of a chunk size: 8 allow 4 GiB (16 would allow any length).
const LENGTH_DIGITS: usize = 8;
const CRLF: &[u8; 2] = b"\r\n";
/// The start of an `id` line, as [`encode`](super::encode) writes it.
const ID: &[u8; 4] = b"id: ";

impl Frame {
    /// Creates a frame of any text that is not empty. Whether it is a complete block is up to the
    /// caller.
    pub fn of_text(text: &[u8]) -> Self {
        let mut draft = FrameDraft::new(text.len());
        draft.text().put_slice(text);
        draft.finish()
    }

    /// Length of the text, in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
    pub fn len(&self) -> usize {
        self.text_range().len()
    }

    /// The text.
    pub fn text(&self) -> &[u8] {
        &self.0.chunk[self.text_range()]
    }

    fn text_range(&self) -> Range<usize> {
        usize::from(self.0.head)..self.0.chunk.len() - CRLF.len()
    }

    /// The value of the `id` field; `None` if the last line of the event is another field.
    pub fn id(&self) -> Option<&str> {
        std::str::from_utf8(self.last_line()?.strip_prefix(ID)?).ok()
    }

    /// The lines of an event before its `id` field, or all lines if it has none; without the empty
    /// line.
    pub(super) fn text_before_id(&self) -> &[u8] {
        let text = self.text();
        let lines = text.strip_suffix(b"\n").unwrap_or(text);
        match self.last_line() {
            Some(line) if line.starts_with(ID) => &lines[..lines.len() - line.len() - 1],
            _ => lines,
        }
    }

    /// The line of an event before the empty line. A payload cannot forge it: every line of data
    /// begins with its field name.
    fn last_line(&self) -> Option<&[u8]> {
        let lines = self.text().strip_suffix(b"\n\n")?;
        let start = memchr::memrchr(b'\n', lines).map_or(0, |end| end + 1);
        Some(&lines[start..])
    }

    /// Returns the bytes in this form, without a copy.
    pub fn bytes(&self, form: Form) -> Bytes {
        match form {
            Form::Chunk => self.0.chunk.clone(),
            Form::Text => self.0.chunk.slice(self.text_range()),
        }
    }

    /// Appends the bytes in this form to `out`.
    pub fn put(&self, form: Form, out: &mut BytesMut) {
        match form {
            Form::Chunk => out.put_slice(&self.0.chunk),
            Form::Text => out.put_slice(self.text()),
        }
    }
}

/// A frame under construction.
#[derive(Debug)]
pub(super) struct FrameDraft(BytesMut);

impl FrameDraft {
    /// Reserves space for a chunk header and about `text` bytes of text.
    pub(super) fn new(text: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(LENGTH_DIGITS + text + 2 * CRLF.len());
        buffer.put_bytes(0, LENGTH_DIGITS);
        buffer.put_slice(CRLF);
        Self(buffer)
    }

    /// The buffer to append text to.
    pub(super) fn text(&mut self) -> &mut BytesMut {
        &mut self.0
    }

    /// Adds the chunk header and the chunk end.
    pub(super) fn finish(self) -> Frame {
        let mut buffer = self.0;
        let length = buffer.len() - LENGTH_DIGITS - CRLF.len();
        debug_assert!(length > 0, "an empty chunk would end the response body");
        let unused = put_length(&mut buffer[..LENGTH_DIGITS], length);
        buffer.put_slice(CRLF);
        buffer.advance(unused);
        let head = u8::try_from(LENGTH_DIGITS + CRLF.len() - unused).expect("ten at most");
        Frame(Arc::new(Encoded { chunk: buffer.freeze(), head }))
    }
}

/// Writes `length` in hexadecimal at the end of `field`; returns the number of unused bytes.
fn put_length(field: &mut [u8], length: usize) -> usize {
    let (mut left, mut rest) = (field.len(), length);
    while rest > 0 {
        left -= 1;
        field[left] = b"0123456789abcdef"[rest & 0xf];
        rest >>= 4;
    }
    left
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{Form, Frame};

    #[test]
    fn a_frame_is_a_text_and_a_chunk() {
        for (text, chunk) in [
            ("x".to_owned(), "1\r\nx\r\n".to_owned()),
            ("y".repeat(15), format!("f\r\n{}\r\n", "y".repeat(15))),
            ("z".repeat(4096), format!("1000\r\n{}\r\n", "z".repeat(4096))),
        ] {
            let frame = Frame::of_text(text.as_bytes());
            assert_eq!(frame.len(), text.len());
            assert_eq!(frame.bytes(Form::Text), text);
            assert_eq!(frame.bytes(Form::Chunk), chunk);
            let mut out = BytesMut::new();
            frame.put(Form::Text, &mut out);
            frame.put(Form::Chunk, &mut out);
            assert_eq!(out, format!("{text}{chunk}"));
        }
    }
}
