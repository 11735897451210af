//! Length-prefixed strings: split off the buffer, collected, or skipped.
//!
//! Decodes one string and its line ending; does not know the values around it.

use bytes::{Buf, Bytes, BytesMut};

use super::{ProtocolError, Value};

const LINE_END: &[u8; 2] = b"\r\n";

/// The type of a string.
#[derive(Clone, Copy, Debug)]
pub(super) enum StringKind {
    Bulk,
    Error,
    Verbatim,
}

impl StringKind {
    fn value(self, mut bytes: Bytes) -> Result<Value, ProtocolError> {
        match self {
            Self::Bulk => Ok(Value::Bulk(bytes)),
            Self::Error => Ok(Value::Error(bytes)),
            Self::Verbatim => match bytes[..] {
                [a, b, c, b':', ..] => {
                    bytes.advance(4);
                    Ok(Value::Verbatim { format: [a, b, c], text: bytes })
                }
                _ => Err(ProtocolError::InvalidScalar("verbatim string")),
            },
        }
    }
}

/// Splits a string of `len` bytes and its line ending off `buf`, without a copy; `None` if it has
/// not completely arrived.
pub(super) fn split_off(
    kind: StringKind,
    len: usize,
    buf: &mut BytesMut,
) -> Result<Option<Value>, ProtocolError> {
    // Nothing is added to `len`, which a peer chose: it could overflow.
    if buf.len().checked_sub(LINE_END.len()).is_none_or(|available| available < len) {
        return Ok(None);
    }
    let bytes = buf.split_to(len).freeze();
    take_line_end(buf)?;
    kind.value(bytes).map(Some)
}

fn take_line_end(buf: &mut BytesMut) -> Result<(), ProtocolError> {
    if !buf.starts_with(LINE_END) {
        return Err(ProtocolError::MissingLineEnd);
    }
    buf.advance(LINE_END.len());
    Ok(())
}

/// A string of which a part has arrived.
#[derive(Debug)]
pub(super) struct PartialString {
    kind: StringKind,
    /// Its complete length, without the line ending.
    len: u64,
    /// Bytes that have not arrived.
    missing: u64,
    /// The bytes that have arrived; `None` if the string is skipped.
    collected: Option<Vec<u8>>,
}

impl PartialString {
    /// The first allocation, in bytes: a peer that only announces a long string reserves no more.
    const FIRST_CAPACITY: u64 = 64 << 10;

    pub(super) fn collected(kind: StringKind, len: u64) -> Self {
        Self { kind, len, missing: len, collected: Some(Vec::new()) }
    }

    pub(super) fn skipped(kind: StringKind, len: u64) -> Self {
        Self { kind, len, missing: len, collected: None }
    }

    /// Memory allocated, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.collected.as_ref().map_or(0, Vec::capacity)
    }

    /// Takes the available bytes out of `buf`. Returns whether the string is complete, with its
    /// line ending.
    pub(super) fn resume(&mut self, buf: &mut BytesMut) -> Result<bool, ProtocolError> {
        let available = usize::try_from(self.missing).unwrap_or(usize::MAX).min(buf.len());
        self.collect(&buf[..available]);
        buf.advance(available);
        self.missing -= available as u64;
        if self.missing > 0 || buf.len() < LINE_END.len() {
            return Ok(false);
        }
        take_line_end(buf)?;
        Ok(true)
    }

    /// Grows by doubling, and finally to the exact length, so that a string that is kept has no
    /// slack.
    fn collect(&mut self, part: &[u8]) {
        let Some(collected) = &mut self.collected else { return };
        let needed = collected.len() + part.len();
        if needed > collected.capacity() {
            let capacity =
                (collected.capacity() as u64 * 2).max(Self::FIRST_CAPACITY).min(self.len);
            let capacity = usize::try_from(capacity).unwrap_or(needed).max(needed);
            collected.reserve_exact(capacity - collected.len());
        }
        collected.extend_from_slice(part);
    }

    pub(super) fn finish(self) -> Result<Value, ProtocolError> {
        match self.collected {
            Some(bytes) => self.kind.value(bytes.into()),
            None => Ok(Value::TooLarge(self.len)),
        }
    }
}
