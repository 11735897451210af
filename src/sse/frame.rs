//! The bytes of a frame, encoded once and shared by every stream that it goes to.
//!
//! HTTP/1.1 sends a stream in chunks (RFC 9112, section 7.1), HTTP/2 as it is. So the text stands
//! in its buffer with the head and the end of a chunk around it, and both forms are views of it.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, BufMut, Bytes, BytesMut};

/// A frame: whole lines of an event stream. That of an event ends with the empty line.
// One word, as it stands in the queue of every stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Arc<Encoded>);

#[derive(Debug, PartialEq, Eq)]
struct Encoded {
    chunk: Bytes,
    // Bytes of `chunk` before the text.
    head: u8,
}

/// The form in which a transport takes frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// With the chunk of HTTP/1.1 around it.
    Chunk,
    /// The text alone.
    Text,
}

/// Sixteen digits would hold any length; eight hold 4 GiB.
const LENGTH_DIGITS: usize = 8;
const CRLF: &[u8; 2] = b"\r\n";
/// How the line of an `id` field begins, as [`encode`](super::encode) writes it.
const ID: &[u8; 4] = b"id: ";

impl Frame {
    /// A frame of any text that is not empty: whether it is a block is the caller's business.
    pub fn of_text(text: &[u8]) -> Self {
        let mut draft = Draft::new(text.len());
        draft.text().put_slice(text);
        draft.finish()
    }

    /// Bytes of the text.
    // Not `is_empty`: a frame never is.
    #[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
    pub fn len(&self) -> usize {
        self.text_range().len()
    }

    /// The text itself.
    pub fn text(&self) -> &[u8] {
        &self.0.chunk[self.text_range()]
    }

    fn text_range(&self) -> Range<usize> {
        usize::from(self.0.head)..self.0.chunk.len() - CRLF.len()
    }

    /// The value of its `id` field; `None` where the last line of an event is another.
    pub fn id(&self) -> Option<&str> {
        std::str::from_utf8(self.last_line()?.strip_prefix(ID)?).ok()
    }

    /// The lines of an event before its `id` field, or all of them; without the empty line.
    pub(super) fn text_before_id(&self) -> &[u8] {
        let text = self.text();
        let lines = text.strip_suffix(b"\n").unwrap_or(text);
        match self.last_line() {
            Some(line) if line.starts_with(ID) => &lines[..lines.len() - line.len() - 1],
            _ => lines,
        }
    }

    /// The line of an event before the empty one. A payload cannot forge it: each line of data has
    /// the name of its field before it.
    fn last_line(&self) -> Option<&[u8]> {
        let lines = self.text().strip_suffix(b"\n\n")?;
        let start = memchr::memrchr(b'\n', lines).map_or(0, |end| end + 1);
        Some(&lines[start..])
    }

    /// The bytes in this form; nothing is copied.
    pub fn bytes(&self, form: Form) -> Bytes {
        match form {
            Form::Chunk => self.0.chunk.clone(),
            Form::Text => self.0.chunk.slice(self.text_range()),
        }
    }

    /// Puts the bytes in this form behind others.
    pub fn put(&self, form: Form, out: &mut BytesMut) {
        match form {
            Form::Chunk => out.put_slice(&self.0.chunk),
            Form::Text => out.put_slice(self.text()),
        }
    }
}

/// A frame that is being written.
#[derive(Debug)]
pub(super) struct Draft(BytesMut);

impl Draft {
    /// Room for a chunk's head, and for a text of about `text` bytes.
    pub(super) fn new(text: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(LENGTH_DIGITS + text + 2 * CRLF.len());
        buffer.put_bytes(0, LENGTH_DIGITS);
        buffer.put_slice(CRLF);
        Self(buffer)
    }

    /// Where the text is written.
    pub(super) fn text(&mut self) -> &mut BytesMut {
        &mut self.0
    }

    /// Puts the chunk around the text.
    pub(super) fn finish(self) -> Frame {
        let mut buffer = self.0;
        let length = buffer.len() - LENGTH_DIGITS - CRLF.len();
        debug_assert!(length > 0, "a chunk without text would end the stream");
        let unused = put_length(&mut buffer[..LENGTH_DIGITS], length);
        buffer.put_slice(CRLF);
        buffer.advance(unused);
        let head = u8::try_from(LENGTH_DIGITS + CRLF.len() - unused).expect("ten at most");
        Frame(Arc::new(Encoded { chunk: buffer.freeze(), head }))
    }
}

/// Writes `length` in hexadecimal at the end of `field`; answers how much of the field is left.
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
