//! The bytes of a log, in pieces that are freed whole.

use std::collections::VecDeque;

use bytes::Bytes;

/// The most bytes of a piece.
pub(super) const SEGMENT: usize = 16 << 10;

/// The newest bytes of a stream. A place in them is an offset in the stream.
#[derive(Debug, Default)]
pub(super) struct LogBytes {
    segments: VecDeque<Segment>,
    memory: usize,
    // The offsets of the first byte that is kept, and of the byte behind the last.
    start: u64,
    end: u64,
}

#[derive(Debug)]
struct Segment {
    start: u64,
    bytes: Vec<u8>,
}

impl LogBytes {
    /// The offset of the first byte that is kept.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The offset behind the last byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The number of bytes.
    pub(super) fn len(&self) -> u64 {
        self.end - self.start
    }

    /// The memory that they take, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    pub(super) fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let segment = match self.segments.back_mut() {
                Some(segment) if segment.bytes.len() < SEGMENT => segment,
                _ => {
                    self.segments.push_back(Segment { start: self.end, bytes: Vec::new() });
                    self.segments.back_mut().expect("just added")
                }
            };
            let (now, after) = bytes.split_at(bytes.len().min(SEGMENT - segment.bytes.len()));
            let before = segment.bytes.capacity();
            segment.make_room(now.len());
            segment.bytes.extend_from_slice(now);
            self.memory += segment.bytes.capacity() - before;
            self.end += now.len() as u64;
            bytes = after;
        }
    }

    /// Drops everything: the next byte has this offset.
    pub(super) fn begin_at(&mut self, start: u64) {
        *self = Self { start, end: start, ..Self::default() };
    }

    /// Drops the bytes before this offset.
    pub(super) fn drop_before(&mut self, start: u64) {
        self.start = self.start.max(start);
        while let Some(first) = self.segments.front()
            && first.start + first.bytes.len() as u64 <= self.start
        {
            self.memory -= first.bytes.capacity();
            self.segments.pop_front();
        }
    }

    /// A copy of at most `most` bytes from `offset` on, which must be kept.
    pub(super) fn copy(&self, offset: u64, most: usize) -> Bytes {
        let index = self.segments.partition_point(|segment| segment.start <= offset) - 1;
        let Segment { start, bytes } = &self.segments[index];
        let from = usize::try_from(offset - start).unwrap_or(usize::MAX);
        let rest = &bytes[from.min(bytes.len())..];
        Bytes::copy_from_slice(&rest[..rest.len().min(most)])
    }
}

impl Segment {
    /// Makes room for more bytes, up to one segment in all. A vector would take up to twice that.
    fn make_room(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let capacity = needed.max(2 * self.bytes.capacity()).clamp(256, SEGMENT);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LogBytes, SEGMENT};

    #[test]
    fn bytes_are_read_from_any_place_and_freed_by_segments() {
        let mut log = LogBytes::default();
        let text: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
        for piece in text.chunks(777) {
            log.append(piece);
        }
        let read = |log: &LogBytes, from: usize| {
            let mut seen = Vec::new();
            while from + seen.len() < text.len() {
                seen.extend_from_slice(&log.copy((from + seen.len()) as u64, 5000));
            }
            seen
        };
        for from in [0, 1, SEGMENT - 1, SEGMENT, 100_000] {
            assert!(read(&log, from) == text[from..], "{from}");
        }
        assert!((text.len()..text.len() + SEGMENT).contains(&log.memory()), "{}", log.memory());
        log.drop_before(150_000);
        assert!(read(&log, 150_000) == text[150_000..]);
        assert!((50_000..50_000 + 2 * SEGMENT).contains(&log.memory()), "{}", log.memory());
        log.drop_before(200_000);
        assert_eq!((log.len(), log.start()), (0, 200_000));
        log.append(b"more");
        assert_eq!(log.copy(200_000, 9), &b"more"[..]);
    }
}
