//! Decodes the commands of clients: arrays of bulk strings, or lines.

use bytes::{Buf, BytesMut};
use memchr::memchr;

use super::{Limits, ProtocolError, Value, ValueDecoder, inline};

/// One command, with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The name, then the arguments; each is [`Value::Bulk`] or [`Value::TooLarge`].
    pub words: Vec<Value>,
    /// Whether it was sent as a line (an inline command), as over telnet.
    pub is_inline: bool,
}

/// Decodes the commands of one client.
///
/// Not to be used after an error.
#[derive(Debug)]
pub struct RequestDecoder {
    values: ValueDecoder,
    max_line_bytes: usize,
    /// Bytes of an incomplete inline command that were searched for its end.
    scanned: usize,
}

impl RequestDecoder {
    /// Creates a decoder with these limits, except `max_depth`: commands have one level.
    pub fn new(limits: Limits) -> Self {
        Self {
            values: ValueDecoder::new(Limits { max_depth: 1, ..limits }),
            max_line_bytes: limits.max_line_bytes,
            scanned: 0,
        }
    }

    /// Memory held for an incomplete command, in bytes, not counting the caller's buffer.
    pub fn held_bytes(&self) -> usize {
        self.values.held_bytes()
    }

    /// Removes the next command from `buf` and returns it; `None` if it has not completely arrived.
    ///
    /// Skips empty lines and empty arrays, as Redis does.
    ///
    /// # Errors
    /// The bytes are not a valid command, or exceed a limit.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Request>, ProtocolError> {
        loop {
            let is_inline =
                self.values.is_between_values() && buf.first().is_some_and(|first| *first != b'*');
            let words = if is_inline { self.line(buf)? } else { self.array(buf)? };
            match words {
                None => return Ok(None),
                Some(words) if words.is_empty() => {}
                Some(words) => return Ok(Some(Request { words, is_inline })),
            }
        }
    }

    fn array(&mut self, buf: &mut BytesMut) -> Result<Option<Vec<Value>>, ProtocolError> {
        match self.values.decode(buf)? {
            Some(Value::Array(words)) => check_words(words).map(Some),
            // `*-1`
            Some(_) => Ok(Some(Vec::new())),
            None => Ok(None),
        }
    }

    fn line(&mut self, buf: &mut BytesMut) -> Result<Option<Vec<Value>>, ProtocolError> {
        let Some(found) = memchr(b'\n', &buf[self.scanned..]) else {
            if buf.len() > self.max_line_bytes {
                return Err(ProtocolError::LineTooLong);
            }
            self.scanned = buf.len();
            return Ok(None);
        };
        let end = self.scanned + found;
        self.scanned = 0;
        if end > self.max_line_bytes {
            return Err(ProtocolError::LineTooLong);
        }
        let words = inline::words(&buf[..end])?;
        buf.advance(end + 1);
        Ok(Some(words))
    }
}

fn check_words(words: Vec<Value>) -> Result<Vec<Value>, ProtocolError> {
    let is_word = |word: &Value| matches!(word, Value::Bulk(_) | Value::TooLarge(_));
    match words.iter().find(|word| !is_word(word)) {
        None => Ok(words),
        Some(_) => Err(ProtocolError::ExpectedBulk),
    }
}
